"""SPiD: the visitor in a session's cookie, and what its signature proves."""

import base64
import hashlib
import hmac
import json
from collections import Counter

import pytest
from support.facts import VECTORS

from mixpanel_visitor.core.identity.spid_browser import (
    MAX_AGE_S,
    MAX_CHARS,
    SKEW_S,
    SignatureError,
    SpidBrowser,
    SpidVisitor,
    is_fresh,
    is_uid,
    js_unescape,
    sign_traits,
    signed_payload,
    verify,
)

CLIENT = "4321abc0000"
V1 = f"vgs_js_{CLIENT}"
V2 = f"spid_js_{CLIENT}"
SECRET = "foobar-sign-secret"
UID = "1ab2c3Xt3n8cgX0zk9m4"
OTHER_UID = "9zz9zzXt3n8cgXother1"
NOW_S = 1_760_000_000
SIGS = VECTORS["spid_sig"]
LOGGED_IN = VECTORS["spid_cookies"][0]["json"]
SIGNED = SpidVisitor(
    uid=UID, signed=True, logged_in=True, issued_at_s=NOW_S, until_s=NOW_S + 7111, user_id=270177
)
UNSIGNED = SpidVisitor(uid=UID, signed=False)


@pytest.fixture
def notes():
    return Counter()


@pytest.fixture
def spid_sdk(notes):
    return make_spid_sdk(notes)


def make_spid_sdk(notes=None, *, sign_secret=SECRET, production=True):
    notes = Counter() if notes is None else notes

    def count(name):
        notes[name] += 1

    return SpidBrowser(CLIENT, sign_secret=sign_secret, production=production, count=count)


def signed(text, *, secret=SECRET):
    """Sign a payload as SPiD does; it may be an object or any text or bytes."""
    if isinstance(text, dict):
        text = json.dumps({"algorithm": "HMAC-SHA256", **text})
    raw = text.encode() if isinstance(text, str) else text
    payload = base64.urlsafe_b64encode(raw).rstrip(b"=")
    mac = base64.urlsafe_b64encode(hmac.digest(secret.encode(), payload, hashlib.sha256)).rstrip(b"=")
    return f"{mac.decode()}.{payload.decode()}"


def session(uid=UID, **more):
    """Build what SPiD says about somebody who is logged in."""
    return {"serverTime": NOW_S, "expiresIn": 7111, "visitor": {"uid": uid, "user_id": "270177"}, **more}


def cookie(stored, name=V2):
    """Build a Cookie header with a session in it, among others."""
    text = json.dumps(stored)
    return f"a=1; {name}=" + "".join(
        char if char.isalnum() or char in "@*_+-./" else f"%{ord(char):02X}" for char in text
    )


def reason(sig, *, secret=SECRET, now_s=NOW_S):
    """Return the reason for which a signature is refused."""
    with pytest.raises(SignatureError) as caught:
        verify(sig, secret, now_s=now_s)
    return str(caught.value)


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


def test_the_anonymous_answer_is_unsigned(spid_sdk):
    """It names a visitor and carries no signature; `user_id` is no user of ours."""
    case = SIGS["anonymous_response_is_unsigned"]
    stored = case["response"]["response"]
    assert "sig" not in stored
    found = spid_sdk.find(cookie(stored), now_s=NOW_S)
    assert found == SpidVisitor(uid=case["visitor"]["uid"], signed=case["verified"])


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


# --- signatures --------------------------------------------------------------------------------


@pytest.mark.parametrize("case", SIGS["valid"], ids=lambda case: f"{case['origin']} {case['secret']}")
def test_valid_signatures(case):
    """The published and the computed ones verify over the base64url text."""
    assert signed_payload(case["sig"], case["secret"]) == case["payload"]


@pytest.mark.parametrize("case", SIGS["invalid"], ids=lambda case: case["why"])
def test_invalid_signatures(case):
    """Each is refused for its own reason."""
    with pytest.raises(SignatureError, match=r"^spid_sig_(malformed|wrong|algorithm)$"):
        verify(case["sig"], case["secret"], now_s=NOW_S)


@pytest.mark.parametrize("case", SIGS["valid"], ids=lambda case: f"{case['origin']} {case['secret']}")
def test_which_valid_signatures_name_a_visitor(notes, case):
    """Those over a session of now; the published ones are old or are about other things."""
    found = make_spid_sdk(notes, sign_secret=case["secret"]).verified(case["sig"], now_s=NOW_S)
    assert (found is not None) is ("visitor" in case["payload"])
    assert notes.total() == (found is None)


@pytest.mark.parametrize("case", SIGS["freshness"]["cases"], ids=lambda case: f"{case['now']}±{case['skew']}")
def test_freshness_vectors(case):
    """From its issue to its end, give or take the clocks' difference."""
    session = signed_payload(SIGS["freshness"]["sig"], SIGS["freshness"]["secret"])
    assert is_fresh(session, now_s=case["now"], skew_s=case["skew"]) is case["fresh"]


def test_a_verified_session_gives_its_visitor(spid_sdk):
    """The uid, when SPiD has signed it, and SPiD's own user."""
    assert spid_sdk.verified(LOGGED_IN["sig"], now_s=NOW_S) == SIGNED
    assert spid_sdk.find(cookie(LOGGED_IN), now_s=NOW_S) == SIGNED


def test_a_refused_signature_is_counted_by_its_reason(spid_sdk, notes):
    """And names nobody."""
    assert spid_sdk.verified(LOGGED_IN["sig"], now_s=NOW_S + 10 * MAX_AGE_S) is None
    assert spid_sdk.verified(signed(session(), secret="other"), now_s=NOW_S) is None
    assert notes == {"spid_sig_stale": 1, "spid_sig_wrong": 1}


@pytest.mark.parametrize(
    ("expires_in", "lasts_s"),
    [
        (900, 900),
        (900.5, 900.5),
        (0, 0),
        (None, MAX_AGE_S),
        ("900", MAX_AGE_S),
        (True, MAX_AGE_S),
        ([], MAX_AGE_S),
        (2_592_000, MAX_AGE_S),
        (1e308, MAX_AGE_S),
        (10**400, MAX_AGE_S),
        (-900, 0),
        (-(10**400), 0),
    ],
)
def test_how_long_a_signed_session_lasts(spid_sdk, expires_in, lasts_s):
    """As long as it says, two hours at most and if it does not say: SPiD's own limit is not trusted."""
    sig = signed(session(expiresIn=expires_in))
    assert spid_sdk.verified(sig, now_s=NOW_S + lasts_s + SKEW_S) is not None
    assert spid_sdk.verified(sig, now_s=NOW_S + lasts_s + SKEW_S + 1) is None


def test_a_session_may_say_nothing_of_its_end(spid_sdk):
    """Later answers lack `expiresIn`."""
    stored = session()
    del stored["expiresIn"]
    assert spid_sdk.verified(signed(stored), now_s=NOW_S + MAX_AGE_S + SKEW_S) is not None
    assert spid_sdk.verified(signed(stored), now_s=NOW_S + MAX_AGE_S + SKEW_S + 1) is None


@pytest.mark.parametrize("number", ["1e999", "-1e999"])
def test_a_session_without_end_lasts_two_hours_at_most(spid_sdk, number):
    """JSON has numbers that are infinite in Python."""
    text = json.dumps(session(algorithm="HMAC-SHA256")).replace("7111", number)
    assert spid_sdk.verified(signed(text), now_s=NOW_S) is not None
    assert spid_sdk.verified(signed(text), now_s=NOW_S + MAX_AGE_S + SKEW_S + 1) is None


@pytest.mark.parametrize(
    "server_time",
    [None, True, str(NOW_S), [], {}, -1, 0, 1e308, 10**400, -(10**400), NOW_S + 61, NOW_S * 1000],
)
def test_a_session_must_say_when_it_was_issued(server_time):
    """Without a time, or with an odd one, it may be of any age."""
    assert reason(signed(session(serverTime=server_time))) == "spid_sig_stale"


def test_a_fractional_time_is_cut(spid_sdk):
    """Older answers carry fractions of a second."""
    assert spid_sdk.verified(signed(session(serverTime=NOW_S + 0.75)), now_s=NOW_S).issued_at_s == NOW_S


@pytest.mark.parametrize("user_id", [None, True, "270177", 1.5, [1], {}])
def test_a_user_id_is_a_whole_number(spid_sdk, user_id):
    """Anything else is left out; the visitor is the same."""
    found = spid_sdk.verified(signed(session(userId=user_id)), now_s=NOW_S)
    assert (found.uid, found.user_id) == (UID, None)
    assert spid_sdk.verified(signed(session(userId=7)), now_s=NOW_S).user_id == 7


@pytest.mark.parametrize("visitor", [None, UID, [], {}, {"uid": None}, {"uid": 5}, {"uid": "null"}])
def test_a_signed_session_without_a_visitor_names_nobody(visitor):
    """Answers about products carry none."""
    assert reason(signed(session(visitor=visitor))) == "spid_sig_without_visitor"


@pytest.mark.parametrize("algorithm", [None, "none", "hmac-sha256", "HMAC-SHA1", "", 5, ["HMAC-SHA256"]])
def test_there_is_one_algorithm(algorithm):
    """What the payload says about its own signature must be what we did."""
    assert reason(signed(session(algorithm=algorithm))) == "spid_sig_algorithm"


# --- the order of the checks -------------------------------------------------------------------


@pytest.mark.parametrize("sig", [None, 5, b"a.b", ["a.b"], {"sig": "a.b"}, True])
def test_a_signature_is_text(sig):
    """JSON from a browser may hold anything."""
    assert reason(sig) == "spid_sig_malformed"


def test_an_oversized_signature_is_refused_unread():
    """Nothing is computed over it: it would verify otherwise."""
    text = json.dumps(session(algorithm="HMAC-SHA256"))
    longest = text + " " * ((MAX_CHARS - 44) // 4 * 3 - len(text))
    assert len(signed(longest)) == MAX_CHARS
    assert verify(signed(longest), SECRET, now_s=NOW_S).uid == UID
    assert reason(signed(longest + " ")) == "spid_sig_malformed"


@pytest.mark.parametrize(
    "change",
    [
        lambda mac, payload: f"{mac}.{payload}.",
        lambda mac, payload: f"{mac}..{payload}",
        lambda mac, payload: f"{mac}={payload}",
        lambda mac, payload: f"{mac}=.{payload}",
        lambda mac, payload: f"{mac}.{payload}=",
        lambda mac, payload: f"{mac[:-1]}.{payload}",
        lambda mac, payload: f"{mac}A.{payload}",
        lambda mac, payload: f" {mac}.{payload}",
        lambda mac, payload: f"{mac}.{payload}\n",
        lambda mac, payload: f"{mac}.{payload[:-1]}\u0660",
        lambda mac, payload: f"{mac[:-1]}+.{payload}",
        lambda mac, payload: f"{mac}.",
        lambda mac, payload: f".{payload}",
        lambda mac, payload: payload,
    ],
)
def test_the_shape_comes_first(change):
    """One dot, 43 characters before it, the URL-safe alphabet, and no padding."""
    assert reason(change(*signed(session()).split("."))) == "spid_sig_malformed"


@pytest.mark.parametrize("text", ["no JSON", "[1]", '{"a":', b"\xff", "[" * 1000, '{"a":NaN}'])
def test_nothing_is_decoded_before_it_is_verified(text):
    """The reason tells how far it came: a wrong signature is noticed first."""
    assert reason(signed(text, secret="other")) == "spid_sig_wrong"
    assert reason(signed(text)) == "spid_sig_malformed"


def test_the_algorithm_comes_before_the_time_and_the_time_before_the_visitor():
    """So that what is counted is the first thing that is wrong."""
    assert reason(signed(session(uid="null", algorithm="none", serverTime=1))) == "spid_sig_algorithm"
    assert reason(signed(session(uid="null", serverTime=1))) == "spid_sig_stale"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_a_payload_is_utf_8(encoding):
    """JSON readers that guess the encoding are a second way to say the same."""
    text = json.dumps(session(algorithm="HMAC-SHA256"))
    assert reason(signed(text.encode(encoding))) == "spid_sig_malformed"


def test_a_payload_of_an_impossible_length_is_malformed():
    """One character is no byte in base64."""
    payload = "A" * 41
    mac = base64.urlsafe_b64encode(hmac.digest(SECRET.encode(), payload.encode(), hashlib.sha256))
    assert reason(f"{mac.decode().rstrip('=')}.{payload}") == "spid_sig_malformed"


def test_a_changed_last_character_is_noticed():
    """It holds two bits that no byte uses: the text is compared, not what it decodes to."""
    mac, payload = signed(session()).split(".")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    twin = alphabet[alphabet.index(mac[-1]) + 1]
    assert base64.urlsafe_b64decode(f"{mac[:-1]}{twin}=") == base64.urlsafe_b64decode(f"{mac}=")
    assert reason(f"{mac[:-1]}{twin}.{payload}") == "spid_sig_wrong"


def test_signatures_are_compared_in_constant_time():
    """Timing is no assertion, so the code is read."""
    assert "compare_digest" in signed_payload.__code__.co_names


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


# --- traits ------------------------------------------------------------------------------------------

TRAITS_SAMPLE = SIGS["valid"][1]


def test_traits_are_signed_as_in_the_published_sample():
    """To the letter: what the article says in words would not verify."""
    session = dict(TRAITS_SAMPLE["payload"])
    now_s = session.pop("t")
    session.pop("algorithm")
    assert sign_traits(session, TRAITS_SAMPLE["secret"], now_s=now_s) == TRAITS_SAMPLE["sig"]


@pytest.mark.parametrize(
    "traits",
    [
        {"Plan": "Łódź </script>"},
        {"Goals": 12, "Share": 0.5, "News": True},
        {"Tags": ["a", 1, False], "None": []},
    ],
)
def test_signed_traits_verify(traits):
    """They are what was given, with the algorithm and the time."""
    text = sign_traits(traits, SECRET, now_s=NOW_S)
    assert signed_payload(text, SECRET) == {**traits, "algorithm": "HMAC-SHA256", "t": NOW_S}
    assert not set(text) & set("<>&\"'= ")


@pytest.mark.parametrize(
    "traits",
    [
        *(None, [], {}, "x", {1: "a"}, {"": "a"}, {"t": 1}, {"algorithm": "none"}, {"a": None}),
        *({"a": {}}, {"a": float("nan")}, {"a": [[1]]}, {"a": b"x"}, {"a": [None]}),
    ],
)
def test_what_is_no_trait_is_refused(traits):
    """With the reason."""
    with pytest.raises(ValueError, match="trait"):
        sign_traits(traits, SECRET, now_s=NOW_S)
