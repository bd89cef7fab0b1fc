"""Handover: which requests may say who the visitor is, and what they may say."""

import json

import pytest
from support.facts import VECTORS, facts

from mixpanel_visitor.core.identity.handover import (
    MAX_BODY_BYTES,
    HandoverClaim,
    HandoverError,
    check,
    read_claim,
)
from mixpanel_visitor.core.policy import is_same_origin

POST = {"sec-fetch-site": "same-origin", "content-type": "application/json"}
VECTOR = VECTORS["same_origin_post"]


def refused(call, *args):
    """Return the status that a call refuses with."""
    with pytest.raises(HandoverError) as caught:
        call(*args)
    assert len(str(caught.value)) > 20, "whoever reads the answer learns why"
    return caught.value.status


@pytest.mark.parametrize(
    "case",
    [case for case in VECTOR["cases"] if "trusted_origins" not in case],
    ids=lambda case: str(case["headers"]),
)
def test_same_origin_vectors(case):
    """Fetch metadata decides; without it the Origin; without both it is refused."""
    headers = {name.lower(): value for name, value in case["headers"].items()}
    asked = facts(headers, method="POST", scheme=VECTOR["scheme"], host=VECTOR["host"])
    assert is_same_origin(asked) is case["allow"]


def test_a_request_without_a_host_is_of_no_origin():
    """An empty Origin is not the same as an unknown host."""
    assert not is_same_origin(facts({"origin": "https://"}, scheme="https", host=""))


def test_a_sound_hand_over_passes():
    """With any parameters of the content type, and a length up to the limit."""
    check(facts(POST, method="POST"))
    check(facts({**POST, "content-type": "Application/JSON; charset=utf-8"}, method="POST"))
    check(facts({**POST, "content-length": str(MAX_BODY_BYTES)}, method="POST"))


@pytest.mark.parametrize(
    ("changed", "method", "status"),
    [
        ({}, "GET", 405),
        ({}, "OPTIONS", 405),
        ({"sec-fetch-site": "cross-site"}, "POST", 403),
        ({"content-type": "text/plain"}, "POST", 415),
        ({"content-type": "application/x-www-form-urlencoded"}, "POST", 415),
        ({"content-type": "application/jsonp"}, "POST", 415),
        ({"content-type": ""}, "POST", 415),
        ({"content-length": str(MAX_BODY_BYTES + 1)}, "POST", 413),
        ({"content-length": "9" * 20}, "POST", 400),
        ({"content-length": "-1"}, "POST", 400),
        ({"content-length": "\u0663"}, "POST", 400),
    ],
)
def test_guards_before_the_body(changed, method, status):
    """Whatever is wrong with the request, its body is not read."""
    assert refused(check, facts({**POST, **changed}, method=method)) == status


@pytest.mark.parametrize("kind", ["device_id", "uid", "sig"])
def test_each_id_is_read(kind):
    """One key is enough."""
    assert read_claim(b'{"%s": "x"}' % kind.encode()) == HandoverClaim(**{kind: "x"})


def test_all_that_is_said_is_read():
    """A page may send everything that it knows."""
    word = read_claim(b'{"device_id": "d", "uid": "u", "sig": "s", "more": 1}')
    assert word == HandoverClaim(device_id="d", uid="u", sig="s")


@pytest.mark.parametrize("choice", [True, False])
def test_a_choice_is_read(choice):
    """Opted out, or in again."""
    assert read_claim(json.dumps({"opted_out": choice, "uid": "u"}).encode()).opted_out is choice


@pytest.mark.parametrize("choice", [1, 0, "true", "false", "", [], {}, 1.5])
def test_a_choice_is_true_or_false(choice):
    """Whatever else is no choice, and takes no opt-out back."""
    assert refused(read_claim, json.dumps({"opted_out": choice}).encode()) == 400
    assert refused(read_claim, json.dumps({"opted_out": choice, "uid": "u"}).encode()) == 400


@pytest.mark.parametrize(
    ("sig", "tag"), [("AbCd_-12.xyz", "AbCd_-12"), ("short", ""), ("a b; c=d.x", ""), (5, ""), (None, "")]
)
def test_a_signature_is_known_by_its_beginning(sig, tag):
    """It goes into a cookie: nothing but base64url may."""
    assert HandoverClaim(uid="u", sig=sig).tag == tag


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[]", b"1", b'"x"', b"{}", b'{"user_id": "u"}', b"\xff", b"null"),
        *(b'{"uid": null}', b'{"opted_out": null}'),
    ],
)
def test_what_is_no_word_is_refused(body):
    """Only an object with a known key is."""
    assert refused(read_claim, body) == 400


def test_a_long_body_is_refused_unread():
    """It may have come without a length."""
    assert refused(read_claim, b" " * (MAX_BODY_BYTES + 1)) == 413
