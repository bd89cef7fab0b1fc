"""The visitor cookie: what is signed, what is believed, what is counted."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixpanel_visitor.core.identity.identity import MAX_ID_CHARS
from mixpanel_visitor.core.identity.visitor_cookie import (
    MAX_VALUE_CHARS,
    VisitorCookie,
    VisitorCookieCodec,
    is_device_id,
    user_hash,
)

DEVICE = "6f1c2a3b-4d5e-4f60-8a7b-9c0d1e2f3a4b"
NOW_S = 1_763_900_000
YEAR_S = 365 * 86_400


@pytest.fixture
def codec(notes):
    return make(notes)


def make(notes, keys=("a-key-of-some-length",), domain=None, token="t", name="mpv", **more):
    def count(name):
        notes[name] += 1

    return VisitorCookieCodec(
        keys, token=token, name=name, domain=domain, max_age_s=YEAR_S, count=count, **more
    )


def visitor_cookie(**more):
    return VisitorCookie(**{"device_id": DEVICE, "issued_at_s": NOW_S, **more})


@pytest.mark.parametrize("user_id", [None, "user-42", "anna@example.com", "Łódź", "~.;,= \n"])
def test_what_was_signed_comes_back(codec, user_id):
    """The device and any user ID survive the cookie unchanged."""
    value = codec.encode(visitor_cookie(user_id=user_id))
    assert codec.decode(value, now_s=NOW_S) == visitor_cookie(user_id=user_id)


@pytest.mark.parametrize("spid_user_id", [1, 270177, 2**53 - 1])
@pytest.mark.parametrize("more", [{}, {"uid": "1ab2c3Xt3n8cgX0zk9m4", "earlier_id": DEVICE}])
def test_the_user_of_a_spid_session_comes_back(codec, spid_user_id, more):
    """With the end of the session."""
    told = visitor_cookie(spid_user_id=spid_user_id, spid_until_s=NOW_S + 7111, **more)
    assert codec.decode(codec.encode(told), now_s=NOW_S) == told


@given(st.text(min_size=1, max_size=MAX_ID_CHARS))
@settings(max_examples=100, deadline=None)
def test_any_user_id_survives_the_cookie(user_id):
    """Whatever Mixpanel takes as an ID comes back whole."""
    codec = make(Counter())
    value = codec.encode(visitor_cookie(user_id=user_id))
    assert codec.decode(value, now_s=NOW_S).user_id == user_id


USER_IDS = {
    "uuid": "c9473686-c994-429b-8034-0123456789ab",
    "email": "firstname.lastname@department.example.com",
    "azure": "https://login.microsoftonline.com/" + "0" * 64,
    "cyrillic": "\u0416" * MAX_ID_CHARS,
    "emoji": "\U0001f600" * MAX_ID_CHARS,
}


@pytest.mark.parametrize("user_id", USER_IDS.values(), ids=list(USER_IDS))
def test_a_full_cookie_has_room_for_any_user_id(codec, user_id):
    """With a uid, an earlier ID and all marks beside it, a browser still keeps the cookie."""
    full = visitor_cookie(
        device_id="d" * 64,
        user_id=user_id,
        uid="u" * 64,
        earlier_id="e" * 64,
        vouched=False,
        sdk_cookie_sent=True,
    )
    assert len(codec.set_cookie(full, secure=True)) < 2048
    assert codec.decode(codec.encode(full), now_s=NOW_S) == full


def test_the_value_is_made_of_cookie_characters(codec):
    """No quotes, commas, semicolons, backslashes or blanks (RFC 6265, 4.1.1)."""
    value = codec.encode(visitor_cookie(user_id='a";, \\b'))
    assert not set(value) & set('",; \\')


def test_a_known_visitors_cookie_is_about_100_bytes(codec):
    """It travels with every request, so it is short."""
    assert len(codec.encode(visitor_cookie())) < 100


@pytest.mark.parametrize("position", range(0, 91, 7))
def test_any_changed_character_is_noticed(codec, notes, position):
    """A forged cookie is refused and counted; it never raises."""
    value = codec.encode(visitor_cookie())
    forged = value[:position] + ("x" if value[position] != "x" else "y") + value[position + 1 :]
    assert codec.decode(forged, now_s=NOW_S) is None
    assert notes.total() == 1


@pytest.mark.parametrize("length", [0, 1, 40, 45, 80])
def test_a_truncated_cookie_is_refused(codec, length):
    """Part of a value is no value."""
    assert codec.decode(codec.encode(visitor_cookie())[:length], now_s=NOW_S) is None


def test_an_oversized_cookie_is_refused_unread(codec, notes):
    """Nothing is computed over a value that cannot be ours."""
    assert codec.decode("1" * (MAX_VALUE_CHARS + 1), now_s=NOW_S) is None
    assert notes == {"cookie_oversized": 1}


@given(st.text(max_size=320))
@settings(max_examples=200, deadline=None)
def test_arbitrary_text_is_never_believed(text):
    """No value that we did not sign is believed, and none raises."""
    assert make(Counter()).decode(text, now_s=NOW_S) is None


def test_another_key_is_not_believed(notes):
    """Somebody else's signature is none."""
    theirs = make(Counter(), keys=("their-key-of-some-length",)).encode(visitor_cookie())
    assert make(notes).decode(theirs, now_s=NOW_S) is None
    assert notes == {"cookie_bad_signature": 1}


def test_another_projects_cookie_is_not_believed(notes):
    """One key serves several projects, each with cookies of its own."""
    theirs = make(Counter(), token="theirs").encode(visitor_cookie())
    assert make(notes, token="ours").decode(theirs, now_s=NOW_S) is None
    assert notes == {"cookie_bad_signature": 1}


@pytest.mark.parametrize(
    ("change", "calls"),
    [
        (lambda value: value, 1),
        (lambda value: value[:-5], 0),
        (lambda value: value.replace("1~", "2~"), 0),
        (lambda _: "EVIL", 0),
        (lambda _: "aGVsbG8.Zm9v.c2lnbmF0dXJl", 0),  # another library's cookie
    ],
)
def test_only_what_looks_like_ours_is_foreign(notes, change, calls):
    """The log line about another key is for cookies that this package has made somewhere."""
    said = []
    theirs = make(Counter(), keys=("their-key-of-some-length",)).encode(visitor_cookie())
    codec = make(notes, on_foreign=lambda: said.append(1))
    assert codec.decode(change(theirs), now_s=NOW_S) is None
    assert len(said) == calls


BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@pytest.mark.parametrize("user_id", [None, "user-42", "u" * 200])
def test_a_signature_has_one_spelling(codec, user_id):
    """Base64 decoders forgive a last digit with bits to spare; the cookie has one form all the same."""
    value = codec.encode(visitor_cookie(user_id=user_id))
    spelled = [value[:-1] + digit for digit in BASE64]
    assert [each for each in spelled if codec.decode(each, now_s=NOW_S)] == [value]


@pytest.mark.parametrize("filling", ["****", "$!$", "%%", "=", ".", "~", "\t"])
@pytest.mark.parametrize("place", [0, 20, 43])
def test_nothing_can_be_put_into_a_signature(codec, filling, place):
    """Lenient decoders skip what is no digit."""
    value = codec.encode(visitor_cookie())
    at = len(value) - 43 + place
    assert codec.decode(value[:at] + filling + value[at:], now_s=NOW_S) is None


def test_old_keys_still_verify_and_the_last_one_signs(notes):
    """Rotation: add the new key at the end, take the old one out when its cookies have expired."""
    old = make(Counter(), keys=("old-key-of-some-length",))
    both = make(notes, keys=("old-key-of-some-length", "new-key-of-some-length"))
    new = make(Counter(), keys=("new-key-of-some-length",))
    assert both.decode(old.encode(visitor_cookie()), now_s=NOW_S) == visitor_cookie()
    assert new.decode(both.encode(visitor_cookie()), now_s=NOW_S) == visitor_cookie()


@pytest.mark.parametrize(
    ("age_s", "valid"), [(0, True), (YEAR_S, True), (YEAR_S + 1, False), (-3600, True), (-90_000, False)]
)
def test_age_is_checked_here_as_well(codec, age_s, valid):
    """The browser's Max-Age is a wish; a clock that is a little ahead is forgiven."""
    value = codec.encode(visitor_cookie())
    assert (codec.decode(value, now_s=NOW_S + age_s) is not None) is valid


def test_a_verified_value_still_grows_old(codec):
    """The cache of verified values does not keep a cookie alive."""
    value = codec.encode(visitor_cookie())
    assert codec.decode(value, now_s=NOW_S)
    assert codec.decode(value, now_s=NOW_S + YEAR_S + 1) is None


def test_the_valid_one_of_several_is_found(codec, notes):
    """A tossed cookie before ours does not hide ours."""
    value = codec.encode(visitor_cookie())
    assert codec.find(f"mpv=EVIL; mpv={value}", secure=False, now_s=NOW_S) == visitor_cookie()
    assert notes["cookie_duplicate"] == 1


def test_two_valid_visitors_are_a_conflict(codec, notes):
    """Two signed IDs mean that one was planted: neither is believed."""
    one, two = codec.encode(visitor_cookie()), codec.encode(visitor_cookie(device_id="other"))
    assert codec.find(f"mpv={one}; mpv={two}", secure=False, now_s=NOW_S) is None
    assert notes["cookie_conflict"] == 1


def test_the_newer_of_two_cookies_of_one_device_counts(codec):
    """After a change of domain a browser may send both."""
    old, new = (
        codec.encode(visitor_cookie()),
        codec.encode(visitor_cookie(issued_at_s=NOW_S + 5, user_id="u")),
    )
    found = codec.find(f"mpv={new}; mpv={old}", secure=False, now_s=NOW_S + 10)
    assert found.user_id == "u"


def test_https_uses_the_host_prefix(codec):
    """A sibling host cannot set a cookie with the prefix, so the plain name is not believed on https."""
    value = codec.encode(visitor_cookie())
    assert codec.find(f"mpv={value}", secure=True, now_s=NOW_S) is None
    assert codec.find(f"__Host-mpv={value}", secure=True, now_s=NOW_S) == visitor_cookie()


def test_set_cookie_on_https(codec):
    """On https the cookie is __Host-, Secure, HttpOnly and Lax, for the whole site and a year."""
    header = codec.set_cookie(visitor_cookie(), secure=True)
    name, _, rest = header.partition("=")
    assert name == "__Host-mpv"
    assert set(rest.split("; ")[1:]) == {f"Max-Age={YEAR_S}", "Path=/", "HttpOnly", "Secure", "SameSite=Lax"}


def test_set_cookie_on_http(codec):
    """On the own machine without TLS the cookie is a plain one, or curl would not send it back."""
    header = codec.set_cookie(visitor_cookie(), secure=False)
    assert header.startswith("mpv=")
    assert "Secure" not in header
    assert "Domain" not in header


def test_a_domain_excludes_the_host_prefix(notes):
    """`__Host-` forbids a Domain, so with one the plain name is used."""
    header = make(notes, domain="example.com").set_cookie(visitor_cookie(), secure=True)
    assert header.startswith("mpv=")
    assert "; Domain=example.com; Path=/; HttpOnly; Secure" in header


def test_expire_removes_the_same_cookie(codec):
    """Name, path and prefix are those that it was set with."""
    assert codec.expire_cookie(secure=True) == (
        "__Host-mpv=; Max-Age=0; Path=/; HttpOnly; Secure; SameSite=Lax"
    )


@pytest.mark.parametrize("bad", ["", "a b", "a\n", "<script>", "é", "x" * 65])
def test_device_ids_have_a_strict_alphabet(bad):
    """What is no device ID could break a log or a page."""
    assert not is_device_id(bad)


def test_a_signed_value_of_another_version_is_refused(codec, notes):
    """A later format is not read as today's."""
    value = codec._signers[0].sign(f"2~{DEVICE}~abc~").decode()
    assert codec.decode(value, now_s=NOW_S) is None
    assert notes == {"cookie_malformed": 1}


@pytest.mark.parametrize(
    "payload",
    [
        "1~d",
        "1~d~!~",
        "1~d~1~~~~~1",
        "1~d~1~~~~~1-2-3",
        "1~d~1~~~~~!-1",
        "1~d~1~x",
        "1~d~1~u!",
        "1~~1~",
        "1~d~1~u_w",
    ],
)
def test_signed_nonsense_is_refused(codec, payload):
    """Even what carries our signature is read with care."""
    assert codec.decode(codec._signers[0].sign(payload).decode(), now_s=40) is None


def test_only_a_few_cookies_of_our_name_are_tried(codec, notes):
    """A header full of forgeries costs four signatures, not two hundred; and it is counted."""
    theirs = make(Counter(), keys=("their-key-of-some-length",))
    forged = "; ".join(f"mpv={theirs.encode(visitor_cookie(device_id=str(number)))}" for number in range(4))
    assert codec.find(f"{forged}; mpv={codec.encode(visitor_cookie())}", secure=False, now_s=NOW_S) is None
    assert notes == {"cookie_duplicate": 1, "cookie_values_cut": 1, "cookie_bad_signature": 4}


@pytest.mark.parametrize("junk", ["EVIL", "", "1" * 300, "1~d~1~.c2lnbmF0dXJl"])
def test_what_is_no_cookie_of_ours_does_not_hide_one(codec, notes, junk):
    """Only what a signature has to be computed for counts towards the bound."""
    header = "; ".join([*[f"mpv={junk}"] * 150, f"mpv={codec.encode(visitor_cookie())}"])
    assert codec.find(header, secure=False, now_s=NOW_S) == visitor_cookie()
    assert "cookie_values_cut" not in notes


def test_either_form_of_a_user_is_a_user(codec):
    """Whether the cookie keeps the user's ID or, as older versions did of a long one, its hash."""
    for user in ({"user_id": "u"}, {"user_hash": user_hash("u" * 200)}):
        assert codec.decode(codec.encode(visitor_cookie(**user)), now_s=NOW_S).has_user
    assert not codec.decode(codec.encode(visitor_cookie()), now_s=NOW_S).has_user


@pytest.mark.parametrize(
    ("value", "age_s", "note"),
    [("", 0, "cookie_empty"), ("a b", 0, "cookie_malformed"), (None, YEAR_S + 1, "cookie_expired")],
)
def test_a_refused_cookie_is_counted_by_reason(codec, notes, value, age_s, note):
    """Whoever wonders why visitors are new finds the reason among the notes."""
    value = codec.encode(visitor_cookie()) if value is None else value
    assert codec.decode(value, now_s=NOW_S + age_s) is None
    assert notes == {note: 1}


def test_a_hashed_user_survives_the_daily_renewal(codec):
    """The cookie that is issued anew still knows the user whose ID an older version has hashed."""
    user_id = "u" * 200
    once = codec.decode(codec.encode(visitor_cookie(user_hash=user_hash(user_id))), now_s=NOW_S)
    twice = codec.decode(codec.encode(once), now_s=NOW_S)
    assert (twice.user_id, twice.user_hash) == (None, once.user_hash)
    assert twice.belongs_to(user_id)


@pytest.mark.parametrize("payload", ["1~d~1~x1", "1~d~1~u", "1~d~1~h"])
def test_a_signed_user_without_a_kind_or_an_id_is_refused(codec, notes, payload):
    """Of a user that cannot be read nothing is believed."""
    assert codec.decode(codec._signers[0].sign(payload).decode(), now_s=40) is None
    assert notes == {"cookie_malformed": 1}


def test_a_comma_does_not_get_past_the_prefix(codec):
    """A sibling host may set `x=1,__Host-mpv=...` for the whole domain; on https that is not ours."""
    planted = codec.encode(visitor_cookie())
    assert codec.find(f"x=1,__Host-mpv={planted}", secure=True, now_s=NOW_S) is None
    assert codec.find(f"x=1,mpv={planted}", secure=False, now_s=NOW_S) == visitor_cookie()
