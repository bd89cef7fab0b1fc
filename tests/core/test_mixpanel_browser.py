"""mixpanel-browser: what we believe of its cookie."""

import json
from collections import Counter
from urllib.parse import quote

import pytest
from support.facts import VECTORS
from support.mixpanel_cookies import DEVICE, NAME, OLD, OTHER, YEAR_S, anonymous, cookies, encoded, identified

from mixpanel_visitor.core.identity.mixpanel_browser import (
    MAX_COOKIE_CHARS,
    MAX_TRIED,
    BrowserClaim,
    MixpanelBrowser,
    decode_uri_component,
    quoted_identity,
)

CASES = VECTORS["mixpanel_cookies"]["cases"]


# --- names and decoding ------------------------------------------------------------------------


@pytest.mark.parametrize("case", VECTORS["mixpanel_cookies"]["names"], ids=lambda case: case["name"])
def test_the_cookie_has_the_sdks_name(case):
    """The name comes from the token, or from `persistence_name`."""
    browser = MixpanelBrowser(
        case["token"],
        persistence_name=case["persistence_name"] or None,
        cross_subdomain=True,
        cookie_domain=None,
        max_age_s=YEAR_S,
        count=Counter().update,
    )
    assert browser.name == case["name"]
    assert browser.opt_out_name == f"__mp_opt_in_out_{case['token']}"


@pytest.mark.parametrize("case", VECTORS["decodeURIComponent"], ids=lambda case: case["raw"])
def test_decode_uri_component_vectors(case):
    """Percent-encoding is read as JavaScript reads it, strictly."""
    assert decode_uri_component(case["raw"]) == case.get("ok")


@pytest.mark.parametrize("case", VECTORS["js_escape"], ids=lambda case: repr(case["text"]))
def test_encode_uri_component_vectors(case):
    """What JavaScript's encodeURIComponent wrote comes back."""
    assert decode_uri_component(case["encodeURIComponent"]) == case["text"]


def test_characters_that_no_header_holds_are_refused():
    """Text beyond latin-1 did not come from a header."""
    assert decode_uri_component("Łódź") is None


# --- captured cookies --------------------------------------------------------------------------


def claimed_by(case):
    """Return what is to be believed of a captured cookie; of one without a device's ID, nothing."""
    device_id = case["$device_id"]
    if device_id in (None, "olduser"):
        return None
    return BrowserClaim(
        device_id=device_id,
        unprefixed=case["distinct_id"] == device_id,
        settled=case["case"] != "reset",
        user_id=case["$user_id"],
    )


@pytest.mark.parametrize("known", [None, OTHER + "0"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_captured_cookies(mixpanel_sdk, case, known):
    """Every cookie captured from the SDK gives its device, and says who is logged in."""
    assert case["cookie_name"] == mixpanel_sdk.name
    claim = mixpanel_sdk.claim(cookies(case["raw"]), known_device_id=known)
    assert claim == claimed_by(case)
    states = {"anonymous": (True, False), "identified": (True, True), "unknown": (False, False)}
    if case["case"] != "short-end-nodevice":
        assert (claim is not None, claim is not None and claim.user_id is not None) == states[case["state"]]


@pytest.mark.parametrize(
    "case", [case for case in CASES if claimed_by(case) is not None], ids=lambda case: case["case"]
)
def test_captured_cookies_of_a_known_device(mixpanel_sdk, case):
    """The common path without decoding says the same, but for whom the browser calls logged in."""
    claim = mixpanel_sdk.claim(cookies(case["raw"]), known_device_id=case["$device_id"])
    assert claim._replace(user_id=case["$user_id"]) == claimed_by(case)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_captured_cookies_are_never_seeded_over(mixpanel_sdk, case):
    """Also those that we do not believe: they are the SDK's, and hold more than an ID."""
    assert mixpanel_sdk.occupied(cookies(case["raw"]))


@pytest.mark.parametrize("case", VECTORS["mixpanel_cookie_invalid"], ids=lambda case: case["why"])
def test_invalid_cookies_are_refused(mixpanel_sdk, notes, case):
    """Nothing is believed of them, and it is counted."""
    assert mixpanel_sdk.claim(cookies(case["raw"]), known_device_id=DEVICE) is None
    assert notes == {"mixpanel_cookie_refused": 1}


def test_no_cookie_is_no_claim_and_nothing_is_counted(mixpanel_sdk, notes):
    """Most browsers that come for the first time have none."""
    assert mixpanel_sdk.claim("", known_device_id=DEVICE) is None
    assert mixpanel_sdk.claim(f"x{NAME}=1; {NAME}x={anonymous()}", known_device_id=None) is None
    assert not notes


def test_a_plus_stays_a_plus(mixpanel_sdk):
    """Percent-encoding is not form encoding."""
    case = VECTORS["mixpanel_plus_sign"]
    assert decode_uri_component(case["raw"]) == json.dumps({"distinct_id": case["distinct_id"]}).replace(
        " ", ""
    )
    claim = mixpanel_sdk.claim(cookies(identified("a+b").replace("%2B", "+")), known_device_id=None)
    assert claim.user_id == "a+b"


# --- which IDs are believed --------------------------------------------------------------------


@pytest.mark.parametrize("banned", [*VECTORS["mixpanel_disallowed_ids"], "NULL", "Undefined"])
def test_disallowed_ids_are_refused(mixpanel_sdk, notes, banned):
    """An ID that bugs send for many people is no device, after `$device:` or in `$device_id`."""
    for value in (anonymous(banned), identified("user-1", banned), encoded(distinct_id=f"$device:{banned}")):
        assert mixpanel_sdk.claim(cookies(value), known_device_id=None) is None
    assert notes == {"mixpanel_cookie_refused": 3}


@pytest.mark.parametrize(
    "device_id",
    ["a b", "a\nb", 'a"b', "<b>", "å", "a/b", "a" * 65, "$device:a", "a;b", "\ud83d", " a", "a\n"],
)
def test_a_device_id_has_a_strict_alphabet(mixpanel_sdk, device_id):
    """It goes into logs, HTML, a cookie and headers."""
    assert mixpanel_sdk.claim(cookies(anonymous(device_id)), known_device_id=None) is None
    assert mixpanel_sdk.claim(cookies(identified("user-1", device_id)), known_device_id=None) is None


@pytest.mark.parametrize("device_id", [DEVICE, OLD, "a" * 64, "A.b_c:d-0"])
def test_believable_device_ids(mixpanel_sdk, device_id):
    """UUIDs, the SDK's old IDs, and what an application gave as a device ID of its own."""
    claim = BrowserClaim(device_id=device_id, user_id=None, settled=False)
    assert mixpanel_sdk.claim(cookies(anonymous(device_id)), known_device_id=None) == claim
    assert mixpanel_sdk.claim(cookies(anonymous(device_id)), known_device_id=device_id) == claim


@pytest.mark.parametrize("known", [None, DEVICE, OTHER])
def test_prefix_and_device_id_have_to_agree(mixpanel_sdk, known):
    """A cookie that contradicts itself names nobody, also not a device that we know."""
    value = encoded(distinct_id=f"$device:{OTHER}", **{"$device_id": DEVICE})
    assert mixpanel_sdk.claim(cookies(value), known_device_id=known) is None


@pytest.mark.parametrize("known", [None, DEVICE])
def test_a_bare_id_must_have_the_shape_of_an_old_device_id(mixpanel_sdk, known):
    """Without the prefix it may be a user's: nobody may write into a profile by naming its ID.

    Also not in two steps, by getting the ID known as a device's first.
    """
    value = encoded(distinct_id=DEVICE, **{"$device_id": DEVICE})
    assert mixpanel_sdk.claim(cookies(value), known_device_id=known) is None
    assert mixpanel_sdk.claim(cookies(encoded(distinct_id=DEVICE)), known_device_id=known) is None


@pytest.mark.parametrize(
    ("device_id", "old"),
    [
        (OLD, True),
        (OLD.upper(), True),
        ("0-0-0-0-" + "a" * 56, True),
        ("0-0-0-0-" + "a" * 57, False),
        ("0-0-0-0-" + "a" * 32, True),
        ("0-0-0-0-" + "a" * 31, False),
        ("0-0-0-" + "a" * 40, False),
        ("0-0-0-0-0-" + "a" * 40, False),
        ("0-0-0--" + "a" * 40, False),
        (OLD[:-1] + "g", False),
        ("user-42", False),
    ],
)
def test_the_shape_of_old_device_ids(mixpanel_sdk, device_id, old):
    """Five dash-joined hexadecimal parts, 40 to 64 characters: a UUID is shorter."""
    value = encoded(distinct_id=device_id, **{"$device_id": device_id})
    claim = mixpanel_sdk.claim(cookies(value), known_device_id=None)
    assert (claim is not None) is old
    assert claim is None or claim.unprefixed


def test_a_very_old_cookie_has_its_distinct_id_only(mixpanel_sdk):
    """The SDK takes it for the device's ID at the next `identify`; so do we, if it has the old shape."""
    claim = mixpanel_sdk.claim(cookies(encoded(distinct_id=OLD)), known_device_id=None)
    assert claim == BrowserClaim(device_id=OLD, unprefixed=True)


@pytest.mark.parametrize("device_id", [None, "", 0, False])
def test_an_empty_device_id_is_none(mixpanel_sdk, device_id):
    """To JavaScript they are all false, so that the SDK does as if there were none."""
    value = encoded(distinct_id=OLD, **{"$device_id": device_id})
    assert mixpanel_sdk.claim(cookies(value), known_device_id=None) == BrowserClaim(
        device_id=OLD, unprefixed=True
    )


@pytest.mark.parametrize(("device_id", "believed"), [(OLD, True), ("olduser", False), (DEVICE, False)])
def test_a_device_id_that_was_a_distinct_id_needs_the_old_shape(mixpanel_sdk, device_id, believed):
    """`$had_persisted_distinct_id`: it stood alone before somebody logged in."""
    value = identified("user-9", device_id, **{"$had_persisted_distinct_id": True})
    assert (mixpanel_sdk.claim(cookies(value), known_device_id=None) is not None) is believed
    assert (mixpanel_sdk.claim(cookies(value), known_device_id=OTHER) is not None) is believed


@pytest.mark.parametrize("distinct_id", ["", None, 0, False, True, [], ["a"], {}, 1.5])
def test_no_distinct_id_is_no_identity(mixpanel_sdk, distinct_id):
    """The SDK makes a new one then, or it is nothing that `identify` could have written."""
    value = encoded(distinct_id=distinct_id, **{"$device_id": DEVICE})
    assert mixpanel_sdk.claim(cookies(value), known_device_id=None) is None
    assert mixpanel_sdk.claim(cookies(value), known_device_id=DEVICE) is None


@pytest.mark.parametrize("device_id", [5, True, ["a"], {"a": 1}, 1.5])
def test_a_device_id_is_text(mixpanel_sdk, device_id):
    """JSON has other things."""
    assert mixpanel_sdk.claim(cookies(identified("user-1", device_id)), known_device_id=None) is None


# --- whom the browser calls logged in ----------------------------------------------------------


def test_the_device_is_taken_and_never_the_user(mixpanel_sdk):
    """After `identify` the distinct ID is the user's; the device's stands beside it."""
    claim = mixpanel_sdk.claim(cookies(identified("user-123")), known_device_id=None)
    assert claim == BrowserClaim(device_id=DEVICE, user_id="user-123")


def test_a_numeric_user_id_is_kept_as_text(mixpanel_sdk):
    """`identify(42)` puts a number into the cookie; the device is the same."""
    assert mixpanel_sdk.claim(cookies(identified(42)), known_device_id=None).user_id == "42"
    assert mixpanel_sdk.claim(cookies(identified(-1)), known_device_id=None) == BrowserClaim(device_id=DEVICE)


def test_a_distinct_id_beside_a_device_id_is_a_users(mixpanel_sdk):
    """SDKs from before `$user_id` said it in this way."""
    value = encoded(distinct_id="user-7", **{"$device_id": DEVICE})
    assert mixpanel_sdk.claim(cookies(value), known_device_id=None).user_id == "user-7"


@pytest.mark.parametrize("user_id", ["null", "a\nb", "\x1b[31m", "u" * 256, "\ud83d"])
def test_an_unusable_user_id_does_not_hide_the_device(mixpanel_sdk, user_id):
    """The user is for comparison only, so he is left out and the device counts."""
    claim = mixpanel_sdk.claim(cookies(identified(user_id)), known_device_id=None)
    assert claim == BrowserClaim(device_id=DEVICE)


def test_an_alias_leaves_the_distinct_id_and_names_a_user(mixpanel_sdk):
    """After `alias` the cookie says both."""
    value = anonymous(**{"__alias": "ali-1", "$user_id": "ali-1"})
    assert mixpanel_sdk.claim(cookies(value), known_device_id=None) == BrowserClaim(
        device_id=DEVICE, user_id="ali-1"
    )


# --- seeds that come back ----------------------------------------------------------------------


@pytest.mark.parametrize("known", [None, DEVICE])
def test_a_seed_that_came_back_is_not_settled(mixpanel_sdk, known):
    """Whether the page has the SDK at all is not known yet."""
    claim = mixpanel_sdk.claim(cookies(quoted_identity(DEVICE)), known_device_id=known)
    assert claim == BrowserClaim(device_id=DEVICE, settled=False)


@pytest.mark.parametrize("known", [None, DEVICE])
def test_what_the_sdk_has_written_is_settled(mixpanel_sdk, known):
    """It adds the referrer at once, and its queues."""
    claim = mixpanel_sdk.claim(cookies(anonymous(**{"$initial_referrer": "$direct"})), known_device_id=known)
    assert claim == BrowserClaim(device_id=DEVICE, settled=True)


def test_a_bare_seed_that_came_back_is_not_settled(mixpanel_sdk):
    """The same for an ID of the old shape."""
    claim = mixpanel_sdk.claim(cookies(quoted_identity(OLD, unprefixed=True)), known_device_id=OLD)
    assert claim == BrowserClaim(device_id=OLD, unprefixed=True, settled=False)


# --- several cookies ---------------------------------------------------------------------------


def test_the_first_cookie_counts(mixpanel_sdk, notes):
    """As in the SDK; that they contradict each other is counted."""
    claim = mixpanel_sdk.claim(cookies(anonymous(OTHER), anonymous(DEVICE)), known_device_id=None)
    assert claim.device_id == OTHER
    assert notes == {"mixpanel_cookie_conflict": 1}


@pytest.mark.parametrize("position", [0, 1, 2])
def test_the_cookie_of_the_known_device_counts(mixpanel_sdk, notes, position):
    """A sibling host can toss one in that comes first; what we know already is not given up for it."""
    values = [anonymous(OTHER), anonymous("third")]
    values.insert(position, anonymous(DEVICE))
    assert mixpanel_sdk.claim(cookies(*values), known_device_id=DEVICE).device_id == DEVICE
    assert notes == {"mixpanel_cookie_conflict": 1}


def test_the_same_device_twice_is_no_conflict(mixpanel_sdk, notes):
    """A seed for this host alone and the SDK's own cookie, for example."""
    claim = mixpanel_sdk.claim(cookies(quoted_identity(DEVICE), identified("u")), known_device_id=DEVICE)
    assert claim.device_id == DEVICE
    assert not notes


def test_an_unusable_first_cookie_is_not_skipped(mixpanel_sdk, notes):
    """The SDK reads the first one, ignores it and starts anew, whatever comes after it."""
    assert mixpanel_sdk.claim(cookies("%E0%A4%A", anonymous(OTHER)), known_device_id=None) is None
    assert notes == {"mixpanel_cookie_refused": 1}


def test_the_known_device_behind_junk_is_found(mixpanel_sdk, notes):
    """Junk in front of it changes nothing."""
    assert mixpanel_sdk.claim(cookies("junk", anonymous(DEVICE)), known_device_id=DEVICE).device_id == DEVICE
    assert not notes


def test_only_a_few_cookies_are_decoded(mixpanel_sdk):
    """Thousands of them are an attack; what stands behind the first few is not looked at."""
    junk = ["junk"] * (MAX_TRIED - 1)
    assert mixpanel_sdk.claim(cookies(*junk, anonymous()), known_device_id=DEVICE) is not None
    assert mixpanel_sdk.claim(cookies(*junk, "junk", anonymous()), known_device_id=DEVICE) is None
    assert mixpanel_sdk.occupied(cookies(*junk, anonymous()))
    assert not mixpanel_sdk.occupied(cookies(*junk, "junk", anonymous()))


# --- the known device ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        anonymous(OTHER, prefs={"$device_id": DEVICE}),
        anonymous(OTHER, note=f'","$device_id":"{DEVICE}'),
        identified(f'","$device_id":"{DEVICE}', OTHER),
        identified("user-1", DEVICE + "0", x=DEVICE),
        identified("user-1", OTHER, prefs={"a": "b", "$device_id": DEVICE}),
    ],
)
def test_the_known_device_must_be_the_cookies_own(mixpanel_sdk, value):
    """Its ID may stand elsewhere in the cookie as well; the one of the browser counts."""
    claim = mixpanel_sdk.claim(cookies(value), known_device_id=DEVICE)
    assert claim is not None
    assert claim.device_id != DEVICE


def test_a_known_device_is_recognised_right_behind_the_distinct_id(mixpanel_sdk):
    """Behind another property of its own it may be contradicted later in the cookie."""
    value = encoded(xistinct_id="a", **{"$device_id": DEVICE, "distinct_id": f"$device:{OTHER}"})
    assert mixpanel_sdk.claim(cookies(value), known_device_id=DEVICE) is None


# --- oversize and odd JSON ---------------------------------------------------------------------


@pytest.mark.parametrize("known", [None, DEVICE])
def test_an_oversized_cookie_is_refused_unread(mixpanel_sdk, notes, known):
    """Browsers keep 4096 characters; a longer one would be good otherwise."""
    longest = anonymous(padding="")
    longest = anonymous(padding="x" * (MAX_COOKIE_CHARS - len(longest)))
    assert len(longest) == MAX_COOKIE_CHARS
    assert mixpanel_sdk.claim(cookies(longest), known_device_id=known).device_id == DEVICE
    too_long = longest.replace("xx", "xxx", 1)
    assert mixpanel_sdk.claim(cookies(too_long), known_device_id=known) is None
    assert notes == {"mixpanel_cookie_refused": 1}


def test_an_oversized_cookie_is_left_alone(mixpanel_sdk):
    """What we do not read we do not destroy either."""
    assert mixpanel_sdk.occupied(cookies(anonymous(padding="x" * MAX_COOKIE_CHARS)))


@pytest.mark.parametrize(
    "value",
    [
        "%7B%22a%22%3A" * 300,
        "[" * 4000,
        '{"a":' * 800,
        "9" * 4000,
        '{"distinct_id":' + "9" * 4000 + "}",
        '{"distinct_id":1e999,"$device_id":1e999}',
        '{"distinct_id":NaN,"x":"\\ud83d"}',
        "%EF%BB%BF" + anonymous(),
        "null",
        '"text"',
        "%00",
        anonymous()[:-3],
        anonymous() + "x",
    ],
)
def test_odd_json_is_ignored_as_the_sdk_does(mixpanel_sdk, value):
    """Nesting, huge numbers, constants that are no JSON, a byte order mark, other kinds of values."""
    assert mixpanel_sdk.claim(cookies(value), known_device_id=None) is None


def test_a_lone_surrogate_in_a_property_is_no_reason_to_refuse(mixpanel_sdk):
    """JSON.stringify escapes it, and JSON.parse takes it back."""
    value = quote(f'{{"distinct_id":"$device:{DEVICE}","$device_id":"{DEVICE}","x":"\\ud83d"}}', safe="")
    assert mixpanel_sdk.claim(cookies(value), known_device_id=None) == BrowserClaim(device_id=DEVICE)
    assert mixpanel_sdk.occupied(cookies(value))


# --- occupied ----------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [anonymous(), quoted_identity(DEVICE), encoded(), encoded(plan="pro")])
def test_a_cookie_of_the_sdks_is_occupied(mixpanel_sdk, value):
    """It would take any JSON object over, with the properties in it."""
    assert mixpanel_sdk.occupied(cookies(value))
    assert mixpanel_sdk.occupied(cookies("junk", value))


@pytest.mark.parametrize(
    "value", ["", "junk", "%E0%A4%A", "%5B1%5D", "null", "5", anonymous()[:-1], "%", '{"x":NaN}']
)
def test_a_cookie_that_the_sdk_ignores_is_free(mixpanel_sdk, value):
    """Broken percent-encoding or JSON means a new visitor to the SDK: a seed does no harm."""
    assert not mixpanel_sdk.occupied(cookies(value))


def test_no_cookie_is_free(mixpanel_sdk):
    """Cookies of other projects do not count."""
    assert not mixpanel_sdk.occupied("")
    assert not mixpanel_sdk.occupied(f"mp_other_mixpanel={anonymous()}")
