"""Pending cookies: which of them are found, what is stored and removed."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixpanel_visitor.core.identity.pending_cookies import (
    DEVICE_MAX_AGE_S,
    MAX_TRIED,
    NOTHING,
    USER_MAX_AGE_S,
    PendingCookies,
)
from mixpanel_visitor.core.identity.visitor_cookie import VisitorCookie, VisitorCookieCodec

NOW_S = 1_763_900_000
ANCHORS = VisitorCookieCodec(
    ["a-key-of-some-length"],
    token="0123456789abcdef0123456789abcdef",
    name="mpv",
    domain=None,
    max_age_s=31_536_000,
    count=Counter().update,
)
PENDING = PendingCookies(ANCHORS)


def visitor_cookie(number=1, **more):
    return VisitorCookie(
        **{"device_id": f"6f1c2a3b-4d5e-4f60-8a7b-{number:012}", "issued_at_s": NOW_S, **more}
    )


def cookie(each, *, secure=False):
    """The pair that a browser sends once it has stored the anchor."""
    return PENDING.store(each, secure=secure).partition(";")[0]


def find(*pairs, now_s=NOW_S, secure=False):
    return PENDING.find("; ".join(pairs), secure=secure, now_s=now_s)


def test_the_first_device_in_the_header_counts():
    """Browsers send the oldest cookie first."""
    assert find("a=b", cookie(visitor_cookie(2)), cookie(visitor_cookie(1))).cookie == visitor_cookie(2)
    assert find(cookie(visitor_cookie(1)), cookie(visitor_cookie(2))).cookie == visitor_cookie(1)


@pytest.mark.parametrize(("age_s", "found"), [(DEVICE_MAX_AGE_S, True), (DEVICE_MAX_AGE_S + 1, False)])
def test_a_device_lasts_for_a_day(age_s, found):
    """Whatever the browser makes of Max-Age."""
    assert (find(cookie(visitor_cookie()), now_s=NOW_S + age_s).cookie is not None) is found


@pytest.mark.parametrize(("age_s", "found"), [(USER_MAX_AGE_S, True), (USER_MAX_AGE_S + 1, False)])
def test_a_user_lasts_for_ten_minutes(age_s, found):
    """The device of such a request is nobody's and never found."""
    pending = find(cookie(visitor_cookie(user_id="anna")), now_s=NOW_S + age_s)
    assert pending == ((None, "anna") if found else NOTHING)


def test_of_two_log_ins_the_last_one_counts():
    """As with any other: it replaces the first one."""
    first, last = cookie(visitor_cookie(1, user_id="anna")), cookie(visitor_cookie(2, user_id="bert"))
    assert first.partition("=")[0] == last.partition("=")[0] == "mpv.user"


def test_on_https_only_prefixed_cookies_count():
    """A sibling host can set none."""
    assert find(cookie(visitor_cookie()), secure=True) == NOTHING
    assert find(cookie(visitor_cookie(), secure=True), secure=True).cookie == visitor_cookie()
    assert cookie(visitor_cookie(), secure=True).startswith("__Host-mpv.00000001=")


def test_our_own_cookie_and_its_like_are_not_pending():
    """Their names go on differently."""
    value = ANCHORS.encode(visitor_cookie())
    for name in ("mpv", "mpv_js", "mpv.", "mpv.123456789", "mpv.a b", "xmpv.1", "mpv.ä"):
        assert find(f"{name}={value}") == NOTHING


@pytest.mark.parametrize("value", ["", "junk", "1~a~b~c.d"])
def test_what_we_have_not_signed_is_not_found(value):
    """And does not hide what we have."""
    assert find(f"mpv.1={value}", cookie(visitor_cookie(2))).cookie == visitor_cookie(2)


def test_only_a_few_are_tried_and_removed():
    """A header full of them costs no more."""
    junk = [f"mpv.{number}=x" for number in range(MAX_TRIED)]
    assert find(*junk, cookie(visitor_cookie())) == NOTHING
    assert len(PENDING.expire("; ".join([*junk, "mpv.more=x"]), secure=False)) == MAX_TRIED


def test_what_is_removed_is_what_there_is():
    """Each by its own name, once."""
    header = "; ".join(
        [cookie(visitor_cookie(1)), "theme=dark", cookie(visitor_cookie(2)), cookie(visitor_cookie(1))]
    )
    removed = PENDING.expire(header, secure=False)
    assert [value.partition("=")[0] for value in removed] == ["mpv.00000001", "mpv.00000002"]
    assert all("Max-Age=0" in value for value in removed)
    assert PENDING.expire("theme=dark", secure=False) == []


@pytest.mark.parametrize("junk", ["mpv.1=x;", "mpv.;", "x mpv.1=x;", "mpv.1=a~b.c; "])
def test_a_header_full_of_junk_is_looked_at_for_a_while_only(junk):
    """What stands behind a hundred of them is not found, however long the header goes on."""
    header = junk * (65_536 // len(junk))
    assert PENDING.find(f"{header}; {cookie(visitor_cookie())}", secure=False, now_s=NOW_S) == NOTHING
    assert len(PENDING.expire(header, secure=False)) <= MAX_TRIED


@pytest.mark.parametrize("header", ["a=1;{}", "a=1; {}", "a=1;\t{} ;b=2", "{};", " {}", "a=mpv.1; {}"])
def test_a_pair_is_found_wherever_it_stands(header):
    """After a semicolon and blanks, or first."""
    assert find(header.format(cookie(visitor_cookie()))).cookie == visitor_cookie()


@pytest.mark.parametrize("header", ["xmpv.{}", "a=mpv.{}", "a {}"])
def test_what_only_ends_like_one_is_none(header):
    """The name has to begin there."""
    assert find(header.format(cookie(visitor_cookie()).removeprefix("mpv."))) == NOTHING


@given(st.text(max_size=200), st.booleans())
@settings(max_examples=200, deadline=None)
def test_arbitrary_text_is_never_found_and_never_repeated(text, secure):
    """Whatever stands in a header."""
    header = f"mpv.{text}; __Host-mpv.{text}"
    assert PENDING.find(header, secure=secure, now_s=NOW_S) == NOTHING
    for value in PENDING.expire(header, secure=secure):
        assert value.isascii()
        assert value.isprintable()
