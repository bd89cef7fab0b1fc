"""The ASGI middleware at the edges of the protocol: what passes, what is added, when events are stored."""

import asyncio
import inspect
import sys
import threading

import orjson
import pytest
from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from support.asgi_driver import Conversation, call_asgi, http_scope, run, texts, websocket_scope
from support.responses import Jar
from support.spools import RecordingSpool
from support.trackers import COOKIE, SECRET_KEY, tracker_into
from support.waiting import PATIENCE_S, wait_until

from mixpanel_visitor.asgi import SCOPE_KEY, VisitorMiddleware
from mixpanel_visitor.delivery.sending.http_client import Response
from mixpanel_visitor.delivery.spool_factory import open_spool
from mixpanel_visitor.errors import SpoolFullError
from mixpanel_visitor.settings import Settings
from mixpanel_visitor.tracking.context import current_visitor
from mixpanel_visitor.tracking.dependencies import Dependencies
from mixpanel_visitor.tracking.engine import Engine
from mixpanel_visitor.tracking.tracker import Tracker

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


@pytest.mark.parametrize(
    "more",
    [
        {"status": 304},
        {"headers": [(b"x-a", b"1"), (b"cache-control", b"public, max-age=60")]},
        {"headers": [(b"x-a", b"1"), (None, None)]},
    ],
    ids=["not modified", "publicly cacheable", "unreadable"],
)
def test_an_iterator_of_headers_is_not_lost_where_nothing_is_added(wrap, more):
    """A generator of headers reaches the server whole, also where our cookie may not go or we fail."""
    headers = more.pop("headers", [(b"x-a", b"1")])
    start = {**START, "headers": (pair for pair in headers), **more}
    assert list(exchange(wrap(answering(start, BODY))).sent[0]["headers"]) == headers


def test_an_iterator_of_headers_is_not_lost_on_head(wrap):
    """The answer to a HEAD has all its headers."""
    start = {**START, "headers": iter([(b"x-a", b"1")])}
    assert (b"x-a", b"1") in exchange(wrap(answering(start, END)), http_scope("HEAD")).sent[0]["headers"]


@pytest.mark.parametrize("kind", [iter, list])
def test_the_pairs_of_headers_may_be_iterators(wrap, spool, kind):
    """Falcon's test client gives such; both sides see what the other has given, and so do we."""
    seen = []

    async def app(scope, receive, send):
        scope["state"]["visitor"].track("Page")
        seen.extend(tuple(pair) for pair in scope["headers"])
        given = kind([iter((b"x-a", b"1")), iter((b"cache-control", b"public, max-age=60"))])
        await send({**START, "headers": given})
        await send(BODY)

    scope = http_scope()
    scope["headers"] = kind([iter((b"user-agent", b"Mozilla/5.0")), iter((b"x-b", b"2"))])
    sent = exchange(wrap(app), scope).sent[0]["headers"]
    assert seen == [(b"user-agent", b"Mozilla/5.0"), (b"x-b", b"2")]
    assert sent == [(b"x-a", b"1"), (b"cache-control", b"public, max-age=60")]
    assert spool.names == ["Page"]


@pytest.mark.parametrize("kind", ["websocket.accept", "websocket.http.response.start"])
def test_an_iterator_of_a_sockets_headers_is_not_lost(wrap, kind):
    """The heads of sockets are read as those of pages are."""
    head = {"type": kind, "status": 404, "headers": iter([(b"x-a", b"1"), (None, None)])}
    assert list(exchange(wrap(answering(head)), websocket_scope()).sent[0]["headers"]) == [
        (b"x-a", b"1"),
        (None, None),
    ]


def test_a_head_may_have_its_headers_as_text(wrap):
    """Some servers take text; what the application gave stays as it is, and the cookie is added."""
    start = {**START, "headers": [("Cache-Control", "private"), (b"x-a", b"1")]}
    headers = exchange(wrap(answering(start, BODY))).sent[0]["headers"]
    assert headers[:2] == start["headers"]
    assert [name for name, _ in headers[2:]] == [b"set-cookie"]


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
    """It is not replaced; what it lacks stands in a second line."""
    start = {**START, "headers": [(b"Cache-Control", b"no-cache")]}
    seen = call_asgi(wrap(answering(start, END)), http_scope())
    assert seen.values("cache-control") == ["no-cache", "private"]
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
    start = {**START, "headers": [(None, None)]}
    app = wrap(answering(start, BODY))
    assert exchange(app).sent[0] is start
    assert app.tracker.stats()["notes"] == {"internal_error": 1}


ITERATED = {
    "headers": [(b"user-agent", b"Mozilla/5.0"), (b"Cookie", b"a=1"), (b"cookie", b"b=2")],
    "client": ["192.0.2.1", 50000],
    "server": ["testserver", 80],
}


@pytest.mark.parametrize(
    "make", [iter, lambda given: (each for each in given)], ids=["iterator", "generator"]
)
@pytest.mark.parametrize("path", ["/", "/_visitor"])
def test_the_application_sees_what_the_server_gave_as_iterators(wrap, make, path):
    """What we read of the scope is still there for the application, on the hand-over's path as well."""
    seen = {}

    async def app(scope, receive, send):
        scope["state"]["visitor"].track("Page")
        seen.update({name: list(scope[name]) for name in ITERATED})

    settings = {"request_filter": lambda facts: path == "/_visitor"}
    wrapped = wrap(app, **settings)
    scope = http_scope(path=path)
    scope.update({name: make(value) for name, value in ITERATED.items()})
    exchange(wrapped, scope)
    assert seen == ITERATED
    assert wrapped.tracker.stats()["notes"] == {}


def test_the_address_of_an_iterator_is_known(wrap, spool):
    """A client and headers that come as iterators say as much of the visitor as lists do."""
    scope = http_scope()
    scope.update({name: iter(value) for name, value in ITERATED.items()})
    call_asgi(wrap(answering(START, BODY), client_ip="send"), scope)
    assert spool.events[0]["properties"]["ip"] == "192.0.2.1"


@pytest.mark.parametrize("name", ["client", "server"])
def test_an_iterator_beside_a_list_of_headers_is_left_to_the_application(wrap, spool, name):
    """Reading a lone iterator would take it from the application; the event goes without it."""
    seen = []

    async def app(scope, receive, send):
        scope["state"]["visitor"].track("Page")
        seen.extend(scope[name])

    wrapped = wrap(app)
    exchange(wrapped, http_scope(**{name: iter(["192.0.2.1", 80])}))
    assert (seen, spool.names) == (["192.0.2.1", 80], ["Page"])
    assert wrapped.tracker.stats()["notes"] == {}


def test_the_very_list_of_headers_stays_in_the_scope(wrap):
    """Servers give lists, and nothing is copied for the application then."""
    scope = http_scope()
    given = scope["headers"]
    exchange(wrap(answering(START, BODY)), scope)
    assert scope["headers"] is given


def test_the_headers_of_a_request_may_be_text(wrap):
    """Some test clients give text; the visitor is known by the cookie all the same."""
    app = wrap(answering(START, BODY))
    jar = Jar()
    jar.keep(call_asgi(app, http_scope()).headers)
    scope = http_scope()
    scope["headers"] = [("User-Agent", "Mozilla/5.0"), ("cookie", jar.header["cookie"])]
    assert call_asgi(app, scope).our_cookies == []
    assert app.tracker.stats()["notes"] == {}


@pytest.mark.parametrize("name", [b"cookie", b"user-agent", b"purpose"])
def test_one_header_may_have_text_for_its_value(wrap, spool, name):
    """Bytes and text side by side are read as well."""
    scope = http_scope()
    scope["headers"] = [(name, "a=1")]
    app = wrap(answering(START, BODY))
    assert call_asgi(app, scope).body == b"hello"
    assert app.tracker.stats()["notes"] == {}
    assert spool.names == ["Page"]


@pytest.mark.parametrize(
    "more",
    [{"query_string": "utm_source=a"}, {"raw_path": "/page"}, {"query_string": None, "raw_path": None}],
)
def test_the_address_of_a_page_may_be_text(wrap, spool, more):
    """Test clients give the query as text, against the specification; the event has it."""
    app = wrap(answering(START, BODY))
    call_asgi(app, http_scope(**{"path": "/page", **more}))
    assert app.tracker.stats()["notes"] == {}
    event = spool.events[0]
    assert event["properties"]["$current_url"].startswith("http://testserver:80/page")


@pytest.mark.parametrize("path", [None, b"/_visitor", 7])
def test_a_scope_without_a_path_is_the_applications(wrap, path):
    """A request whose path is missing or no text is served."""
    scope = http_scope()
    scope["path"] = path
    assert call_asgi(wrap(answering(START, BODY, track=False)), scope).body == b"hello"
    del scope["path"]
    assert call_asgi(wrap(answering(START, BODY, track=False)), scope).body == b"hello"


def test_a_scope_without_a_type_is_the_applications(wrap):
    """Whatever it is, the application gets it, and the error is its own."""
    given = []

    async def app(*call):
        given.append(call[0])

    exchange(wrap(app), {"asgi": {}})
    assert given == [{"asgi": {}}]


@pytest.mark.parametrize("kind", ["http", "websocket", "lifespan", "of.tomorrow"])
def test_what_the_application_returns_is_returned(wrap, kind):
    """ASGI gives it no meaning; test suites look at it."""

    async def app(scope, receive, send):
        return kind

    assert run(wrap(app)({**http_scope(), "type": kind}, None, None)) == kind


def test_send_is_a_coroutine_function_for_bridges(wrap):
    """The bridge of asgiref to sync code, which sync consumers of channels use, warns of any other."""

    async def app(scope, receive, send):
        await sync_to_async(async_to_sync(send))(START)
        await send(BODY)
        assert iscoroutinefunction(send) or iscoroutinefunction(send.__call__)

    assert call_asgi(wrap(app), http_scope()).body == b"hello"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="nothing but `async def` is one for inspect there")
def test_send_is_a_coroutine_function_for_inspect(wrap):
    """Where Python has a mark for it."""

    async def app(scope, receive, send):
        assert inspect.iscoroutinefunction(send)
        await answering(START, BODY)(scope, receive, send)

    assert call_asgi(wrap(app), http_scope()).body == b"hello"


def test_send_of_the_lifespan_is_a_coroutine_function(wrap):
    """As that of a request."""

    async def app(scope, receive, send):
        assert iscoroutinefunction(send)

    exchange(wrap(app), {"type": "lifespan"})


def test_the_application_may_be_given_by_its_name(spool):
    """Litestar and others register a middleware as `middleware(app=...)`."""
    app = VisitorMiddleware(app=answering(START, BODY), tracker=tracker_into(spool))
    assert call_asgi(app, http_scope()).body == b"hello"
    assert spool.names == ["Page"]


def test_a_middleware_without_an_application_is_refused(spool):
    """As any Python function without an argument that it needs."""
    with pytest.raises(TypeError, match="app"):
        VisitorMiddleware(tracker=tracker_into(spool))


class TheirOwn:
    """What an application's lifespan has put into the state."""


@pytest.mark.parametrize("name", ["visitor", "visitor_id"])
def test_the_applications_own_state_stays(wrap, spool, caplog, name):
    """An application that has a `visitor` of its own keeps it; ours is elsewhere, and the log says so."""
    theirs = TheirOwn()
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["state"][name])
        scope[SCOPE_KEY].track("Page")
        current_visitor.track("Also")

    wrapped = wrap(app)
    state = {name: theirs}
    for _ in range(2):
        exchange(wrapped, http_scope(state=dict(state)))
    assert wrapped.tracker.flush()
    assert seen == [theirs, theirs]
    assert spool.names == ["Page", "Also"] * 2
    (said,) = [record.getMessage() for record in caplog.records]
    assert "current_visitor" in said
    assert wrapped.tracker.stats()["notes"] == {}


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
        # Before the flush, for that takes what is in open requests as well.
        assert wait_until(lambda: wrapped.tracker.stats()["buffered"] == 0, PATIENCE_S)
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
        return Response(status=200, body=orjson.dumps(answer), sent=True)


@pytest.fixture
def mixpanel():
    """Who takes everything that is delivered."""
    return Mixpanel()


@pytest.fixture
def delivering(mixpanel):
    """A tracker that delivers to `mixpanel`; before it began, somebody has left an event in its spool."""
    spool = open_spool("memory:")
    with_spool = {"token": "t", "secret_key": SECRET_KEY, "spool": "memory:"}
    Tracker(**with_spool, deliver=False, dependencies=Dependencies(spool=spool)).track("user-42", "Left over")
    tracker = Tracker(**with_spool, dependencies=Dependencies(spool=spool, post=mixpanel))
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
            self._engine = BrokenEngine(Settings.resolve(settings), Dependencies(spool=spool))

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
