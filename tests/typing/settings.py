"""Settings as type checkers see them, in each door: never run, only checked by mypy and pyright.

A `type: ignore` that nothing needs is an error of both checkers here: each line marked so is a mistake that
users are told of before they start anything.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

import datetime as dt
import ipaddress
import os
from pathlib import Path
from typing import Any, assert_type

from flask import Flask
from starlette.applications import Starlette
from starlette.middleware import Middleware

from mixpanel_visitor import (
    OfflineVisitor,
    RequestFacts,
    ServiceAccount,
    Settings,
    SettingsKeywords,
    SpoolConsumer,
    Stats,
    Tracker,
)
from mixpanel_visitor.asgi import VisitorMiddleware as ASGIMiddleware
from mixpanel_visitor.flask import MixpanelVisitor
from mixpanel_visitor.starlette import VisitorMiddleware
from mixpanel_visitor.wsgi import VisitorMiddleware as WSGIMiddleware


def consent(facts: RequestFacts) -> str:
    """Hooks can name the type of what they are given."""
    return facts.cookie("consent") or "unknown"


def short_forms() -> None:
    """Whatever the settings take is right for type checkers."""
    Tracker(token=os.environ.get("TOKEN"), secret_key=["old", "new"], region="eu", spool=Path("spool"))
    Tracker(secret_key=b"bytes", browser_sdk="spid", spid_client_id="c", trusted_proxies="10.0.0.0/8, ::1")
    Tracker(browser_sdk=("mixpanel", "spid"), trusted_proxies=[ipaddress.ip_network("10.0.0.0/8")])
    Tracker(page_views=True, scrub=None, cookie_max_age_s=dt.timedelta(days=30), consent=consent)
    Tracker(page_views=["/shop/*"], bot_detector="crawlerdetect", extra_properties={"a": 1})
    Tracker(service_account=("robot", "hush", 4711), extra_properties=lambda: {"a": 1})
    Tracker(service_account=ServiceAccount(username="robot", secret="hush", project_id="4711"))
    Tracker(before_send=lambda event: event, request_filter=lambda facts: False)


def mistakes_for_a_tracker() -> None:
    """Misspelt names, values that are none, wrong types."""
    Tracker(tokne="t")  # type: ignore[call-arg]
    Tracker(id_mode="simple")  # type: ignore[arg-type]
    Tracker(deliver="no")  # type: ignore[arg-type]
    Tracker.from_env(regoin="eu")  # type: ignore[call-arg]
    Tracker.from_mapping({}, bots="dorp")  # type: ignore[arg-type]
    Settings.from_env(tokne="t")  # type: ignore[call-arg]
    Settings.from_mapping({}, durability="never")  # type: ignore[arg-type]


def mistakes_for_asgi(starlette: Starlette) -> None:
    """Wrapped around an application."""
    ASGIMiddleware(app=starlette, token="t")
    ASGIMiddleware(starlette, regoin="eu")  # type: ignore[call-arg]
    ASGIMiddleware(starlette, region="europe")  # type: ignore[arg-type]


def mistakes_for_starlette(starlette: Starlette) -> None:
    """Starlette's own ways, which are FastAPI's too, carry the keywords' types."""
    starlette.add_middleware(VisitorMiddleware, regoin="eu")  # type: ignore[call-arg]
    starlette.add_middleware(VisitorMiddleware, region="europe")  # type: ignore[arg-type]
    starlette.add_middleware(VisitorMiddleware, tokne="t")  # type: ignore[call-arg]
    Middleware(VisitorMiddleware, tokne="t")  # type: ignore[call-arg]
    Middleware(VisitorMiddleware, bots="dorp")  # type: ignore[arg-type]


def mistakes_for_wsgi_and_flask(flask: Flask) -> None:
    """The middleware and the extension."""
    WSGIMiddleware(app=flask, token="t")
    WSGIMiddleware(flask, tokne="t")  # type: ignore[call-arg]
    WSGIMiddleware(flask, enabled="no")  # type: ignore[arg-type]
    MixpanelVisitor(flask, regoin="eu")  # type: ignore[call-arg]
    MixpanelVisitor(client_ip="of")  # type: ignore[arg-type]


def forwarded(**settings: Any) -> tuple[Tracker, Tracker]:
    """Settings that are passed on, with their types or without."""
    given: SettingsKeywords = {"token": "t", "secret_key": "a-key-of-some-length"}
    return Tracker(**given), Tracker(**settings)


def what_a_tracker_returns(tracker: Tracker) -> None:
    """Every class has a name that can be imported; counters have types."""
    assert_type(tracker.visitor("ann"), OfflineVisitor)
    assert_type(tracker.consumer(), SpoolConsumer)
    assert_type(tracker.settings, Settings)
    stats = tracker.stats()
    assert_type(stats, Stats)
    assert_type(stats["accepted"], int)
    assert_type(stats["refused"], dict[str, int])
    assert_type(stats["spool"]["oldest_age_s"], float)
    assert_type(stats["sender"]["http"], dict[int, int])
    stats["acepted"]  # type: ignore[typeddict-item]
