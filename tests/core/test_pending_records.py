"""PendingRecords: what waits for its visitor to be remembered, and what becomes of it if that fails."""

from collections import Counter

import orjson
import pytest

from mixpanel_visitor.core.pending_records import PendingRecords, without_devices
from mixpanel_visitor.records import Record

FRESH = "6f1c2a3b-4d5e-4f60-8a7b-9c0d1e2f3a4b"


def event(**properties):
    return Record("import", orjson.dumps({"event": "x", "properties": {"$insert_id": "i", **properties}}))


def anonymous(device_id=FRESH):
    return event(**{"distinct_id": f"$device:{device_id}", "$device_id": device_id})


def profile(distinct_id):
    return Record("engage", orjson.dumps({"$distinct_id": distinct_id, "$set": {"a": 1}}))


def properties(record):
    return orjson.loads(record.body)["properties"]


@pytest.fixture
def refused():
    return Counter()


@pytest.fixture
def held(refused):
    def refuse(reason, number):
        refused[reason] += number

    return PendingRecords(refuse)


def test_without_a_fresh_id_nothing_waits(held):
    """A known visitor's records leave whenever somebody takes them."""
    held.add(anonymous("known"))
    assert not held.is_held
    assert held.take() == [anonymous("known")]


def test_a_fresh_id_waits_for_the_response(held):
    """Nothing leaves under an ID that may be worth nothing."""
    held.add_fresh_device(FRESH)
    held.add(anonymous())
    assert held.is_held
    assert held.take() == []
    held.decide(remembered=True)
    assert held.take() == [anonymous()]


def test_a_lost_id_makes_the_event_nobodys(held):
    """It keeps its name, time and insert ID, and belongs to no person."""
    held.add_fresh_device(FRESH)
    held.add(anonymous())
    held.decide(remembered=False)
    (record,) = held.take()
    assert properties(record) == {"$insert_id": "i", "distinct_id": ""}


def test_what_comes_later_is_nobodys_as_well(held):
    """A stream that goes on after its head is treated like what was tracked before it."""
    held.add_fresh_device(FRESH)
    held.decide(remembered=False)
    held.add(anonymous())
    assert properties(held.take()[0])["distinct_id"] == ""


def test_a_profile_of_nobody_is_refused(held, refused):
    """Mixpanel would make a person of it."""
    held.add_fresh_device(FRESH)
    held.add(profile(f"$device:{FRESH}"))
    held.decide(remembered=False)
    assert held.take() == []
    assert refused == {"no_visitor": 1}


def test_an_id_made_after_the_head_has_gone_is_lost(held):
    """The response has taken along what there was; what is made later comes too late."""
    held.add_fresh_device("first")
    held.decide(remembered=True)
    held.add_fresh_device(FRESH)
    held.add(anonymous())
    assert properties(held.take()[0])["distinct_id"] == ""


def test_the_size_follows_what_waits(held):
    """It decides about an early hand-over."""
    held.add_fresh_device(FRESH)
    held.add(anonymous())
    assert held.size_bytes == len(anonymous().body)
    held.decide(remembered=False)
    assert 0 < held.size_bytes < len(anonymous().body)
    held.take()
    assert held.size_bytes == 0


def test_forgetting_leaves_nothing(held):
    """In a forked child, what waits is the parent's."""
    held.add_fresh_device(FRESH)
    held.add(anonymous())
    held.forget()
    held.decide(remembered=True)
    assert (held.take(), held.size_bytes) == ([], 0)


@pytest.mark.parametrize(
    ("record", "left"),
    [
        (
            event(**{"distinct_id": "u", "$user_id": "u", "$device_id": FRESH}),
            {"$insert_id": "i", "distinct_id": "u", "$user_id": "u"},
        ),
        (event(**{"distinct_id": "u", "$anon_id": f"$device:{FRESH}"}), None),
        (
            event(distinct_id="", note=FRESH),
            {"$insert_id": "i", "distinct_id": "", "note": FRESH},
        ),
    ],
)
def test_what_a_logged_in_user_keeps(record, left):
    """The user is known whatever becomes of the device; nothing is joined to a device that is lost."""
    stripped = without_devices(record, frozenset([FRESH]))
    assert (None if stripped is None else properties(stripped)) == left


def test_a_users_profile_stays():
    """Only profiles of the lost device are refused."""
    record = profile("user-42")
    assert without_devices(record, frozenset([FRESH])) is record
