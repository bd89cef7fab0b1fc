"""The head of a response over WSGI: what passes, and what is added."""

import sys

import pytest
from support.failing import failing
from support.trackers import COOKIE, tracker_into
from support.wsgi_apps import HEADERS, answering, call, known
from support.wsgi_driver import Starter, call_wsgi, environ_of

from mixpanel_visitor.wsgi import VISITOR_KEY, VisitorMiddleware


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
