"""Identity: the properties that make browser and backend one person."""

import pytest
from support.facts import VECTORS

from mixpanel_visitor.core.identity.identity import (
    Identity,
    MergeEvent,
    alias_properties,
    distinct_id,
    from_any_id,
    id_refusal,
    identity_properties,
    log_in,
    log_out,
    merge_events_between,
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
    identity = Identity(device_id=case.get("device_id"), user_id=case.get("user_id"), uid=case.get("uid"))
    assert identity_properties(case["mode"], identity) == case["properties"]


def vector(event):
    (case,) = [case for case in VECTORS["mixpanel_server_identity"] if case.get("event") == event]
    return case


def test_original_mode_sends_identify_once():
    """The vector of the log-in event in Original projects."""
    case = vector("$identify")
    before = Identity(device_id=case["device_id"])
    login = log_in("original", before, case["user_id"], linked=False, fresh_device_id=None)
    assert (login.merge_events, login.merge) == (
        (MergeEvent(event="$identify", properties=case["properties"]),),
        None,
    )
    again = log_in("original", login.identity, case["user_id"], linked=True, fresh_device_id=None)
    assert (again.merge_events, again.merge) == ((), None)


def test_simplified_mode_joins_by_the_properties_of_any_event():
    """So an event of its own is only owed where no other follows; `$identify` is ignored there."""
    login = log_in("simplified", Identity(device_id=DEVICE), "u", linked=False, fresh_device_id=None)
    assert login.merge_events == ()
    assert login.merge.event == "Visitor identified"
    assert login.merge.properties == {"$device_id": DEVICE, "$user_id": "u", "distinct_id": "u"}


def test_a_project_that_counts_by_uid_may_merge_in_either_way():
    """It is told in both; each ignores the other's."""
    merge_events = merge_events_between("spid", "uid", DEVICE)
    assert [link.event for link in merge_events] == ["$identify", "Visitor identified"]
    assert merge_events[0].properties == {
        "distinct_id": "uid",
        "$identified_id": "uid",
        "$anon_id": f"$device:{DEVICE}",
    }
    assert merge_events[1].properties == {"distinct_id": "uid", "$device_id": DEVICE, "$user_id": "uid"}


@pytest.mark.parametrize("mode", ["legacy", "spid"])
def test_other_modes_send_no_identity_event(mode):
    """Legacy wants an explicit alias, and SPiD's uid stays before and after log-in."""
    login = log_in(mode, Identity(device_id=DEVICE), "u", linked=False, fresh_device_id=None)
    assert (login.merge_events, login.merge) == ((), None)


def test_legacy_registration_vector():
    """A legacy project is told once, at registration, which user a distinct ID became."""
    case = vector("$create_alias")
    before = Identity(device_id=case["device_id"])
    assert alias_properties("legacy", before, case["user_id"]) == case["properties"]


def test_spid_counts_by_the_uid_whoever_is_logged_in():
    """No log-in changes what the events carry, with a uid and before there is one."""
    known = Identity(device_id=DEVICE, uid="1ab2c3Xt3n8cgX0zk9m4")
    for before in (known, Identity(device_id=DEVICE)):
        login = log_in("spid", before, "u", linked=False, fresh_device_id="fresh")
        assert identity_properties("spid", login.identity) == identity_properties("spid", before)


def devices(merge_events):
    """The devices that the links join to a user."""
    return [
        link.properties.get("$device_id") or link.properties["$anon_id"].removeprefix("$device:")
        for link in merge_events
    ]


@pytest.mark.parametrize("mode", ["simplified", "original"])
def test_an_earlier_device_is_joined_as_well(mode):
    """What we tracked before the browser's own ID was known becomes the user's at log-in."""
    login = log_in(
        mode, Identity(device_id=DEVICE), "u", linked=False, fresh_device_id=None, earlier_id="earlier"
    )
    assert devices(login.merge_events)[0] == "earlier"
    assert login.merge_events[0].properties["distinct_id"] == "u"


def test_another_user_does_not_inherit_an_earlier_device():
    """It was the first user's visit."""
    before = Identity(device_id=DEVICE, user_id="anna")
    login = log_in("original", before, "bert", linked=False, fresh_device_id="fresh", earlier_id="earlier")
    assert devices(login.merge_events) == ["fresh"]


def test_a_bare_id_stays_bare():
    """What an old release of the SDK sends without the prefix, we send without it, to agree."""
    identity = Identity(device_id=DEVICE, unprefixed=True)
    assert identity_properties("simplified", identity) == {"distinct_id": DEVICE, "$device_id": DEVICE}
    login = log_in("original", identity, "u", linked=False, fresh_device_id=None)
    assert login.merge_events[0].properties["$anon_id"] == DEVICE
    assert log_out(identity, "fresh").unprefixed is False


def test_another_user_starts_with_a_new_device():
    """Two users of one device are never merged."""
    before = Identity(device_id=DEVICE, user_id="anna", source="cookie", vouched=True)
    login = log_in("original", before, "bert", linked=False, fresh_device_id="fresh")
    assert (login.identity.device_id, login.identity.user_id) == ("fresh", "bert")
    assert devices(login.merge_events) == ["fresh"]


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
    assert distinct_id("simplified", from_any_id("simplified", given)) == expected


def test_an_id_outside_of_a_request_may_be_a_uid():
    """In ID mode `spid` what is no device is SPiD's."""
    assert from_any_id("spid", "1ab2c3Xt3n8cgX0zk9m4").uid == "1ab2c3Xt3n8cgX0zk9m4"


@pytest.mark.parametrize("banned", VECTORS["mixpanel_disallowed_ids"])
@pytest.mark.parametrize("dress", [str, str.upper, lambda s: "$device:" + s, lambda s: f" {s} "])
def test_disallowed_ids_are_refused(banned, dress):
    """Mixpanel's 17, in any case and behind the device prefix."""
    assert id_refusal(dress(banned)) is not None


@pytest.mark.parametrize("bad", ["", "  ", "x" * 256, "\ud800", chr(0xDFFF), None, 42, b"x"])
def test_what_is_no_id_is_refused_with_a_reason(bad):
    """The message is for the developer, so there always is one."""
    assert len(id_refusal(bad)) > 10


@pytest.mark.parametrize(
    "good", ["user-42", "42", "anna@example.com", "Łódź", f"$device:{DEVICE}", "x" * 255]
)
def test_ordinary_ids_are_fine(good):
    """Applications' own IDs have any form."""
    assert id_refusal(good) is None


def test_with_a_spid_uid_no_device_is_named():
    """The uid is the visitor throughout; a device beside it would start a merge."""
    properties = identity_properties("spid", Identity(device_id=DEVICE, user_id="u", uid="uid"))
    assert properties == {"distinct_id": "uid", "$user_id": "uid"}


def test_a_fresh_device_is_new_and_vouched_for():
    """Log-out and the log-in of somebody else make a device ID here, so this host answers for it."""
    known = Identity(device_id=DEVICE, user_id="anna", source="cookie")
    other = log_in("simplified", known, "bert", linked=False, fresh_device_id="fresh").identity
    assert (other.source, other.vouched, other.is_new) == ("generated", True, True)
    assert log_out(known, "fresh").vouched


def test_an_id_outside_of_a_request_is_not_vouched_for():
    """Nobody has seen it in a cookie here, and nobody has made it now."""
    identity = from_any_id("simplified", DEVICE)
    assert not identity.vouched
    assert not identity.is_new


def test_without_a_device_there_is_nothing_to_link():
    """Original mode sends no `$identify` for a job that only knows the user."""
    login = log_in("original", Identity(device_id=None), "u", linked=False, fresh_device_id=None)
    assert (login.merge_events, login.merge) == ((), None)


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
    assert from_any_id("simplified", given).device_id == device_id


def test_a_device_that_is_the_browsers_word_is_not_joined_yet():
    """Only the earlier one is, which was ours."""
    before = Identity(device_id=DEVICE, device_unverified=True)
    login = log_in("original", before, "u", linked=False, fresh_device_id=None, earlier_id="earlier")
    assert devices(login.merge_events) == ["earlier"]
    login = log_in("simplified", before, "u", linked=False, fresh_device_id=None)
    assert (login.merge_events, login.merge) == ((), None)
    assert identity_properties("simplified", login.identity) == {"distinct_id": "u", "$user_id": "u"}
