"""`durability="delivered"`: a response waits until Mixpanel has its events."""

import asyncio
import threading

import pytest
from support.asgi_driver import Conversation, call_asgi, http_scope, run
from support.inbox import Inbox
from support.waiting import PATIENCE_S
from support.wsgi_driver import environ_of

from mixpanel_visitor import asgi, wsgi
from mixpanel_visitor.delivery.sending.http_client import Response
from mixpanel_visitor.emulator import LocalMixpanel
from mixpanel_visitor.tracking.dependencies import Dependencies
from mixpanel_visitor.tracking.tracker import Tracker

START = {"type": "http.response.start", "status": 200, "headers": []}
PART = {"type": "http.response.body", "body": b"part", "more_body": True}
END = {"type": "http.response.body", "body": b"end", "more_body": False}
SETTINGS = {"token": "t", "secret_key": "a-key-of-some-length", "spool": "memory:", "durability": "delivered"}


@pytest.fixture
def inbox():
    """What has arrived at a local Mixpanel; `inbox.url` is its address."""
    with LocalMixpanel() as mixpanel:
        yield Inbox(mixpanel.url)


@pytest.fixture
def tracker(inbox):
    """A tracker that waits as long as a test waits for anything."""
    tracker = Tracker(**SETTINGS, api_host=inbox.url, delivery_timeout_s=PATIENCE_S)
    yield tracker
    tracker.close()


def names(inbox):
    """The names of the events that have arrived."""
    return [event["event"] for event in inbox.events()]


def asgi_exchange(app, on_send):
    """Run an ASGI application for one request."""

    async def main():
        await Conversation(http_scope(), (), on_send=on_send).with_app(app)

    run(main())


def test_asgi_waits_before_each_message_that_may_be_the_last(tracker, inbox):
    """Whoever has a part of the response can rely on what was tracked before it."""

    async def app(scope, receive, send):
        visitor = scope["state"]["visitor"]
        visitor.track("View")
        await send(START)
        await send(PART)
        visitor.track("Streamed")
        await send(END)

    arrived = []
    asgi_exchange(
        asgi.VisitorMiddleware(app, tracker=tracker), on_send=lambda _message: arrived.append(names(inbox))
    )
    assert arrived == [["View"], ["View"], ["View", "Streamed"]]
    assert tracker.stats()["delivered"] == 2


def test_asgi_waits_for_what_comes_after_the_response(tracker, inbox):
    """Background tasks belong to the call after which a process is frozen."""

    async def app(scope, receive, send):
        await send(START)
        await send(END)
        scope["state"]["visitor"].track("Background task")

    call_asgi(asgi.VisitorMiddleware(app, tracker=tracker), http_scope())
    assert names(inbox) == ["Background task"]


def test_asgi_does_not_block_the_loop():
    """Other requests go on while one waits."""
    posted, may_answer = threading.Event(), threading.Event()

    def post(_endpoint, _bodies):
        posted.set()
        assert may_answer.wait(PATIENCE_S)
        return Response(status=200, body=b'{"code": 200, "status": "OK"}')

    async def app(scope, receive, send):
        scope["state"]["visitor"].track("View")
        await send(START)
        await send(END)

    tracker = Tracker(**SETTINGS, delivery_timeout_s=PATIENCE_S, dependencies=Dependencies(post=post))
    wrapped = asgi.VisitorMiddleware(app, tracker=tracker)

    async def main():
        conversation = Conversation(http_scope(), ())
        waiting = asyncio.create_task(conversation.with_app(wrapped))
        assert await asyncio.to_thread(posted.wait, PATIENCE_S)
        assert not waiting.done()  # a loop that stood still would come here when the response has left
        may_answer.set()
        await waiting

    run(main())
    assert tracker.stats()["delivered"] == 1
    tracker.close()


@pytest.mark.parametrize(
    "parts", [[b"whole"], (part for part in (b"first", b"second"))], ids=["list", "iterator"]
)
def test_wsgi_waits_before_the_body(tracker, inbox, parts):
    """What a view has tracked is at Mixpanel when the server gets the first part."""

    def app(environ, start_response):
        environ[wsgi.VISITOR_KEY].track("View")
        start_response("200 OK", [])
        return parts

    body = wsgi.VisitorMiddleware(app, tracker=tracker)(environ_of(), lambda *_head: None)
    next(iter(body))
    assert names(inbox) == ["View"]


def test_wsgi_waits_for_what_a_stream_tracks(tracker, inbox):
    """Before each part: any of them may be the last that the client needs."""

    def app(environ, start_response):
        start_response("200 OK", [])
        for number in (1, 2):
            environ[wsgi.VISITOR_KEY].track(f"Part {number}")
            yield b"part"

    body = wsgi.VisitorMiddleware(app, tracker=tracker)(environ_of(), lambda *_head: None)
    assert [names(inbox) for _ in body] == [["Part 1"], ["Part 1", "Part 2"]]
    body.close()


def hanging(**settings):
    """Build a tracker whose Mixpanel does not answer, with a clock that only its own waiting moves on."""
    now_s, forever = [0.0], threading.Event()

    def wait(seconds):
        now_s[0] += seconds

    def post(_endpoint, _bodies):
        forever.wait(PATIENCE_S)
        return Response(status=0, failure="the test is over")

    dependencies = Dependencies(post=post, monotonic=lambda: now_s[0], wait=wait)
    return Tracker(**{**SETTINGS, **settings}, dependencies=dependencies), now_s, forever


@pytest.mark.parametrize(("given", "waited_s"), [({}, 1.0), ({"delivery_timeout_s": 0.25}, 0.25)])
def test_a_response_waits_no_longer_than_the_timeout(given, waited_s):
    """Then it leaves; what is left waits in the spool, and the note says how often that was."""
    tracker, now_s, forever = hanging(**given)

    def app(environ, start_response):
        environ[wsgi.VISITOR_KEY].track("View")
        start_response("200 OK", [])
        return [b"whole"]

    wsgi.VisitorMiddleware(app, tracker=tracker)(environ_of(), lambda *_head: None)
    assert now_s[0] == pytest.approx(waited_s)
    stats = tracker.stats()
    assert (stats["pending"], stats["notes"]["delivery_timeout"]) == (1, 1)
    forever.set()
    tracker.close(timeout_s=0)


@pytest.mark.parametrize("parts", [[b"whole"], iter([b"whole"])], ids=["list", "iterator"])
def test_a_request_that_tracks_nothing_waits_for_nothing(parts):
    """Also not for what an earlier request has left."""
    tracker, now_s, forever = hanging()
    tracker.track("user-42", "Left behind")

    def app(environ, start_response):
        start_response("200 OK", [])
        return parts

    assert list(wsgi.VisitorMiddleware(app, tracker=tracker)(environ_of(), lambda *_head: None)) == [b"whole"]
    assert now_s[0] == 0
    forever.set()
    tracker.close(timeout_s=0)
