"""The WSGI middleware at the edges of PEP 3333: what passes, what is added, when events are stored."""

import contextvars
import io
import sys
from wsgiref.util import FileWrapper

import pytest
from support.responses import Jar
from support.spools import RecordingSpool
from support.trackers import COOKIE, tracker_into
from support.wsgi_driver import Starter, call_wsgi, environ_of

from mixpanel_visitor.errors import SpoolFullError
from mixpanel_visitor.tracking.context import current_visitor
from mixpanel_visitor.wsgi import VISITOR_KEY, VisitorMiddleware

HEADERS = [("Content-Type", "text/plain")]


@pytest.fixture
def spool():
    """What the tracker has stored."""
    return RecordingSpool()


@pytest.fixture
def wrap(spool):
    """Wrap an application with a middleware whose tracker stores into `spool`."""

    def wrap(app, **settings):
        return VisitorMiddleware(app, tracker=tracker_into(spool, **settings))

    return wrap


class Body:
    """A body that tells what was done to it, tracks where it is told to, and may fail."""

    def __init__(self, parts=(b"hello",), *, visitor=None, fails=None, fails_at_close=None):
        self._parts = iter(parts)
        self._visitor = visitor
        self._fails = fails
        self._fails_at_close = fails_at_close
        self.closed = 0

    def __iter__(self):
        return self

    def __next__(self):
        if self._visitor is not None:
            self._visitor.track("Part")
        try:
            return next(self._parts)
        except StopIteration:
            if self._fails is not None:
                raise self._fails from None
            raise

    def close(self):
        self.closed += 1
        if self._visitor is not None:
            self._visitor.track("Closed")
        if self._fails_at_close is not None:
            raise self._fails_at_close


def answering(body, status="200 OK", headers=HEADERS, *, track=True):
    """Build an application that tracks "Page" and returns `body`, or what it gives for the visitor."""

    def app(environ, start_response):
        visitor = environ[VISITOR_KEY]
        if track:
            visitor.track("Page")
        start_response(status, headers)
        return body(visitor) if callable(body) else body

    return app


def call(app, **more):
    """Serve one request."""
    return call_wsgi(app, environ_of(**more))


def known(app):
    """Return the headers of a visitor who has been here before."""
    jar = Jar()
    jar.keep(call(app).headers)
    return jar.header


# --- the head --------------------------------------------------------------------------------


def test_the_applications_header_list_is_never_mutated(wrap):
    """A list that is sent to two visitors stays as it is, and each gets a cookie of their own."""
    headers = list(HEADERS)
    app = wrap(answering([b"hello"], headers=headers))
    first, second = call(app), call(app)
    assert headers == HEADERS
    assert (len(first.our_cookies), len(second.our_cookies)) == (1, 1)
    assert first.our_cookies != second.our_cookies


def test_the_server_gets_a_plain_list_of_headers(wrap):
    """PEP 3333 wants a list of tuples of str, whatever the application gave."""
    starter = Starter()
    wrap(answering([b"hello"]))(environ_of(), starter)
    (_, headers, _) = starter.calls[0]
    assert type(headers) is list
    assert all(type(pair) is tuple and [type(text) for text in pair] == [str, str] for pair in headers)


@pytest.mark.parametrize(
    "headers",
    [
        [("X-A", "1")],
        [("X-A", "1"), ("Cache-Control", "public, max-age=60")],
        [("X-A", "1"), (None, None)],
    ],
    ids=["a cookie is added", "none may be", "unreadable"],
)
def test_an_iterator_of_headers_is_not_lost(wrap, headers):
    """Against PEP 3333, but some servers take it: what we have read is still there for them."""
    starter = Starter()
    wrap(answering([b"hello"], headers=iter(headers)))(environ_of(), starter)
    assert starter.calls[0][1][: len(headers)] == headers


def test_the_application_may_be_given_by_its_name(spool):
    """As in `middleware(app=...)`."""
    assert call(VisitorMiddleware(app=answering([b"hello"]), tracker=tracker_into(spool))).body == b"hello"
    assert spool.names == ["Page"]


@pytest.mark.parametrize("path", [None, 7, b"/_visitor"])
def test_a_path_that_is_no_text_is_the_applications(wrap, path):
    """What no server should put there breaks nothing."""
    environ = environ_of()
    environ["PATH_INFO"] = path
    assert call_wsgi(wrap(answering([b"hello"], track=False)), environ).body == b"hello"


def test_a_known_visitors_head_passes_as_it_is(wrap):
    """The very list goes on where there is nothing to add."""
    app = wrap(answering([b"hello"]))
    starter = Starter()
    app(environ_of(headers=known(app)), starter)
    assert starter.calls == [("200 OK", HEADERS, None)]
    assert starter.calls[0][1] is HEADERS


@pytest.mark.parametrize(
    ("status", "header"),
    [
        ("304 Not Modified", ("ETag", '"1"')),
        ("200 OK", ("Cache-Control", "public, max-age=60")),
        ("200 OK", ("cache-control", "s-maxage=60")),
        ("200 OK", ("Set-Cookie", f"{COOKIE}=of-the-application; Path=/")),
    ],
)
def test_responses_that_may_not_carry_our_cookie_pass_as_they_are(wrap, status, header):
    """Never on 304, never where a shared cache may store it, never beside one of the same name."""
    assert call(wrap(answering([], status=status, headers=[header]))).headers == [header]


def test_the_applications_cache_control_stays(wrap):
    """It is not replaced; what it lacks stands in a second line."""
    seen = call(wrap(answering([], headers=[("Cache-Control", "no-cache")])))
    assert seen.values("cache-control") == ["no-cache", "private"]
    assert len(seen.our_cookies) == 1


def test_https_gets_the_prefixed_cookie(wrap):
    """The environ's scheme decides about prefix and Secure."""
    seen = call(wrap(answering([])), **{"wsgi.url_scheme": "https"})
    (cookie,) = seen.values("set-cookie")
    assert cookie.startswith(f"__Host-{COOKIE}=")
    assert "; Secure" in cookie


@pytest.mark.parametrize("separator", ["; ", ", ", ","])
def test_cookies_may_come_joined(wrap, separator):
    """Servers join several Cookie headers, some with a comma; ours is found all the same."""
    app = wrap(answering([]))
    cookie = separator.join(["a=1", known(app)["cookie"], "b=2"])
    assert call(app, headers={"cookie": cookie}).our_cookies == []


def test_a_second_start_response_replaces_the_first(wrap):
    """With `exc_info` an application takes its head back; the new one carries the cookie, once."""

    def app(environ, start_response):
        start_response("200 OK", [("X-First", "1")])
        try:
            failing()
        except LookupError:
            start_response("500 Internal Server Error", [("X-Second", "2")], sys.exc_info())
        return [b"sorry"]

    seen = call(wrap(app))
    assert seen.status == 500
    assert (seen.values("x-first"), seen.values("x-second")) == ([], ["2"])
    assert len(seen.our_cookies) == 1


def test_exc_info_passes_only_where_it_is_given(wrap):
    """Some servers' `start_response` takes two arguments; they get two."""
    counted = []

    def start_response(*arguments):
        counted.append(len(arguments))

    def app(environ, start_response):
        start_response("200 OK", HEADERS)
        start_response("500 Oh", HEADERS, ("kind", "error", "traceback"))
        return []

    wrap(app)(environ_of(), start_response)
    assert counted == [2, 3]


def test_exc_info_may_be_given_by_name(wrap):
    """PEP 3333 forbids it, servers take it: what works without us works with us."""

    def app(environ, start_response):
        start_response("500 Oh", HEADERS, exc_info=None)
        return []

    assert call(wrap(app)).status == 500


def test_a_head_that_cannot_be_taken_back_raises_into_the_application(wrap):
    """After the first byte the server re-raises what `exc_info` holds; that passes through us."""
    problem = RuntimeError("too late")

    def app(environ, start_response):
        start_response("200 OK", HEADERS)
        yield b"part"
        try:
            raise problem
        except RuntimeError:
            start_response("500 Oh", HEADERS, sys.exc_info())

    seen = call(wrap(app))
    assert (seen.status, seen.body, seen.error) == (200, b"part", repr(problem))


def test_write_is_the_servers_own(wrap, spool):
    """The callable that `start_response` gives is returned as it is."""
    starter = Starter()

    def app(environ, start_response):
        environ[VISITOR_KEY].track("Page")
        write = start_response("200 OK", HEADERS)
        assert write == starter.write
        write(b"hello")
        return []

    wrap(app)(environ_of(), starter)
    assert starter.response.body == b"hello"
    assert spool.names == ["Page"]


def test_a_generator_may_answer_late(wrap, spool):
    """An application that is a generator calls `start_response` with its first part."""

    def app(environ, start_response):
        environ[VISITOR_KEY].track("Late")
        start_response("202 Accepted", HEADERS)
        yield b"hello"

    seen = call(wrap(app))
    assert (seen.status, seen.body) == (202, b"hello")
    assert len(seen.our_cookies) == 1
    assert spool.names == ["Late"]


# --- the body --------------------------------------------------------------------------------


def test_a_list_passes_as_it_is(wrap, spool):
    """Servers are fastest with a plain list; its events are stored when it is returned."""
    body = [b"hello"]
    assert wrap(answering(body))(environ_of(), Starter()) is body
    assert spool.names == ["Page"]


def test_a_sized_body_keeps_its_length(wrap):
    """Servers make a Content-Length of a single part."""
    body = wrap(answering((b"hello",)))(environ_of(), Starter())
    assert len(body) == 1
    assert list(body) == [b"hello"]


def test_a_body_without_a_length_gets_none(wrap):
    """A `__len__` that fails would confuse servers more than none."""
    body = wrap(answering(Body()))(environ_of(), Starter())
    assert not hasattr(body, "__len__")
    body.close()


def test_an_instance_of_the_servers_file_wrapper_passes_as_it_is(wrap, spool):
    """Servers send the very object with sendfile; its events are stored when it is returned."""
    file = FileWrapper(io.BytesIO(b"hello"))
    assert wrap(answering(file))(environ_of(), Starter()) is file
    assert spool.names == ["Page"]


def test_the_servers_file_wrapper_may_be_a_function(wrap):
    """With uWSGI it is a builtin that gives the file back, and the server compares identities."""
    file = io.BytesIO(b"hello")
    environ = environ_of(**{"wsgi.file_wrapper": lambda file, _size=0: file})
    assert wrap(answering(lambda _visitor: environ["wsgi.file_wrapper"](file)))(environ, Starter()) is file


def test_an_applications_own_file_wrapper_is_a_body_like_any_other(wrap, spool):
    """What is not the server's own wrapper is iterated, and its events are stored at the end."""
    seen = call(wrap(answering(Body((b"hello",)))), **{"wsgi.file_wrapper": FileWrapper})
    assert seen.body == b"hello"
    assert spool.names == ["Page"]


def test_parts_are_asked_for_one_by_one(wrap):
    """Nothing is read ahead: the server has each part before the next one is made."""
    made = []

    def parts():
        for number in (1, 2, 3):
            made.append(number)
            yield b"%d" % number

    body = wrap(answering(parts()))(environ_of(), Starter())
    seen = [(part, len(made)) for part in body]
    body.close()
    assert seen == [(b"1", 1), (b"2", 2), (b"3", 3)]


# --- close() ---------------------------------------------------------------------------------


def test_close_reaches_the_body_once(wrap):
    """After a complete response the application's body is closed once."""
    body = Body()
    call(wrap(answering(body)))
    assert body.closed == 1


def test_close_reaches_a_body_that_was_never_begun(wrap, spool):
    """HEAD requests and early disconnects close without a single `next`."""
    body = Body()
    wrap(answering(body))(environ_of(), Starter()).close()
    assert body.closed == 1
    assert spool.names == ["Page"]


def test_close_reaches_a_body_that_failed(wrap, spool):
    """The very exception reaches the server, the body is closed once, the events are stored."""
    problem = RuntimeError("in the body")
    body = Body(fails=problem)
    assert call(wrap(answering(body))).error == repr(problem)
    assert body.closed == 1
    assert spool.names == ["Page"]


def test_close_is_optional(wrap):
    """Most iterables have none."""
    assert call(wrap(answering(iter([b"hello"])))).body == b"hello"


def test_events_tracked_in_close_are_stored(wrap, spool):
    """Frameworks run call-on-close functions there."""
    call(wrap(answering(lambda visitor: Body(visitor=visitor))))
    assert spool.names == ["Page", "Part", "Part", "Closed"]


def test_an_exception_from_close_passes(wrap, spool):
    """It is the server's to handle; what was tracked until then is stored."""
    problem = RuntimeError("in close")
    body = wrap(answering(lambda visitor: Body(visitor=visitor, fails_at_close=problem)))(
        environ_of(), Starter()
    )
    with pytest.raises(RuntimeError) as caught:
        body.close()
    assert caught.value is problem
    assert spool.names == ["Page", "Closed"]


# --- when events are stored ------------------------------------------------------------------


def test_the_applications_exception_passes(wrap, spool):
    """The very exception reaches the server; nothing will be closed, so its events are stored at once."""
    problem = RuntimeError("of the application")

    def app(environ, start_response):
        environ[VISITOR_KEY].track("Page")
        raise problem

    with pytest.raises(RuntimeError) as caught:
        wrap(app)(environ_of(), Starter())
    assert caught.value is problem
    assert spool.names == ["Page"]


def test_an_exhausted_body_needs_no_close(wrap, spool):
    """Some bridges to ASGI never call it: the events are stored when the last part has been asked for."""
    assert list(wrap(answering(lambda visitor: Body(visitor=visitor)))(environ_of(), Starter())) == [b"hello"]
    assert spool.names == ["Page", "Part", "Part"]


def test_a_stream_is_stored_as_it_goes(wrap, spool):
    """The events of a part are stored, at the latest, when the next one is asked for."""
    parts = (b"1", b"2", b"3")
    body = wrap(answering(lambda visitor: Body(parts, visitor=visitor)))(environ_of(), Starter())
    stored = [len(spool.names) for _ in body]
    body.close()
    assert stored == [0, 2, 3]


def test_before_response_stores_before_each_part(wrap, spool):
    """With `durability="before-response"` any part may be the last that the client needs."""
    parts = (b"1", b"2")
    app = wrap(answering(lambda visitor: Body(parts, visitor=visitor)), durability="before-response")
    body = app(environ_of(), Starter())
    stored = [len(spool.names) for _ in body]
    body.close()
    assert stored == [2, 3]


def test_wrapping_twice_does_nothing_twice(wrap, spool):
    """One visitor, one cookie, each event once."""
    outer = wrap(wrap(answering(Body())))
    seen = call(outer)
    assert len(seen.our_cookies) == 1
    assert spool.names == ["Page"]
    assert outer.tracker.stats()["accepted"] == 1
    assert outer.tracker.stats()["notes"] == {}


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
    seen = call(wrap(answering([b"hello"]), **{setting: failing}))
    assert (seen.status, seen.body, seen.error) == (200, b"hello", None)
    assert len(seen.our_cookies) == cookies
    assert spool.names == stored


@pytest.mark.parametrize("body", [[b"hello"], (b"hello",)])
@pytest.mark.parametrize(
    ("trouble", "reason"),
    [(SpoolFullError("the disk is full"), "spool_full"), (ZeroDivisionError("a bug"), "internal_error")],
)
def test_a_failing_spool_does_not_reach_the_application(wrap, spool, trouble, reason, body):
    """Events that cannot be stored are refused and counted; the response is complete."""
    spool.trouble = trouble
    app = wrap(answering(body))
    seen = call(app)
    assert (seen.status, seen.body, seen.error) == (200, b"hello", None)
    assert app.tracker.stats()["refused"] == {reason: 1}


def test_a_head_that_breaks_us_does_not_break_the_application(wrap):
    """A status or headers that we cannot read go to the server as they are."""
    starter = []

    def app(environ, start_response):
        start_response(None, None)
        return [b"hello"]

    app = wrap(app)
    assert app(environ_of(), lambda *call: starter.extend(call)) == [b"hello"]
    assert starter == [None, None]
    assert app.tracker.stats()["notes"] == {"internal_error": 1}


def test_an_environ_that_breaks_us_does_not_break_the_application(wrap):
    """Where we cannot read a request, the application is served without us."""

    def app(environ, start_response):
        start_response("200 OK", HEADERS)
        return [b"hello"]

    app = wrap(app)
    assert call(app, PATH_INFO="/", HTTP_COOKIE=Unreadable()).body == b"hello"
    assert app.tracker.stats()["notes"] == {"internal_error": 1}


def test_a_path_that_breaks_us_costs_an_event_and_no_request(wrap):
    """What only an event asks for is not read for the others; where it cannot be, that is counted."""

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/track":
            environ[VISITOR_KEY].track("Seen")
        start_response("200 OK", HEADERS)
        return [b"hello"]

    app = wrap(app)
    assert call(app, PATH_INFO="/", SCRIPT_NAME=Unreadable()).body == b"hello"
    assert app.tracker.stats()["refused"] == {}
    assert call(app, PATH_INFO="/track", SCRIPT_NAME=Unreadable()).body == b"hello"
    stats = app.tracker.stats()
    assert (stats["accepted"], stats["refused"]) == (1, {"internal_error": 1})


class Unreadable:
    """What no server should put into an environ."""

    def __str__(self):
        raise LookupError("of a server")


def test_settings_and_a_tracker_exclude_each_other(spool):
    """Settings beside a tracker would have no effect, so they are refused."""
    with pytest.raises(TypeError, match="token"):
        VisitorMiddleware(answering([]), tracker=tracker_into(spool), token="t")


# --- the current visitor ---------------------------------------------------------------------


class Watched:
    """A body that looks who the current visitor is, in each part and at the end."""

    def __init__(self, visitor):
        self._visitor = visitor
        self._left = 2

    def __iter__(self):
        assert current_visitor == self._visitor
        return self

    def __next__(self):
        assert current_visitor == self._visitor
        if not self._left:
            raise StopIteration
        self._left -= 1
        return b"part"

    def close(self):
        assert current_visitor == self._visitor


def test_the_current_visitor_is_the_requests(wrap):
    """It is there in the handler, in each part of the body and in its close, and nowhere between them."""

    def handle(visitor):
        assert current_visitor == visitor
        return Watched(visitor)

    def serve():
        body = wrap(answering(handle))(environ_of(), Starter())
        assert not current_visitor
        for _ in body:
            assert not current_visitor
        body.close()
        assert not current_visitor

    contextvars.Context().run(serve)


def test_an_exception_leaves_no_current_visitor(wrap):
    """A thread that goes on to the next request does not take the last one's visitor with it."""

    def serve():
        with pytest.raises(RuntimeError):
            wrap(answering(failing_body))(environ_of(), Starter())
        assert not current_visitor

    def failing_body(visitor):
        raise RuntimeError("of the application")

    contextvars.Context().run(serve)


def test_a_body_may_be_iterated_in_other_contexts(wrap, spool):
    """Servers and bridges take each part in a context of its own, and close in yet another."""
    body = contextvars.Context().run(wrap(answering(Watched)), environ_of(), Starter())
    parts = []
    while (part := contextvars.Context().run(next, body, None)) is not None:
        parts.append(part)
    contextvars.Context().run(body.close)
    assert parts == [b"part", b"part"]
    assert spool.names == ["Page"]
