"""SPiD: the visitor in a session's cookie."""

import json

import pytest
from support.facts import VECTORS
from support.spid_cookies import (
    CLIENT,
    LOGGED_IN,
    NOW_S,
    OTHER_UID,
    SIGNED,
    UID,
    UNSIGNED,
    V1,
    V2,
    cookie,
    make_spid_sdk,
    session,
    signed,
)

from mixpanel_visitor.core.identity.spid_browser import (
    MAX_CHARS,
    SpidVisitor,
    is_uid,
    js_unescape,
)

# --- JavaScript's escape -----------------------------------------------------------------------


@pytest.mark.parametrize("case", VECTORS["js_unescape"], ids=lambda case: case["escaped"])
def test_js_unescape_vectors(case):
    """Broken escapes stay as they are, halves of a pair are joined."""
    assert js_unescape(case["escaped"]) == case["text"]


@pytest.mark.parametrize("case", VECTORS["js_escape"], ids=lambda case: repr(case["text"]))
def test_what_js_escape_wrote_comes_back(case):
    """`%C5` is a character, not a byte."""
    assert js_unescape(case["escape"]) == case["text"]


@pytest.mark.parametrize(
    ("escaped", "text"),
    [
        ("%u00e", "%u00e"),
        ("%u00e5", "å"),
        ("%U00E5", "%U00E5"),
        ("%%41", "%A"),
        ("%25u0041", "%u0041"),
        ("%4", "%4"),
        ("%+1%-1", "%+1%-1"),
        ("%u+041", "%u+041"),
        ("%\u0664\u0661", "%\u0664\u0661"),
        ("å%E5", "åå"),
        ("%ude00%ud83d", "\ude00\ud83d"),
        ("\ud83d%ude00", "\U0001f600"),
    ],
)
def test_js_unescape_by_the_letter(escaped, text):
    """One pass from the left, four or two hexadecimal digits of ASCII (ECMAScript, B.2.1.2)."""
    assert js_unescape(escaped) == text


# --- uids --------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", VECTORS["spid_uid"]["samples"], ids=lambda case: case["uid"])
def test_uid_samples_are_believed(spid_sdk, case):
    """Twenty characters in three groups; a short group is padded."""
    assert spid_sdk.unsigned(case["uid"]) == SpidVisitor(uid=case["uid"], signed=False)


@pytest.mark.parametrize("uid", VECTORS["spid_uid"]["reject"], ids=lambda uid: repr(uid[:30]))
def test_uids_to_reject(spid_sdk, notes, uid):
    """Empty, too short, too long, other characters, IDs that bugs send."""
    assert spid_sdk.unsigned(uid) is None
    assert notes == {"spid_uid_refused": 1}
    assert spid_sdk.find(cookie({"visitor": {"uid": uid}}), now_s=NOW_S) is None
    assert spid_sdk.verified(signed(session(uid)), now_s=NOW_S) is None


@pytest.mark.parametrize(
    "uid", [None, True, 0, 12345678, 1.5, float("nan"), [UID], {"uid": UID}, UID.encode(), UID + "\ud83d"]
)
def test_what_is_no_text_is_no_uid(spid_sdk, notes, uid):
    """JSON from a browser may hold anything."""
    assert spid_sdk.unsigned(uid) is None
    assert notes == {"spid_uid_refused": 1}


@pytest.mark.parametrize(
    ("uid", "valid"),
    [
        ("a" * 7, False),
        ("a" * 8, True),
        ("a" * 64, True),
        ("a" * 65, False),
        ("-" + "a" * 8, False),
        ("a_-" * 3, True),
    ],
)
def test_the_shape_of_a_uid(uid, valid):
    """8 to 64 letters, digits, `_` and `-`, beginning with a letter or digit."""
    assert is_uid(uid) is valid


@pytest.mark.parametrize(
    "uid", ["anonymous", "undefined", "ANONYMOUS", "00000000-0000-0000-0000-000000000000"]
)
def test_disallowed_ids_of_the_right_shape(spid_sdk, uid):
    """They look like uids and Mixpanel refuses them."""
    assert spid_sdk.unsigned(uid) is None


# --- captured cookies --------------------------------------------------------------------------


@pytest.mark.parametrize("case", VECTORS["spid_cookies"], ids=lambda case: case["case"])
def test_captured_cookies(spid_sdk, notes, case):
    """Every captured cookie gives its visitor, signed where SPiD has signed it."""
    header = f"a=1; {case['cookie_name']}={case['raw']}; b=2"
    found = make_spid_sdk(notes).find(header, now_s=NOW_S)
    assert found == (SIGNED if case["sig_verifies"] else UNSIGNED)
    assert case["visitor"]["uid"] == UID
    assert json.loads(js_unescape(case["raw"])) == case["json"]
    assert not notes


@pytest.mark.parametrize("name", [V1, V2])
@pytest.mark.parametrize("case", VECTORS["spid_cookie_invalid"], ids=lambda case: case["why"])
def test_invalid_cookies_name_nobody(spid_sdk, notes, case, name):
    """Nothing is believed of them, and it is counted."""
    assert spid_sdk.find(f"{name}={case['raw']}", now_s=NOW_S) is None
    assert notes.total() == 1
    assert set(notes) < {"spid_cookie_malformed", "spid_uid_refused"}


def test_the_visitor_is_read_from_what_is_signed():
    """A forged object around a good signature changes nothing."""
    case = VECTORS["spid_cookie_tampered"]
    assert json.loads(js_unescape(case["raw"]))["visitor"]["uid"] == case["outer_uid"]
    assert case["signed_uid"] == UID
    assert make_spid_sdk(sign_secret=case["secret"]).find(f"{V2}={case['raw']}", now_s=NOW_S) == SIGNED


@pytest.mark.parametrize(
    "sig", ["", None, "x", 5, ["x"], signed(session(), secret="other"), signed(session(serverTime=1))]
)
def test_beside_a_bad_signature_the_uid_is_taken_unsigned(spid_sdk, notes, sig):
    """As an anonymous one is, which looks the same: the browser goes on counting by it."""
    found = spid_sdk.find(cookie({"visitor": {"uid": OTHER_UID}, "sig": sig}), now_s=NOW_S)
    assert found == SpidVisitor(uid=OTHER_UID, signed=False, logged_in=True)
    assert notes.total() == 1


@pytest.mark.parametrize("uid", [None, "null", "<script>"])
def test_beside_a_bad_signature_there_has_to_be_a_uid(spid_sdk, notes, uid):
    """Two bad words do not make a good one."""
    assert spid_sdk.find(cookie({"visitor": {"uid": uid}, "sig": "x"}), now_s=NOW_S) is None
    assert notes == {"spid_sig_malformed": 1, "spid_uid_refused": 1}


@pytest.mark.parametrize("sign_secret", [None, ""])
def test_without_a_secret_a_signed_session_is_taken_unsigned(notes, sign_secret):
    """There is nothing to verify with; an empty secret is none, since anybody can sign with that."""
    spid_sdk = make_spid_sdk(notes, sign_secret=sign_secret)
    found = spid_sdk.find(cookie(LOGGED_IN), now_s=NOW_S)
    assert found == SpidVisitor(uid=UID, signed=False, logged_in=True)
    assert notes == {"spid_no_sign_secret": 1}


@pytest.mark.parametrize("sign_secret", [None, ""])
def test_without_a_secret_no_signature_verifies(notes, sign_secret):
    """A signature alone names nobody then."""
    spid_sdk = make_spid_sdk(notes, sign_secret=sign_secret)
    assert spid_sdk.verified(signed(session(), secret=""), now_s=NOW_S) is None
    assert notes == {"spid_no_sign_secret": 1}


def test_last_known_as_is_no_log_in(spid_sdk):
    """`visitor.user_id` can name a user while nobody is logged in."""
    stored = {"result": False, "visitor": {"uid": UID, "user_id": "270177"}}
    assert spid_sdk.find(cookie(stored), now_s=NOW_S) == UNSIGNED
    assert spid_sdk.verified(signed(session()), now_s=NOW_S).user_id is None


def test_the_stored_session_of_sdk_v2_verifies(spid_sdk):
    """It is in localStorage by default: the page hands its `sig` over."""
    stored = json.loads(VECTORS["spid_local_storage"]["value"])
    assert VECTORS["spid_local_storage"]["key"] == V2
    assert spid_sdk.verified(stored["sig"], now_s=NOW_S) == SIGNED


def test_what_the_sdks_do_not_store_names_nobody(spid_sdk, notes):
    """By default no SDK keeps a cookie for somebody who is not logged in."""
    assert not any(case["stored"] for case in VECTORS["spid_not_stored"])
    assert spid_sdk.find("SP_ID=x; vgs_4321abc0000=y; theme=dark", now_s=NOW_S) is None
    assert not notes


# --- which cookie ------------------------------------------------------------------------------


def test_the_last_of_several_v1_cookies_counts(spid_sdk):
    """As in SDK v1."""
    header = f"{cookie({'visitor': {'uid': OTHER_UID}}, V1)}; {cookie({'visitor': {'uid': UID}}, V1)}"
    assert spid_sdk.find(header, now_s=NOW_S) == UNSIGNED


def test_of_several_v2_cookies_none_counts(spid_sdk, notes):
    """As in SDK v2; it is counted."""
    header = f"{cookie({'visitor': {'uid': OTHER_UID}})}; {cookie({'visitor': {'uid': UID}})}"
    assert spid_sdk.find(header, now_s=NOW_S) is None
    assert notes == {"spid_cookie_duplicate": 1}


def test_a_v2_cookie_comes_before_a_v1_cookie(spid_sdk):
    """A site that has changed from one to the other may have both."""
    header = f"{cookie({'visitor': {'uid': OTHER_UID}}, V1)}; {cookie({'visitor': {'uid': UID}}, V2)}"
    assert spid_sdk.find(header, now_s=NOW_S) == UNSIGNED


@pytest.mark.parametrize("suffix", ["_prd12345", "_sub12345", "0"])
@pytest.mark.parametrize("name", [V1, V2])
def test_cookies_of_products_and_other_clients_are_not_ours(spid_sdk, notes, name, suffix):
    """Their answers carry no visitor, or another client's."""
    assert spid_sdk.find(cookie(LOGGED_IN, name + suffix), now_s=NOW_S) is None
    assert not notes


def test_outside_of_production_v1_has_another_name():
    """`prod: false`."""
    test_name = f"vgs_js_test_{CLIENT}"
    staging = make_spid_sdk(production=False)
    assert staging.find(cookie(LOGGED_IN, test_name), now_s=NOW_S) == SIGNED
    assert staging.find(cookie(LOGGED_IN, V1), now_s=NOW_S) is None
    assert staging.find(cookie(LOGGED_IN, V2), now_s=NOW_S) == SIGNED
    assert make_spid_sdk().find(cookie(LOGGED_IN, test_name), now_s=NOW_S) is None


def test_no_cookie_is_no_visitor(spid_sdk, notes):
    """And nothing is counted."""
    assert spid_sdk.find("", now_s=NOW_S) is None
    assert not notes


# --- oversize and odd JSON ---------------------------------------------------------------------


def test_a_cookie_is_read_as_javascript_escapes(spid_sdk):
    """Also where it escapes what it need not, or has characters beyond ASCII in it."""
    raw = f'%u007B"name":"%C5%u0141å","visitor":{{"uid":"%u0031{UID[1:]}"}}}}'
    assert spid_sdk.find(f"{V2}={raw}", now_s=NOW_S) == UNSIGNED


def test_an_oversized_cookie_is_refused_unread(spid_sdk, notes):
    """Browsers keep 4096 characters; a longer one would be good otherwise."""
    raw = cookie({"visitor": {"uid": UID}}).partition("=")[2].partition("=")[2]
    longest = raw + "%20" * ((MAX_CHARS - len(raw)) // 3)
    assert MAX_CHARS - 3 < len(longest) <= MAX_CHARS
    assert spid_sdk.find(f"{V2}={longest}", now_s=NOW_S) == UNSIGNED
    assert spid_sdk.find(f"{V2}={longest}%20", now_s=NOW_S) is None
    assert notes == {"spid_cookie_malformed": 1}


@pytest.mark.parametrize(
    "raw",
    [
        "[" * 4000,
        "%7B%22a%22%3A" * 300,
        '{"a":' * 800,
        "9" * 4000,
        "NaN",
        '{"visitor":NaN}',
        "%ud83d",
        "%00",
        "%",
        "\xff",
    ],
)
def test_odd_json_is_no_session(spid_sdk, notes, raw):
    """Nesting, digits without end, constants that are no JSON, halves of characters."""
    assert spid_sdk.find(f"{V2}={raw}", now_s=NOW_S) is None
    assert notes == {"spid_cookie_malformed": 1}


def test_a_number_of_any_length_is_no_reason_to_fail(spid_sdk):
    """Python limits how many digits an int may have, and raises."""
    raw = '{"serverTime":' + "9" * 3900 + f',"visitor":{{"uid":"{UID}"}}}}'
    assert spid_sdk.find(f"{V2}={raw}", now_s=NOW_S) == UNSIGNED


def test_halves_of_characters_do_not_get_into_a_uid(spid_sdk):
    """`%ud83d` is a lone surrogate, which no header, log or file takes."""
    raw = f'{{"visitor":{{"uid":"{UID}%ud83d"}}}}'
    assert spid_sdk.find(f"{V2}={raw}", now_s=NOW_S) is None
    beside = f'{{"name":"%ud83d","visitor":{{"uid":"{UID}"}}}}'
    assert spid_sdk.find(f"{V2}={beside}", now_s=NOW_S) == UNSIGNED
