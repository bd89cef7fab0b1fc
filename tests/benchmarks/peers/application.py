"""The same work in one application: `python application.py FRAMEWORK WHO URL REQUESTS EVENTS`.

A known visitor's requests to Starlette, Flask or Django, in each of which one other cookie is new. Everybody
but us knows the visitor by the framework's session, which is read; each request tracks so many events of
eight properties, and all of them are delivered before the clock stops. Prints the processor time of all
threads for a request, in microseconds; `alone` is the application by itself. `sentry` tracks no events.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent))

import middlewares
from middlewares import SECRET_KEY, SESSION, changing, cookies
from sdks import SDKS, Sdk, properties

if TYPE_CHECKING:
    from collections.abc import Callable

WARM, SETTLE_S, FLUSH_S = 100, 1.5, 60.0
PEERS = ("mixpanel_buffered", "posthog", "segment")
NOBODY = Sdk(lambda _number: None, lambda: None)

_numbers = count()


def ours(url: str) -> Any:
    """Return a tracker with a journal, which delivers."""
    from mixpanel_visitor import Tracker

    return Tracker(
        token=middlewares.TOKEN,
        secret_key=middlewares.SECRET_KEY,
        api_host=url,
        spool=tempfile.mkdtemp(prefix="peers-spool-"),
    )


def known() -> str:
    """Return the Cookie header of a visitor who has been here today."""
    return cookies(issued_at_s=time.time())


def sentry() -> None:
    """Begin Sentry as its documentation says, for errors only; it finds the framework itself."""
    import sentry_sdk

    sentry_sdk.init(dsn="http://key@127.0.0.1:9/1", transport=lambda _envelope: None)


def starlette(who: str, tracker: Any, sdk: Sdk, events: int) -> Callable[[], float]:
    """Return a batch of requests to Starlette."""
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.middleware.sessions import SessionMiddleware
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    from mixpanel_visitor.starlette import VisitorMiddleware

    async def hello(request: Any) -> PlainTextResponse:
        if who == "ours":
            for _ in range(events):
                request.state.visitor.track("Seen", properties(next(_numbers)))
        elif who != "alone":
            request.session.get("user")
            for _ in range(events):
                sdk.capture(next(_numbers))
        return PlainTextResponse("hello")

    middleware = [] if who in ("alone", "ours") else [Middleware(SessionMiddleware, secret_key=SECRET_KEY)]
    if who == "ours":
        middleware = [Middleware(VisitorMiddleware, tracker=tracker)]
    elif who == "posthog":
        from posthog.integrations.asgi import PosthogASGIMiddleware

        middleware.append(Middleware(PosthogASGIMiddleware))
    app = Starlette(routes=[Route("/", hello)], middleware=middleware)
    session = middlewares.starlette_session(SESSION)
    return middlewares.asgi(app, changing(known() if who == "ours" else cookies(session)))


def flask(who: str, tracker: Any, sdk: Sdk, events: int) -> Callable[[], float]:
    """Return a batch of requests to Flask."""
    import flask

    from mixpanel_visitor.flask import MixpanelVisitor

    app = flask.Flask("hello")
    app.secret_key = SECRET_KEY
    if who == "ours":
        MixpanelVisitor(app, tracker=tracker)

    @app.get("/")
    def hello() -> str:
        if who == "ours":
            for _ in range(events):
                flask.g.visitor.track("Seen", properties(next(_numbers)))
        elif who != "alone":
            flask.session.get("user")
            for _ in range(events):
                sdk.capture(next(_numbers))
        return "hello"

    session = middlewares.flask_session(SESSION)
    return middlewares.wsgi(app.wsgi_app, changing(known() if who == "ours" else cookies(session)))


def django(who: str, tracker: Any, sdk: Sdk, events: int) -> Callable[[], float]:
    """Return a batch of requests to Django."""
    middlewares.set_up_django()
    from django.http import HttpResponse

    from mixpanel_visitor.django import site

    def hello(request: Any) -> HttpResponse:
        if who == "ours":
            for _ in range(events):
                request.visitor.track("Seen", properties(next(_numbers)))
        elif who != "alone":
            request.session.get("user")
            for _ in range(events):
                sdk.capture(next(_numbers))
        return HttpResponse("hello", content_type="text/plain")

    middlewares.settings.ROOT_URLCONF.urlpatterns[:] = [middlewares.path("", hello)]
    names = [] if who in ("alone", "ours") else [middlewares.DJANGO_SESSIONS]
    if who == "ours":
        site._site = site.Site(tracker)
        names = [middlewares.DJANGO_OURS]
    elif who == "posthog":
        names.append("posthog.integrations.django.PosthogContextMiddleware")
    session = middlewares.django_session(SESSION)
    app = middlewares.django_app(*names)
    return middlewares.wsgi(app, changing(known() if who == "ours" else cookies(session)))


def main() -> None:
    """Do what is asked for."""
    framework, who, url, requests, events = sys.argv[1:]
    logging.disable(logging.CRITICAL)
    tracker = ours(url) if who == "ours" else None
    if who == "sentry":
        sentry()
    sdk = SDKS[who](url) if who in PEERS else NOBODY
    make = {"starlette": starlette, "flask": flask, "django": django}[framework]
    batch = make(who, tracker, sdk, int(events))
    flush = sdk.flush if tracker is None else lambda: tracker.flush(FLUSH_S)
    middlewares.REQUESTS = WARM
    batch()
    flush()
    time.sleep(SETTLE_S if int(events) else 0.0)
    middlewares.REQUESTS = int(requests)
    before_s, cpu_s = time.perf_counter(), time.process_time()
    batch()
    flush()
    took_s, cpu_s = time.perf_counter() - before_s, time.process_time() - cpu_s
    figures = {"cpu_us": cpu_s / int(requests) * 1e6, "per_s": int(requests) * int(events) / took_s}
    print(json.dumps({**figures, "tracked": next(_numbers)}), flush=True)


if __name__ == "__main__":
    asyncio.set_event_loop(asyncio.new_event_loop())
    main()
