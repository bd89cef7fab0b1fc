"""What tests of job queues share: requests that send jobs, and a site whose people send them to a worker."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from mixpanel_visitor.emulator import LocalMixpanel
from mixpanel_visitor.tracking import context
from mixpanel_visitor.tracking.tracker import engine_of

from . import redis_servers
from .facts import facts
from .inbox import Inbox
from .mutants import python_path
from .trackers import SECRET_KEY, TOKEN, known
from .waiting import PATIENCE_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    import pytest

    from mixpanel_visitor import Tracker, Visitor

    from .redis_servers import RedisServer
    from .spools import RecordingSpool

TESTS = Path(__file__).parent.parent
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
DEVICES = {"ann": "6f1c2a3b-4d5e-4f60-8a7b-9c0d1e2f3a4b", "bob": "7a1c2a3b-4d5e-4f60-8a7b-9c0d1e2f3a4c"}
PEOPLE = {
    "ann": {},
    "bob": {},
    "no consent": {"x-consent": "no"},
    "dnt": {"dnt": "1"},
    "gpc": {"sec-gpc": "1"},
    "bot": {"user-agent": GOOGLEBOT},
    "opts out later": {},
}
"""Who orders at a site, and the headers of their browsers; the last one says no before the job runs."""


@contextlib.contextmanager
def request_of(tracker: Tracker, user: str = "ann", **headers: str) -> Iterator[Visitor]:
    """Be in a request of somebody whom the site knows."""
    given = {**known(DEVICES[user], user_id=user), "user-agent": FIREFOX, **headers}
    request = facts(given, path="/prices", query="utm_source=mail")
    _, visitor = engine_of(tracker).begin(request, in_background=False)
    token = context.enter(visitor)
    try:
        yield visitor
    finally:
        context.leave(token)


def tracked(spool: RecordingSpool) -> list[tuple[str, str | None]]:
    """Return the events in a spool, each with its user."""
    events = [orjson.loads(record.body) for record in spool.records if record.endpoint == "import"]
    return [(event["event"], event["properties"].get("$user_id")) for event in events]


def consent(request: Any) -> str:
    """Return what a browser's header says; a site gives this to its tracker."""
    return "denied" if request.header("x-consent") == "no" else "granted"


def order_all(new_client: Callable[[], Any]) -> None:
    """Have everybody order at a site, by a client of their own; one of them opts out afterwards."""
    for name, headers in PEOPLE.items():
        client = new_client()
        browser = {"user-agent": FIREFOX, **headers}
        answer = client.post(f"/order/{name}?utm_source=mail", headers=browser)
        assert answer.status_code == 200
        if name == "opts out later":
            client.post("/opt-out", headers=browser)


def assert_as_ordered(inbox: Inbox) -> None:
    """Check that each event of a job is like its request's, and that there are those of two people only."""
    # What a worker has not delivered when it ends, the site delivers.
    wait_until(lambda: sum(event["event"] == "Paid" for event in inbox.events()) >= 2, PATIENCE_S)
    events = inbox.events()
    ordered, paid = (
        {event["properties"]["name"]: event["properties"] for event in events if event["event"] == name}
        for name in ("Ordered", "Paid")
    )
    assert sorted(paid) == ["ann", "bob"]
    assert sum(event["event"] == "Paid" for event in events) == 2
    for name, properties in paid.items():
        own = {"time": 0, "$insert_id": ""}
        assert {**properties, **own} == {**ordered[name], **own}
        assert (properties["$user_id"], properties["$browser"]) == (name, "Firefox")
        assert (properties["plan"], properties["company"]) == ("pro", ["Acme"])
        assert properties["utm_source"] == "mail"


@contextlib.contextmanager
def imported_shop(
    name: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[ModuleType, Inbox, RedisServer]]:
    """Import a site with its jobs anew; its workers share its spool, a Redis and a local Mixpanel."""
    with LocalMixpanel() as mixpanel, redis_servers.running(directory / "redis") as redis:
        environment = {
            "MIXPANEL_TOKEN": TOKEN,
            "MIXPANEL_API_HOST": mixpanel.url,
            "MIXPANEL_VISITOR_SECRET_KEY": SECRET_KEY,
            "MIXPANEL_VISITOR_SPOOL": str(directory / "spool"),
            "JOBS_REDIS": redis.url,
        }
        for variable, value in environment.items():
            monkeypatch.setenv(variable, value)
        monkeypatch.delitem(sys.modules, name, raising=False)
        shop = importlib.import_module(name)
        yield shop, Inbox(mixpanel.url), redis
        shop.tracker.close()


@contextlib.contextmanager
def worker(directory: Path, *command: str) -> Iterator[None]:
    """Run `python -m COMMAND` until the end of the block, and end it as an operator would."""
    log_path = directory / "worker.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env={**os.environ, "PYTHONPATH": python_path(TESTS)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0, log_path.read_text()
    except BaseException:
        sys.stderr.write(log_path.read_text())
        raise
    finally:
        process.kill()
        process.wait()
