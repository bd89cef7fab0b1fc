"""Policy: whom we may track, and which responses may carry a cookie."""

import pytest
from support.facts import BROWSER_DOCUMENT, BROWSER_FETCH, VECTORS, facts

from mixpanel_visitor.core.policy import (
    is_document,
    is_prefetch,
    may_set_cookie,
    opted_out,
    shared_cacheable,
)

TOKEN = "0123456789abcdef0123456789abcdef"
NOW_S = 1_763_900_000


def out(headers, *, dnt=True, gpc=True):
    return opted_out(facts(headers), token=TOKEN, respect_dnt=dnt, respect_gpc=gpc)


@pytest.mark.parametrize(
    "headers",
    [
        {"dnt": "1"},
        {"sec-gpc": "1"},
        {"cookie": f"__mp_opt_in_out_{TOKEN}=0"},
        {"cookie": "mp_optout=1"},
        {"cookie": f"__mp_opt_in_out_{TOKEN}=1; __mp_opt_in_out_{TOKEN}=0"},
        {"cookie": "mp_optout=; mp_optout=1"},
        {"cookie": f"a={f'__mp_opt_in_out_{TOKEN}=' * 300}; __mp_opt_in_out_{TOKEN}=0"},
        {"cookie": f"{f'__mp_opt_in_out_{TOKEN}=1; ' * 300}__mp_opt_in_out_{TOKEN}=0"},
    ],
)
def test_opt_out_signals(headers):
    """DNT, GPC and the SDK's own opt-out cookies are a no."""
    assert out(headers)


@pytest.mark.parametrize(
    "headers", [{}, {"dnt": "0"}, {"cookie": f"__mp_opt_in_out_{TOKEN}=1"}, {"cookie": "mp_opt=0"}]
)
def test_no_signal_is_no_opt_out(headers):
    """An opt-in or silence leaves it to the consent setting."""
    assert not out(headers)


def test_dnt_and_gpc_can_be_left_unheard():
    """Two settings say whether they count."""
    assert not out({"dnt": "1"}, dnt=False)
    assert not out({"sec-gpc": "1"}, gpc=False)


@pytest.mark.parametrize("case", VECTORS["prefetch"], ids=lambda case: str(case["headers"]))
def test_prefetch_vectors(case):
    """Captured prefetch headers are recognised."""
    headers = {name.lower(): value for name, value in case["headers"].items()}
    assert is_prefetch(facts(headers)) is case["prefetch"]


@pytest.mark.parametrize(
    ("headers", "method", "tracked", "may"),
    [
        (BROWSER_DOCUMENT, "GET", False, True),
        (BROWSER_DOCUMENT, "POST", False, True),
        (BROWSER_DOCUMENT, "HEAD", True, False),
        (BROWSER_DOCUMENT, "OPTIONS", True, False),
        ({**BROWSER_DOCUMENT, "sec-purpose": "prefetch"}, "GET", False, False),
        ({}, "GET", False, True),
        (BROWSER_FETCH, "GET", False, False),
        (BROWSER_FETCH, "POST", True, True),
        ({**BROWSER_FETCH, "sec-fetch-site": "same-site"}, "POST", True, True),
        ({**BROWSER_FETCH, "sec-fetch-site": "cross-site"}, "POST", True, False),
        ({"sec-fetch-dest": "image", "sec-fetch-site": "same-origin"}, "GET", False, False),
        ({**BROWSER_DOCUMENT, "sec-fetch-site": "cross-site"}, "GET", False, True),
        ({**BROWSER_DOCUMENT, "sec-fetch-site": "cross-site"}, "POST", True, False),
        ({**BROWSER_DOCUMENT, "sec-fetch-storage-access": "none"}, "GET", True, False),
        ({**BROWSER_FETCH, "sec-fetch-storage-access": "none"}, "POST", True, False),
        ({**BROWSER_FETCH, "sec-fetch-storage-access": "inactive"}, "GET", True, False),
        ({**BROWSER_FETCH, "sec-fetch-storage-access": "active"}, "GET", True, True),
        ({"origin": "https://pay.example"}, "POST", True, False),
        ({"origin": "https://pay.example"}, "GET", True, True),
        ({"origin": "http://shop.example.com:8000"}, "POST", True, True),
        ({"origin": "http://www.example.com"}, "POST", True, True),
        ({"origin": "null"}, "POST", True, True),
    ],
)
def test_where_a_cookie_may_be_set(headers, method, tracked, may):
    """Documents, clients without fetch metadata, and same-site requests whose handler tracked."""
    assert may_set_cookie(facts(headers, method=method), tracked=tracked) is may


@pytest.mark.parametrize(
    ("headers", "shared"),
    [
        ([], False),
        ([("Cache-Control", "private")], False),
        ([("Cache-Control", "no-store")], False),
        ([("Cache-Control", "no-cache")], False),
        ([("Cache-Control", "max-age=0")], False),
        ([("Cache-Control", "public")], True),
        ([("Cache-Control", "max-age=60")], True),
        ([("Cache-Control", "max-age=1")], True),
        ([("Cache-Control", "private, max-age=60")], False),
        ([("Cache-Control", "max-age=0, s-maxage=60")], True),
        ([("cache-control", "Public, Max-Age=60")], True),
        ([("Cache-Control", "immutable")], True),
        ([("CDN-Cache-Control", "max-age=60"), ("Cache-Control", "private")], True),
        ([("Surrogate-Control", "max-age=60")], True),
        ([("Expires", "Wed, 21 Oct 2037 07:28:00 GMT")], True),
        ([("Expires", "Wed, 21 Oct 2015 07:28:00 GMT")], False),
        ([("Expires", "0")], False),
        ([("Expires", "nonsense")], False),
        ([("Cache-Control", "must-revalidate"), ("Expires", "Wed, 21 Oct 2037 07:28:00 GMT")], True),
        ([("Cache-Control", "no-cache"), ("Expires", "Wed, 21 Oct 2037 07:28:00 GMT")], False),
        ([("Cache-Control", "max-age=0"), ("Expires", "Wed, 21 Oct 2037 07:28:00 GMT")], False),
        ([("Cache-Control", 'max-age=60, private="x-user"')], True),
        ([("Cache-Control", 'private="x-user", no-store')], False),
        ([("Cache-Control", "max-age=0, s-maxage=0")], False),
        ([("Cache-Control", "max-age=60, s-maxage=0")], False),
        ([("Cache-Control", "max-age=nonsense")], True),
        ([("Cache-Control", "no-cache"), ("Cloudflare-CDN-Cache-Control", "max-age=60")], True),
        ([("Cache-Control", "x-public=1")], False),
        ([("Cache-Control", "private" + " " * 1024)], True),
        ([("Surrogate-Control", "max-age=0" + " " * 1024)], True),
        ([("X-Accel-Expires", "3600"), ("Cache-Control", "private")], True),
        ([("X-Accel-Expires", "@1763900060")], True),
        ([("X-Accel-Expires", "@1")], True),
        ([("X-Accel-Expires", "off")], True),
        ([("X-Accel-Expires", "0")], False),
        ([("X-Accel-Expires", "0"), ("Cache-Control", "public")], True),
        ([("Edge-Control", "max-age=3600"), ("Cache-Control", "private")], True),
        ([("Edge-Control", "cache-maxage=1h")], True),
        ([("Edge-Control", "!no-store, max-age=1d")], True),
        ([("Edge-Control", "no-store")], False),
        ([("Surrogate-Control", 'content="ESI/1.0"'), ("Cache-Control", "private")], True),
        ([("Surrogate-Control", 'no-store, content="ESI/1.0"')], False),
        ([("CDN-Cache-Control", "max-age=0")], False),
        ([("CDN-Cache-Control", "no-store"), ("Cache-Control", "max-age=60")], True),
        ([("Akamai-Cache-Control", "max-age=60")], True),
    ],
)
def test_publicly_cacheable_answers(headers, shared):
    """A shared cache would hand one visitor's ID to everybody."""
    assert shared_cacheable(headers, now_s=NOW_S) is shared


def test_old_firefox_says_prefetch_in_a_header_of_its_own():
    """`X-Moz: prefetch` is a prefetch as well."""
    assert is_prefetch(facts({"x-moz": "prefetch"}))


@pytest.mark.parametrize(
    ("headers", "document"),
    [
        ({"sec-fetch-dest": "document"}, True),
        ({"sec-fetch-dest": "iframe"}, False),
        ({"sec-fetch-dest": "empty", "accept": "text/html"}, False),
        ({"accept": "text/html,application/xhtml+xml"}, True),
        ({"accept": "*/*"}, False),
        ({}, False),
        ({"sec-fetch-dest": "document", "sec-purpose": "prefetch;prerender"}, False),
        ({"accept": "text/html", "x-moz": "prefetch"}, False),
    ],
)
def test_which_requests_ask_for_a_page(headers, document):
    """The browser's own word, and where it is too old for that, what it accepts."""
    assert is_document(facts(headers)) is document
