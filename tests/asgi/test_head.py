"""The head of a response over ASGI: what passes, and what is added."""

import pytest
from support.asgi_apps import BODY, END, START, answering, exchange
from support.asgi_driver import call_asgi, http_scope, texts, websocket_scope
from support.responses import Jar
from support.trackers import COOKIE


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
