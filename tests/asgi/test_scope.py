"""The scope over ASGI, and what is called with it: what an application and a server see of us."""

import asyncio
import inspect
import sys

import pytest
from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from support.asgi_apps import BODY, START, answering, exchange
from support.asgi_driver import Conversation, call_asgi, http_scope, run
from support.responses import Jar
from support.trackers import tracker_into

from mixpanel_visitor.asgi import SCOPE_KEY, VisitorMiddleware
from mixpanel_visitor.tracking.context import current_visitor


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
