"""The ASGI middleware at the edges of the protocol: what passes, what is added, when events are stored."""

import asyncio
import threading

import orjson
import pytest
from support.asgi_driver import Conversation, call_asgi, http_scope, run, texts, websocket_scope
from support.responses import Jar
from support.spools import COOKIE, SECRET_KEY, RecordingSpool, tracker_into

from mixpanel_visitor.asgi import VisitorMiddleware
from mixpanel_visitor.context import current_visitor
from mixpanel_visitor.delivery.mixpanel_api import Answer
from mixpanel_visitor.delivery.opening import open_spool
from mixpanel_visitor.engine import Engine
from mixpanel_visitor.errors import SpoolFullError
from mixpanel_visitor.parts import Parts
from mixpanel_visitor.settings import Settings
from mixpanel_visitor.tracker import Tracker

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
BODY = {"type": "http.response.body", "body": b"hello"}
PART = {"type": "http.response.body", "body": b"part", "more_body": True}
END = {"type": "http.response.body", "body": b"", "more_body": False}


@pytest.fixture
def spool():
    """What the tracker has stored."""
    return RecordingSpool()


@pytest.fixture
def wrap(spool):
    """Wrap an application with a middleware whose tracker stores into `spool`."""
    trackers = []

    def wrap(app, **settings):
        tracker = tracker_into(spool, **settings)
        trackers.append(tracker)
        return VisitorMiddleware(app, tracker=tracker)

    yield wrap
    for tracker in trackers:
        tracker.close()


def answering(*messages, track=True):
    """Build an application that tracks "Page" and sends these messages."""

    async def app(scope, receive, send):
        if track:
            scope["state"]["visitor"].track("Page")
        for message in messages:
            await send(message)

    return app


def exchange(app, scope=None, incoming=(), **more):
    """Run the application for one scope; give the conversation."""

    async def main():
        conversation = Conversation(scope or http_scope(), incoming, **more)
        await conversation.with_app(app)
        return conversation

    return run(main())


# --- the head --------------------------------------------------------------------------------


def test_messages_of_the_application_are_never_mutated(wrap):
    """A response that is sent to two visitors has its own headers both times, and two cookies of ours."""
    start = {**START, "headers": [(b"content-type", b"text/plain")]}
    app = wrap(answering(start, BODY))
    first, second = call_asgi(app, http_scope()), call_asgi(app, http_scope())
    assert start == START
    assert (len(first.our_cookies), len(second.our_cookies)) == (1, 1)
    assert first.our_cookies != second.our_cookies


@pytest.mark.parametrize("headers", [((b"x-a", b"1"),), iter([(b"x-a", b"1")]), [[b"x-a", b"1"]]])
def test_headers_may_be_any_iterable_of_pairs(wrap, headers):
    """Tuples, lists and iterators of pairs are all allowed, and none of them is lost."""
    seen = call_asgi(wrap(answering({**START, "headers": headers}, BODY)), http_scope())
    assert seen.values("x-a") == ["1"]
    assert len(seen.our_cookies) == 1


def test_headers_may_be_absent(wrap):
    """`headers` is optional in a response's head."""
    seen = call_asgi(wrap(answering({"type": "http.response.start", "status": 200}, BODY)), http_scope())
    assert [name for name, _ in seen.headers] == ["set-cookie", "cache-control"]


def test_a_known_visitors_head_passes_as_it_is(wrap):
    """The very message goes on where there is nothing to add."""
    app = wrap(answering(START, BODY))
    jar = Jar()
    jar.keep(call_asgi(app, http_scope()).headers)
    assert exchange(app, http_scope(headers=jar.header)).sent[0] is START


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (304, []),
        (200, [(b"Cache-Control", b"public, max-age=60")]),
        (200, [(b"cache-control", b"s-maxage=60")]),
        (200, [(b"set-cookie", f"{COOKIE}=of-the-application; Path=/".encode())]),
    ],
)
def test_responses_that_may_not_carry_our_cookie_pass_as_they_are(wrap, status, headers):
    """Never on 304, never where a shared cache may store it, never beside one of the same name."""
    start = {**START, "status": status, "headers": headers}
    assert exchange(wrap(answering(start, END))).sent[0] is start


def test_the_applications_cache_control_stays(wrap):
    """We only speak about caching where the application is silent."""
    start = {**START, "headers": [(b"Cache-Control", b"no-cache")]}
    seen = call_asgi(wrap(answering(start, END)), http_scope())
    assert seen.values("cache-control") == ["no-cache"]
    assert len(seen.our_cookies) == 1


def test_https_gets_the_prefixed_cookie(wrap):
    """The scope's scheme decides about prefix and Secure."""
    seen = call_asgi(wrap(answering(START, BODY)), http_scope(scheme="https"))
    (cookie,) = seen.values("set-cookie")
    assert cookie.startswith(f"__Host-{COOKIE}=")
    assert "; Secure" in cookie


def test_cookies_may_come_in_several_headers(wrap):
    """HTTP/2 splits the Cookie header; ours is found in any of the parts, whatever the name's case."""
    app = wrap(answering(START, BODY))
    jar = Jar()
    jar.keep(call_asgi(app, http_scope()).headers)
    split = [(b"cookie", b"a=1"), (b"Cookie", jar.header["cookie"].encode()), (b"cookie", b"b=2")]
    scope = http_scope()
    scope["headers"] = split
    assert call_asgi(app, scope).our_cookies == []


def test_an_informational_head_is_not_the_head(wrap):
    """103 Early Hints passes untouched, and the real head carries the cookie."""
    hints = {**START, "status": 103, "headers": [(b"link", b"</a.css>")]}
    conversation = exchange(wrap(answering(hints, START, BODY)))
    assert conversation.sent[0] is hints
    assert "set-cookie" in dict(texts(conversation.sent[1]))


def test_a_log_in_after_an_informational_head_is_in_time(wrap):
    """The cookie of a known visitor who logs in after 103 still goes out, and nothing is counted as late."""

    async def app(scope, receive, send):
        await send({**START, "status": 103})
        scope["state"]["visitor"].identify("user-42")
        await send(START)
        await send(BODY)

    jar = Jar()
    jar.keep(call_asgi(wrap(answering(START, BODY)), http_scope()).headers)
    wrapped = wrap(app)
    assert len(call_asgi(wrapped, http_scope(headers=jar.header)).our_cookies) == 1
    assert wrapped.tracker.stats()["notes"] == {}


@pytest.mark.parametrize(
    "message",
    [
        {"type": "http.response.debug", "info": {"template": "page.html"}},
        {"type": "http.response.informational", "status": 103, "headers": [(b"link", b"</a.css>")]},
        {"type": "http.response.early_hint", "links": [b"</a.css>"]},
        {"type": "http.response.push", "path": "/a.css", "headers": [(b"accept", b"*/*")]},
        {"type": "of.tomorrow"},
    ],
)
def test_messages_before_the_head_pass_as_they_are(wrap, message):
    """What is not the head is forwarded verbatim, without opinion."""
    conversation = exchange(wrap(answering(message, START, BODY)))
    assert conversation.sent[0] is message
    assert "set-cookie" in dict(texts(conversation.sent[1]))


@pytest.mark.parametrize(
    "ends",
    [
        [{"type": "http.response.pathsend", "path": "/srv/a.bin"}],
        [{"type": "http.response.zerocopysend", "file": 3}],
        [BODY, {"type": "http.response.trailers", "headers": [(b"x-sum", b"1")], "more_trailers": False}],
    ],
)
def test_other_ends_of_a_response_pass_as_they_are(wrap, spool, ends):
    """Files sent by the server and trailers are forwarded verbatim, and events are stored."""
    start = {**START, "trailers": len(ends) > 1}
    conversation = exchange(wrap(answering(start, *ends)))
    assert conversation.sent[1:] == ends
    assert all(sent is given for sent, given in zip(conversation.sent[1:], ends, strict=True))
    assert spool.names == ["Page"]


# --- the scope -------------------------------------------------------------------------------


def test_wrapping_twice_does_nothing_twice(wrap, spool):
    """One visitor, one cookie, each event once."""
    visitors = []

    async def app(scope, receive, send):
        visitors.append(scope["state"]["visitor"])
        await answering(START, BODY)(scope, receive, send)

    outer = wrap(wrap(app))
    seen = call_asgi(outer, http_scope())
    assert len(seen.our_cookies) == 1
    assert visitors[0].id in seen.our_cookies[0]
    assert spool.names == ["Page"]
    assert outer.tracker.stats()["accepted"] == 1
    assert outer.tracker.stats()["notes"] == {}


def test_a_state_shared_between_requests_does_not_leak(wrap):
    """A server that gives two overlapping requests one dict does not give one the other's visitor."""
    shared = {"pool": "of the lifespan"}
    ids = {}

    async def app(scope, receive, send):
        ids[scope["path"]] = [scope["state"]["visitor_id"]]
        await receive()
        ids[scope["path"]] += [scope["state"]["visitor_id"], scope["state"]["visitor"].id]
        assert scope["state"]["pool"] == "of the lifespan"

    async def main():
        wrapped = wrap(app)
        first = Conversation(http_scope(path="/first", state=shared), ())
        second = Conversation(http_scope(path="/second", state=shared), ())
        tasks = [asyncio.create_task(talk.with_app(wrapped)) for talk in (first, second)]
        await asyncio.sleep(0)
        first.gone.set()
        second.gone.set()
        await asyncio.gather(*tasks)

    run(main())
    assert len(set(ids["/first"])) == len(set(ids["/second"])) == 1
    assert ids["/first"][0] != ids["/second"][0]


def test_a_state_of_its_own_is_kept(wrap):
    """What handlers put into `state` stays visible to whoever made the dict."""
    state = {}

    async def app(scope, receive, send):
        scope["state"]["of the handler"] = True

    call_asgi(wrap(app), http_scope(state=state))
    assert state["of the handler"]


def test_a_missing_state_is_made(wrap):
    """Daphne has no `state`; handlers find the visitor all the same."""
    scope = http_scope()
    del scope["state"]
    assert len(call_asgi(wrap(answering(START, BODY)), scope).our_cookies) == 1
    assert scope["state"]["visitor"].id == scope["state"]["visitor_id"]


def test_other_scopes_pass_as_they_are(wrap):
    """A protocol that we do not know is the application's business; it gets what the server gave."""
    given = []

    async def app(*call):
        given.extend(call)

    async def main():
        conversation = Conversation({"type": "of.tomorrow"})
        call = conversation.scope, conversation.receive, conversation.send
        await wrap(app)(*call)
        return call

    call = run(main())
    assert tuple(given) == call
    assert given[0] == {"type": "of.tomorrow"}


def test_a_scope_that_breaks_us_does_not_break_the_application(wrap):
    """Where we cannot read a request, the application is served without us."""
    scope = http_scope()
    scope["headers"] = [(None, None)]
    app = wrap(answering(START, BODY, track=False))
    assert call_asgi(app, scope).body == b"hello"
    assert app.tracker.stats()["notes"] == {"internal_error": 1}


def test_a_head_that_breaks_us_does_not_break_the_application(wrap):
    """Headers that we cannot read go to the server as they are."""
    start = {**START, "headers": [("not", "bytes")]}
    app = wrap(answering(start, BODY))
    assert exchange(app).sent[0] is start
    assert app.tracker.stats()["notes"] == {"internal_error": 1}


def test_settings_and_a_tracker_exclude_each_other(spool):
    """Settings beside a tracker would have no effect, so they are refused."""
    with pytest.raises(TypeError, match="token"):
        VisitorMiddleware(answering(), tracker=tracker_into(spool), token="t")


# --- when events are stored ------------------------------------------------------------------


def test_an_application_that_does_not_answer_keeps_its_events(wrap, spool):
    """Returning without a response is the application's business; what it tracked is stored."""
    assert exchange(wrap(answering())).sent == []
    assert spool.names == ["Page"]


def test_what_follows_the_last_part_is_stored_as_well(wrap, spool):
    """Background tasks run after the response and may track."""

    async def app(scope, receive, send):
        await answering(START, BODY)(scope, receive, send)
        scope["state"]["visitor"].track("Mailed")

    wrapped = wrap(app)
    call_asgi(wrapped, http_scope())
    assert wrapped.tracker.flush()
    assert spool.names == ["Page", "Mailed"]


def test_a_stream_is_stored_as_it_goes(wrap, spool):
    """The events of a part are stored while the next one is still to come."""
    stored = []

    async def app(scope, receive, send):
        await send(START)
        for number in (1, 2):
            scope["state"]["visitor"].track(f"Part {number}")
            await send(PART)
            assert wrapped.tracker.flush()
            stored.append(list(spool.names))
        await send(END)

    wrapped = wrap(app)
    call_asgi(wrapped, http_scope())
    assert stored == [["Part 1"], ["Part 1", "Part 2"]]


def test_cancellation_keeps_the_events_and_goes_on(wrap, spool):
    """A request that the server cancels loses nothing, and the cancellation is not swallowed."""

    async def app(scope, receive, send):
        scope["state"]["visitor"].track("Before")
        try:
            await send(START)
            await receive()
        finally:
            scope["state"]["visitor"].track("Cancelled")

    async def main():
        conversation = Conversation(http_scope(), ())
        wrapped = wrap(app)
        task = asyncio.create_task(conversation.with_app(wrapped))
        await asyncio.sleep(0)  # the task runs until it waits for the client
        assert conversation.sent
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert wrapped.tracker.flush()

    run(main())
    assert spool.names == ["Before", "Cancelled"]


@pytest.mark.parametrize("before", [(), (START,), (START, PART)])
def test_the_applications_exception_passes(wrap, spool, before):
    """The very exception reaches the server, before and after the response has begun."""
    problem = RuntimeError("of the application")

    async def app(scope, receive, send):
        await answering(*before)(scope, receive, send)
        raise problem

    with pytest.raises(RuntimeError) as caught:
        exchange(wrap(app))
    assert caught.value is problem
    assert spool.names == ["Page"]


def test_the_servers_exception_passes(wrap, spool):
    """Servers of today raise from `send` when the client has gone; the application learns of it."""
    gone = OSError("the client has gone")

    def fail_at_body(message):
        if message["type"] == "http.response.body":
            raise gone

    with pytest.raises(OSError, match="has gone") as caught:
        exchange(wrap(answering(START, PART, PART)), on_send=fail_at_body)
    assert caught.value is gone
    assert spool.names == ["Page"]


HEAD_ONLY = {**START, "status": 204, "headers": [(b"x-all", b"of it")]}
SIZED = {**START, "headers": [(b"content-length", b"4")]}


@pytest.mark.parametrize(
    ("messages", "last"),
    [
        pytest.param([START, BODY], 1, id="body"),
        pytest.param([START, PART, END], 2, id="stream"),
        pytest.param([SIZED, PART, END], 1, id="stream-of-known-length"),
        pytest.param([HEAD_ONLY, END], 0, id="head-only"),
        pytest.param([START, {"type": "http.response.pathsend", "path": "/a"}], 1, id="pathsend"),
        pytest.param([START, {"type": "http.response.zerocopysend", "file": 3}], 1, id="zerocopysend"),
        pytest.param(
            [{**START, "trailers": True}, BODY, {"type": "http.response.trailers"}], 1, id="trailers"
        ),
    ],
)
def test_before_response_stores_before_the_client_has_it_all(wrap, spool, messages, last):
    """With `durability="before-response"` whoever has the whole response can rely on its events."""
    stored = []
    exchange(
        wrap(answering(*messages), durability="before-response"),
        on_send=lambda _message: stored.append(list(spool.names)),
    )
    assert stored[last] == ["Page"]


def test_before_response_stores_what_a_stream_tracks(wrap, spool):
    """Each part's events are stored before the part leaves: any of them may be the last."""
    stored = []

    async def app(scope, receive, send):
        await send(START)
        for number in (1, 2):
            scope["state"]["visitor"].track(f"Part {number}")
            await send(PART)
        scope["state"]["visitor"].track("Ended")
        await send(END)

    wrapped = wrap(app, durability="before-response")
    exchange(wrapped, on_send=lambda _message: stored.append(list(spool.names)))
    assert stored == [[], ["Part 1"], ["Part 1", "Part 2"], ["Part 1", "Part 2", "Ended"]]


# --- sockets ---------------------------------------------------------------------------------


def test_a_socket_gets_its_cookie_with_the_accept(wrap):
    """There is no other head in which a socket's visitor could be told."""

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept", "subprotocol": "chat"})

    conversation = exchange(wrap(app), websocket_scope(), [{"type": "websocket.connect"}])
    (accept,) = conversation.sent
    assert accept["subprotocol"] == "chat"
    assert dict(texts(accept))["set-cookie"].startswith(f"{COOKIE}=")


def test_a_sockets_events_are_stored_while_it_is_open(wrap, spool):
    """A socket may live for days; its events do not wait for its end."""
    stored = []

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        for number in (1, 2):
            scope["state"]["visitor"].track(f"Message {number}")
            assert wrapped.tracker.flush()
            stored.append(list(spool.names))
        await send({"type": "websocket.close"})

    wrapped = wrap(app)
    exchange(wrapped, websocket_scope(), [{"type": "websocket.connect"}])
    assert stored == [["Message 1"], ["Message 1", "Message 2"]]


def test_a_denied_socket_gets_its_cookie_with_the_denial(wrap):
    """The denial is an HTTP response and carries headers as one."""
    denial = {"type": "websocket.http.response.start", "status": 403, "headers": []}
    conversation = exchange(
        wrap(answering(denial, {"type": "websocket.http.response.body", "body": b"no"})),
        websocket_scope(extensions={"websocket.http.response": {}}),
    )
    assert dict(texts(conversation.sent[0]))["set-cookie"].startswith(f"{COOKIE}=")
    assert conversation.sent[0]["status"] == 403


def test_a_socket_closed_before_its_accept_passes(wrap, spool):
    """A bare refusal has no headers and stays as it is."""
    close = {"type": "websocket.close", "code": 1008}
    assert exchange(wrap(answering(close)), websocket_scope()).sent == [close]
    assert spool.names == ["Page"]


# --- lifespan --------------------------------------------------------------------------------

LIFESPAN = {"type": "lifespan", "asgi": {"version": "3.0"}}
COMPLETE = {"type": "lifespan.startup.complete"}
OVER = {"type": "lifespan.shutdown.complete"}


class Mixpanel:
    """The `post` of a tracker: takes everything and tells when it has something."""

    def __init__(self):
        self.bodies = []
        self.has_some = threading.Event()

    def __call__(self, endpoint, bodies):
        self.bodies.extend(bodies)
        self.has_some.set()
        answer = {"code": 200, "status": "OK", "num_records_imported": len(bodies)}
        return Answer(status=200, body=orjson.dumps(answer), sent=True)


@pytest.fixture
def mixpanel():
    """Who takes everything that is delivered."""
    return Mixpanel()


@pytest.fixture
def delivering(mixpanel):
    """A tracker that delivers to `mixpanel`; before it began, somebody has left an event in its spool."""
    spool = open_spool("memory:")
    with_spool = {"token": "t", "secret_key": SECRET_KEY, "spool": "memory:"}
    Tracker(**with_spool, deliver=False, parts=Parts(spool=spool)).track("user-42", "Left over")
    tracker = Tracker(**with_spool, parts=Parts(spool=spool, post=mixpanel))
    yield tracker
    tracker.close()


def test_start_up_begins_to_deliver(delivering, mixpanel):
    """What an earlier process has left is on its way before the first request."""

    async def app(scope, receive, send):
        await send(COMPLETE)
        assert mixpanel.has_some.wait(10)

    exchange(VisitorMiddleware(app, tracker=delivering), dict(LIFESPAN))
    assert len(mixpanel.bodies) == 1


@pytest.mark.parametrize("over", ["lifespan.shutdown.complete", "lifespan.shutdown.failed"])
def test_shut_down_drains(delivering, mixpanel, over):
    """The server hears of the end only when everything has been delivered: it may exit right then."""
    delivered = {}

    async def app(scope, receive, send):
        await send(COMPLETE)
        delivering.track("user-42", "At the last moment")
        await send({"type": over})

    exchange(
        VisitorMiddleware(app, tracker=delivering),
        dict(LIFESPAN),
        on_send=lambda message: delivered.update({message["type"]: len(mixpanel.bodies)}),
    )
    assert delivered[over] == 2


def test_lifespan_messages_pass_as_they_are(wrap):
    """Start-up and shut-down are the application's and the server's."""
    conversation = exchange(wrap(answering(COMPLETE, OVER, track=False)), dict(LIFESPAN))
    assert [id(message) for message in conversation.sent] == [id(COMPLETE), id(OVER)]
    assert conversation.scope == LIFESPAN


def test_a_failing_start_up_stays_transparent(wrap):
    """Servers take an exception as "no lifespan here" or stop; either way they have to see it."""
    problem = RuntimeError("no database")

    async def app(scope, receive, send):
        raise problem

    with pytest.raises(RuntimeError) as caught:
        exchange(wrap(app), dict(LIFESPAN))
    assert caught.value is problem


def test_a_refused_start_up_passes(wrap):
    """So does the message with which an application says that it cannot start."""
    failed = {"type": "lifespan.startup.failed", "message": "no database"}
    assert exchange(wrap(answering(failed, track=False)), dict(LIFESPAN)).sent == [failed]


# --- our own failures ------------------------------------------------------------------------


def failing(*_anything):
    """Fail, as a callable in the settings may."""
    raise LookupError("of a callable in the settings")


@pytest.mark.parametrize(
    ("setting", "stored", "cookies"),
    [
        ("consent", [], 0),
        ("request_filter", ["Page"], 1),
        ("extra_properties", ["Page"], 1),
        ("before_send", [], 1),
    ],
)
def test_a_failing_callable_in_the_settings_does_not_reach_the_application(
    wrap, spool, setting, stored, cookies
):
    """The response is the application's own; who cannot be asked for consent has not given it."""
    seen = call_asgi(wrap(answering(START, BODY), **{setting: failing}), http_scope())
    assert (seen.status, seen.body, seen.error) == (200, b"hello", None)
    assert len(seen.our_cookies) == cookies
    assert spool.names == stored


@pytest.mark.parametrize("durability", ["after-response", "before-response"])
@pytest.mark.parametrize(
    ("trouble", "reason"),
    [(SpoolFullError("the disk is full"), "spool_full"), (ZeroDivisionError("a bug"), "internal_error")],
)
def test_a_failing_spool_does_not_reach_the_application(wrap, spool, trouble, reason, durability):
    """Events that cannot be stored are refused and counted; the response is complete."""
    spool.trouble = trouble
    app = wrap(answering(START, PART, END), durability=durability)
    seen = call_asgi(app, http_scope())
    assert (seen.status, seen.body, seen.error) == (200, b"part", None)
    assert app.tracker.stats()["refused"] == {reason: 1}


def test_a_failing_start_of_ours_does_not_stop_the_server(spool):
    """Where the tracker cannot start or drain, the lifespan goes on."""

    class BrokenEngine(Engine):
        def start(self):
            raise OSError("no threads")

        def drain(self, timeout_s=0.0):
            raise OSError("no disk")

    class Broken(Tracker):
        def __init__(self, **settings):
            self._engine = BrokenEngine(Settings.resolve(settings), Parts(spool=spool))

    tracker = Broken(token="t", secret_key=SECRET_KEY, spool="memory:")
    app = VisitorMiddleware(answering(COMPLETE, OVER, track=False), tracker=tracker)
    assert exchange(app, dict(LIFESPAN)).sent == [COMPLETE, OVER]
    assert tracker.stats()["notes"] == {"internal_error": 2}


# --- the current visitor ---------------------------------------------------------------------


def test_the_current_visitor_is_the_requests(wrap):
    """It is there in the handler, between the parts of a stream and in tasks that the handler starts."""
    seen = []

    async def look():
        seen.append(current_visitor.id)

    async def app(scope, receive, send):
        await look()
        await send(START)
        await send(PART)
        await look()
        await asyncio.create_task(look())
        await asyncio.to_thread(lambda: seen.append(current_visitor.id))
        await send(END)
        seen.append(scope["state"]["visitor_id"])

    call_asgi(wrap(app), http_scope())  # which checks that nobody is the current visitor afterwards
    assert len(seen) == 5
    assert len(set(seen)) == 1


def test_overlapping_requests_have_their_own_current_visitors(wrap):
    """What one request awaits does not change who visits in the other."""
    ids = {}

    async def app(scope, receive, send):
        before = current_visitor.id
        await receive()
        ids[scope["path"]] = before, current_visitor.id

    async def main():
        wrapped = wrap(app)
        talks = [Conversation(http_scope(path=path), ()) for path in ("/first", "/second")]
        tasks = [asyncio.create_task(talk.with_app(wrapped)) for talk in talks]
        await asyncio.sleep(0)
        for talk in talks:
            talk.gone.set()
        await asyncio.gather(*tasks)

    run(main())
    assert ids["/first"][0] == ids["/first"][1] != ids["/second"][0] == ids["/second"][1]
