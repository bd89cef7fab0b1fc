"""SPiD: what the signature of a session proves, and which is refused; the traits that we sign."""

import base64
import hashlib
import hmac
import json

import pytest
from support.facts import VECTORS
from support.spid_cookies import LOGGED_IN, NOW_S, SECRET, SIGNED, UID, cookie, make_spid_sdk, session, signed

from mixpanel_visitor.core.identity.spid_browser import (
    MAX_AGE_S,
    MAX_CHARS,
    SKEW_S,
    SignatureError,
    SpidVisitor,
    is_fresh,
    sign_traits,
    signed_payload,
    verify,
)

SIGS = VECTORS["spid_sig"]


def reason(sig, *, secret=SECRET, now_s=NOW_S):
    """Return the reason for which a signature is refused."""
    with pytest.raises(SignatureError) as caught:
        verify(sig, secret, now_s=now_s)
    return str(caught.value)


# --- signatures --------------------------------------------------------------------------------


def test_the_anonymous_answer_is_unsigned(spid_sdk):
    """It names a visitor and carries no signature; `user_id` is no user of ours."""
    case = SIGS["anonymous_response_is_unsigned"]
    stored = case["response"]["response"]
    assert "sig" not in stored
    found = spid_sdk.find(cookie(stored), now_s=NOW_S)
    assert found == SpidVisitor(uid=case["visitor"]["uid"], signed=case["verified"])


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
