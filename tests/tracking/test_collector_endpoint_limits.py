"""The collector: who sends too much or too slowly, and floods."""

import asyncio
import threading

import pytest
from support.asgi_driver import Conversation, http_scope, run
from support.collecting import PAGE, event, form
from support.collector_sites import Site

from mixpanel_visitor.asgi import MAX_HELD_BYTES
from mixpanel_visitor.asgi import VisitorMiddleware as AsgiMiddleware
from mixpanel_visitor.core.collector.admission import MAX_BODY_BYTES
from mixpanel_visitor.process import timed_read
from mixpanel_visitor.tracking import collector_endpoint
from mixpanel_visitor.wsgi import VisitorMiddleware


def test_one_visitor_who_sends_too_much(make):
    """429: the SDK keeps its batch, and waits."""
    now_s = [0.0]
    site = make(monotonic=lambda: now_s[0])
    statuses = [site.send([event()]).status for _ in range(160)]
    assert statuses == [200] * 150 + [429] * 10
    assert site.notes["collector_rate"] == 10
    assert len(site.spool.events) == 150
    now_s[0] = 1.0
    assert [site.send([event()]).status for _ in range(6)] == [200] * 5 + [429]


def test_one_address_that_sends_too_much(make):
    """Without a cookie it is an address and nothing else; a large body counts as many small ones."""
    site = make(signed=False, monotonic=lambda: 0.0)
    statuses = [site.send(b"x" * 1_000_000).status for _ in range(18)]
    assert statuses == [400] * 16 + [429] * 2


# --- slow bodies ----------------------------------------------------------------------------------------


class SlowBody:
    """A body that does not end until the test does."""

    def __init__(self):
        self.ended = threading.Event()

    def read(self, _size=-1):
        self.ended.wait(60)
        return b""


def test_a_slow_body_holds_no_wsgi_worker(monkeypatch):
    """503 at the deadline; and with many of them at once."""
    monkeypatch.setattr(collector_endpoint.CollectorEndpoint, "body_deadline_s", 0.05)
    site = Site("wsgi")
    app = VisitorMiddleware(lambda _environ, _start: [], tracker=site.tracker)
    slow = SlowBody()
    statuses = []
    try:
        for _ in range(timed_read.MAX_READERS + 4):
            environ = {
                "REQUEST_METHOD": "POST", "PATH_INFO": "/m/track/", "wsgi.input": slow,
                "HTTP_HOST": "localhost", "CONTENT_LENGTH": "1000", "wsgi.url_scheme": "http",
                "HTTP_SEC_FETCH_SITE": "same-origin",
            }  # fmt: skip
            app(environ, lambda status, _headers: statuses.append(status))
    finally:
        slow.ended.set()
    assert statuses == ["503 Service Unavailable"] * (timed_read.MAX_READERS + 4)
    assert site.notes["collector_slow_body"] == len(statuses)


# --- floods ---------------------------------------------------------------------------------------------


def asked(app, body=b"", headers=None, **more):
    """Return a conversation with a page's request."""
    scope = http_scope("POST", "/m/track/", {"host": "testserver", **PAGE, **(headers or {})}, **more)
    conversation = Conversation(scope, [{"type": "http.request", "body": body, "more_body": False}])
    return conversation, conversation.with_app(app)


def test_bodies_that_wait_for_the_spool_take_bounded_memory():
    """While one event is stored, more bodies come than may wait: the SDK keeps those."""
    may_go_on = threading.Event()
    site = Site("asgi", before_send=lambda given: given if may_go_on.wait(60) else None)
    app = AsgiMiddleware(lambda *_: None, tracker=site.tracker)
    body = b"!" * 1_000_000
    short = (asked(app, form([event()])), asked(app, form([event("Short")])))
    long = [asked(app, body) for _ in range(MAX_HELD_BYTES // len(body) + 2)]

    async def flood():
        first = asyncio.create_task(short[0][1])
        tasks = [asyncio.create_task(run) for _, run in long]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        last = asyncio.create_task(short[1][1])
        may_go_on.set()
        await asyncio.gather(first, last, *tasks)

    asyncio.run(flood())
    statuses = [conversation.response.status for conversation, _ in long]
    assert statuses == [400] * (len(long) - 2) + [503] * 2
    assert [conversation.response.status for conversation, _ in short] == [200, 200]


@pytest.mark.parametrize(
    ("length_bytes", "closes"), [(MAX_BODY_BYTES + 1, False), (45 * 2**20, True), ("much", True)]
)
def test_what_is_far_too_large_is_not_read(length_bytes, closes):
    """The connection ends with the answer; not where a browser could be too large: it has to see the 413."""
    conversation, run_ = asked(
        AsgiMiddleware(lambda *_: None, tracker=Site("asgi").tracker),
        headers={"content-length": str(length_bytes)},
    )
    run(run_)
    assert conversation.response.values("connection") == ["close"] * closes


@pytest.mark.parametrize(("version", "closes"), [("1.1", True), ("2", False)])
def test_a_connection_that_sends_too_much_ends(version, closes):
    """With what it has sent already, which the server need not look at."""
    tracker = Site("asgi", monotonic=lambda: 0.0).tracker
    app = AsgiMiddleware(lambda *_: None, tracker=tracker)
    for expected in [400] * 16 + [429]:
        conversation, run_ = asked(app, b"!", {"content-length": "1000000"}, http_version=version)
        run(run_)
        ends = conversation.response.values("connection") == ["close"]
        assert (conversation.response.status, ends) == (expected, closes and expected == 429)
