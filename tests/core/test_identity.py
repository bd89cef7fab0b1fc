"""Identity: the properties that make browser and backend one person."""

import pytest
from support.facts import VECTORS

from mixpanel_visitor.core.identity import (
    Identity,
    distinct_id,
    from_any_id,
    identity_properties,
    log_in,
    log_out,
    refusal,
)

DEVICE = "6f1c2a3b-4d5e-4f60-8a7b-9c0d1e2f3a4b"
STATES = [
    case
    for case in VECTORS["mixpanel_server_identity"]
    if "event" not in case or (case["event"] is None and case["mode"] == "legacy")
]


@pytest.mark.parametrize("case", STATES, ids=lambda case: f"{case['mode']} {case['state']}")
def test_identity_vectors(case):
    """Each ID mode sends what Mixpanel's merge rules ask for, in each state."""
    identity = Identity(device_id=case.get("device_id"), user_id=case.get("user_id") or case.get("uid"))
    assert identity_properties(case["mode"], identity) == case["properties"]


def test_original_mode_sends_identify_once():
    """The vector of the log-in event in Original projects."""
    (case,) = [c for c in VECTORS["mixpanel_server_identity"] if c.get("event") == "$identify"]
    before = Identity(device_id=case["device_id"])
    login = log_in("original", before, case["user_id"], linked=False, fresh_device_id=None)
    assert (login.event, login.properties) == (case["event"], case["properties"])
    again = log_in("original", login.identity, case["user_id"], linked=True, fresh_device_id=None)
    assert again.event is None


@pytest.mark.parametrize("mode", ["simplified", "legacy", "spid"])
def test_other_modes_send_no_identity_event(mode):
    """Simplified merges by properties, legacy wants an explicit alias, SPiD's uid stays."""
    assert log_in(mode, Identity(device_id=DEVICE), "u", linked=False, fresh_device_id=None).event is None


def test_another_user_starts_with_a_new_device():
    """Two users of one device are never merged."""
    before = Identity(device_id=DEVICE, user_id="anna", source="cookie", vouched=True)
    login = log_in("original", before, "bert", linked=False, fresh_device_id="fresh")
    assert (login.identity.device_id, login.identity.user_id) == ("fresh", "bert")
    assert login.properties["$anon_id"] == "$device:fresh"


def test_log_out_forgets_user_and_device():
    """The next person on this browser is somebody new."""
    after = log_out(Identity(device_id=DEVICE, user_id="anna", source="cookie"), "fresh")
    assert (after.device_id, after.user_id, after.source, after.is_new) == ("fresh", None, "generated", True)


@pytest.mark.parametrize(
    ("given", "expected"),
    [("$device:abc", "$device:abc"), (DEVICE, f"$device:{DEVICE}"), ("user-42", "user-42")],
)
def test_an_id_outside_of_a_request_is_read(given, expected):
    """`tracker.visitor` takes visitor IDs and user IDs."""
    assert distinct_id(from_any_id(given)) == expected


@pytest.mark.parametrize("banned", VECTORS["mixpanel_disallowed_ids"])
@pytest.mark.parametrize("dress", [str, str.upper, lambda s: "$device:" + s, lambda s: f" {s} "])
def test_disallowed_ids_are_refused(banned, dress):
    """Mixpanel's 17, in any case and behind the device prefix."""
    assert refusal(dress(banned)) is not None


@pytest.mark.parametrize("bad", ["", "  ", "x" * 256, "\ud800", chr(0xDFFF), None, 42, b"x"])
def test_what_is_no_id_is_refused_with_a_reason(bad):
    """The message is for the developer, so there always is one."""
    assert len(refusal(bad)) > 10


@pytest.mark.parametrize(
    "good", ["user-42", "42", "anna@example.com", "Łódź", f"$device:{DEVICE}", "x" * 255]
)
def test_ordinary_ids_are_fine(good):
    """Applications' own IDs have any form."""
    assert refusal(good) is None


def test_with_a_spid_uid_no_device_is_named():
    """The uid is the visitor throughout; a device beside it would start a merge."""
    properties = identity_properties("spid", Identity(device_id=DEVICE, user_id="uid"))
    assert properties == {"distinct_id": "uid", "$user_id": "uid"}


def test_a_fresh_device_is_new_and_vouched_for():
    """Log-out and the log-in of somebody else make a device ID here, so this host answers for it."""
    known = Identity(device_id=DEVICE, user_id="anna", source="cookie")
    other = log_in("simplified", known, "bert", linked=False, fresh_device_id="fresh").identity
    assert (other.source, other.vouched, other.is_new) == ("generated", True, True)
    assert log_out(known, "fresh").vouched


def test_an_id_outside_of_a_request_is_not_vouched_for():
    """Nobody has seen it in a cookie here, and nobody has made it now."""
    identity = from_any_id(DEVICE)
    assert not identity.vouched
    assert not identity.is_new


def test_without_a_device_there_is_nothing_to_link():
    """Original mode sends no `$identify` for a job that only knows the user."""
    login = log_in("original", Identity(device_id=None), "u", linked=False, fresh_device_id=None)
    assert login.event is None


@pytest.mark.parametrize(
    ("given", "device_id"),
    [
        ("$device:abc", "abc"),
        (DEVICE, DEVICE),
        (DEVICE.upper(), DEVICE.upper()),
        (DEVICE.replace("6", "g"), None),
        (DEVICE.replace("-", ""), None),
    ],
)
def test_what_is_taken_for_a_device_outside_of_a_request(given, device_id):
    """The prefix, or 8-4-4-4-12 hexadecimal digits; all else is a user's ID."""
    assert from_any_id(given).device_id == device_id
