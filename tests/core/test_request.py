"""RequestFacts: the request as both protocols describe it, and our own cookie splitter."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.facts import VECTORS

from mixpanel_visitor.core.request import (
    MAX_CANDIDATES,
    all_cookie_values,
    cookie_values,
    facts_from_environ,
    facts_from_scope,
    response_header,
)


@pytest.mark.parametrize("case", VECTORS["cookie_header"], ids=lambda case: case["header"] or "empty")
def test_cookie_header_vectors(case):
    """Every captured Cookie header is split as a browser wrote it."""
    assert cookie_values(case["header"], case["name"]) == case["values"]


def test_commas_separate_only_on_request():
    """WSGI servers join Cookie headers with a comma; elsewhere a comma belongs to the value."""
    assert cookie_values("a=1,mpv=x, mpv=y;b=2", "mpv", commas=True) == ["x", "y"]
    assert cookie_values("mpv=x,y", "mpv") == ["x,y"]


def test_blanks_around_a_pair_are_trimmed():
    """Space and tab around names and values do not count."""
    assert cookie_values("a=1;\t mpv= x \t;b=2", "mpv") == ["x"]


@given(st.text(), st.sampled_from(["mpv", "__Host-mpv", "a.b*"]))
@settings(max_examples=200, deadline=None)
def test_any_text_is_split_without_an_error(header, name):
    """Whatever a client sends, splitting it does not raise and gives parts of the header."""
    for value in cookie_values(header, name, commas=True):
        assert value in header


def test_a_header_full_of_our_name_is_cut_off():
    """What stands behind so many cookies of one name is not looked at, and that is counted."""
    cut = []
    assert len(cookie_values("mpv=1;" * 10_000, "mpv", count=cut.append)) == MAX_CANDIDATES
    assert len(cookie_values("mpv=1;" * MAX_CANDIDATES, "mpv", count=cut.append)) == MAX_CANDIDATES
    assert cut == ["cookie_values_cut"]


HIDING = {
    "in one value": "a=" + "{}=" * 500,
    "in many values": "a={}=1;" * 500,
    "at the end of other names": "x{}=1;" * 500,
    "after blanks in a value": "a=1" + " {}=1" * 500,
    "after a quote": 'a="{}=1";' * 500,
    "after a comma": "a=1" + ",{}=1" * 500,
    "after a tab in a value": "a=1" + "\t{}=1" * 500,
}


@pytest.mark.parametrize("hiding", HIDING.values(), ids=HIDING)
@pytest.mark.parametrize("name", ["mpv", "__Host-mpv", "a.b*"])
def test_a_name_within_other_cookies_hides_nothing(hiding, name):
    """Only the beginning of a pair is a cookie; a name that stands elsewhere is not even counted."""
    header = f"{hiding.format(*[name] * 500)};{name}=x"
    assert cookie_values(header, name) == ["x"]
    assert all_cookie_values(header, name) == ["x"]
    assert facts_from_scope(scope(headers=[(b"cookie", header.encode())])).cookie(name) == "x"


def test_each_value_is_found_however_many_there_are():
    """What must not be overlooked is looked for to the end of the header."""
    header = "mpv=1;" * 5_000 + " mpv=no"
    assert "no" in all_cookie_values(header, "mpv")
    assert facts_from_scope(scope(headers=[(b"cookie", header.encode())])).cookie("mpv") == "1"


@given(st.text(alphabet='m=v; \t,x"', max_size=60), st.booleans())
@settings(max_examples=500, deadline=None)
def test_values_are_those_of_splitting_the_header(header, commas):
    """Splitting at every separator, and each pair at its first `=`, comes to the same."""
    pairs = [pair.partition("=") for pair in (header.replace(",", ";") if commas else header).split(";")]
    expected = [value.strip(" \t") for key, sign, value in pairs if sign and key.lstrip(" \t") == "m"]
    assert cookie_values(header, "m", commas=commas) == expected
    assert all_cookie_values(header, "m", commas=commas) == expected


def scope(**more):
    return {
        "type": "http",
        "method": "POST",
        "scheme": "https",
        "path": "/a b",
        "raw_path": b"/a%20b",
        "query_string": b"x=1",
        "headers": [(b"host", b"shop.example.com"), (b"cookie", b"a=1"), (b"Cookie", b"b=2")],
        "client": ("10.0.0.1", 1234),
        "server": ("127.0.0.1", 80),
        **more,
    }


def test_a_scope_is_read():
    """An http scope gives method, scheme, host, path and query as on the wire."""
    facts = facts_from_scope(scope())
    assert (facts.method, facts.scheme, facts.host) == ("POST", "https", "shop.example.com")
    assert (facts.path, facts.query, facts.client) == ("/a%20b", "x=1", "10.0.0.1")


def test_several_cookie_headers_are_joined():
    """HTTP/2 may split the Cookie header; names may come in any case."""
    assert facts_from_scope(scope()).cookies == "a=1; b=2"


def test_scope_headers_are_found_by_lower_case_names():
    """Whatever the case a server has left them in; of several the last one counts."""
    headers = [(b"User-Agent", b"curl/8"), (b"dnt", b"0"), (b"dnt", b"1"), (b"x", b"\xe9")]
    facts = facts_from_scope(scope(headers=headers))
    assert (facts.header("user-agent"), facts.header("dnt"), facts.header("x")) == ("curl/8", "1", "é")
    assert facts.header("sec-gpc") == ""


def test_a_bare_scope_is_enough():
    """Everything optional in ASGI may be missing."""
    facts = facts_from_scope({"type": "http", "headers": []})
    assert (facts.method, facts.scheme, facts.host, facts.client) == ("GET", "http", "", None)


def test_a_websocket_scope_has_the_scheme_of_its_page():
    """A wss scheme counts as https: the same cookies are sent."""
    facts = facts_from_scope(scope(type="websocket", scheme="wss"))
    assert (facts.protocol, facts.scheme, facts.method) == ("websocket", "https", "GET")


ENVIRON = {
    "REQUEST_METHOD": "POST",
    "SCRIPT_NAME": "/app",
    "PATH_INFO": "/a b",
    "QUERY_STRING": "x=1",
    "SERVER_NAME": "localhost",
    "SERVER_PORT": "8000",
    "REMOTE_ADDR": "10.0.0.1",
    "CONTENT_TYPE": "application/json",
    "HTTP_COOKIE": "a=1",
    "HTTP_USER_AGENT": "curl/8",
    "wsgi.url_scheme": "https",
}


def test_an_environ_is_read():
    """A WSGI environ gives the same facts; without a Host header the server's own name counts."""
    facts = facts_from_environ(ENVIRON)
    assert (facts.method, facts.scheme, facts.host) == ("POST", "https", "localhost:8000")
    assert (facts.path, facts.query, facts.cookies) == ("/app/a%20b", "x=1", "a=1")


def test_environ_headers_have_their_usual_names():
    """Consent callables ask for headers in lower case, whatever the protocol."""
    facts = facts_from_environ(ENVIRON)
    assert facts.header("user-agent") == "curl/8"
    assert facts.header("content-type") == "application/json"
    assert facts.header("dnt") == ""


def test_cookie_reads_the_first_value():
    """`facts.cookie` is for consent cookies: the first value, or nothing."""
    facts = facts_from_environ({**ENVIRON, "HTTP_COOKIE": "ok=1; ok=2"})
    assert facts.cookie("ok") == "1"
    assert facts.cookie("no") == ""


def test_response_headers_are_found_in_any_case():
    """Several headers of a name are one list, as RFC 9110 says."""
    headers = [("Cache-Control", "public"), ("cache-control", "max-age=1")]
    assert response_header(headers, "cache-control") == "public, max-age=1"
    assert response_header(headers, "expires") is None


@pytest.mark.parametrize("protocol", ["asgi", "wsgi"])
def test_what_was_corrected_is_not_read_again(protocol):
    """Django knows the host of a request better than its server; who is new there has it, too."""
    if protocol == "asgi":
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", b"inside:8000")]}
        request = facts_from_scope(scope)
    else:
        request = facts_from_environ({"REQUEST_METHOD": "GET", "PATH_INFO": "/", "HTTP_HOST": "inside:8000"})
    assert request.host == "inside:8000"
    request.host = "shop.example.com"
    request._complete()
    assert request.host == "shop.example.com"
