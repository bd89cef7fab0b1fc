"""What the store keeps, counts and tells."""

from __future__ import annotations

import logging
import sys
import uuid
from typing import Any

import orjson
import pytest

from mixpanel_visitor.emulator.model import Person, ProfileChange, Rejection, StoredEvent
from mixpanel_visitor.emulator.profiles import Update
from mixpanel_visitor.emulator.rules import Event
from mixpanel_visitor.emulator.store import MAX_PATHS, MAX_REJECTIONS, Store


def make(number: int, properties: bytes = b"{}") -> Event:
    """Make an event with this number for time and ID."""
    return Event(name="a", time_ms=number, distinct_id="u", insert_id=f"i-{number}", properties=properties)


@pytest.fixture
def store():
    """Return a store that keeps three events."""
    return Store(max_events=3, now_ms=lambda: 1_000)


def test_only_the_last_events_are_kept_and_all_are_counted(store):
    """The bound is on what can be listed."""
    store.add_events("import", [make(number) for number in range(5)])
    assert [each.event.insert_id for each in store.events()] == ["i-2", "i-3", "i-4"]
    stats = store.stats()
    assert (stats["received"], stats["unique"], stats["retained"]) == (5, 5, 3)


def test_large_events_push_out_more_than_their_number():
    """Any website may send to a local Mixpanel, so that the memory is bounded by bytes as well."""
    store = Store(max_bytes=10_000, now_ms=lambda: 1_000)
    store.add_events("import", [said(number, text="x" * 4_000) for number in range(5)])
    assert [each.event.insert_id for each in store.events()] == ["i-3", "i-4"]
    store.add_events("import", [said(9, text="x" * 20_000)])
    assert store.events() == []
    store.add_events("import", [said(10)])
    assert [each.event.insert_id for each in store.events()] == ["i-10"]


def test_a_duplicate_that_has_grown_counts_with_its_new_size():
    """The latest delivery is what is kept."""
    store = Store(max_bytes=10_000, now_ms=lambda: 1_000)
    store.add_events("import", [said(1), said(2, text="x" * 4_000)])
    store.add_events("import", [said(2, text="x" * 9_000), said(3, text="x" * 2_000)])
    assert [each.event.insert_id for each in store.events()] == ["i-3"]


def test_large_profiles_push_out_older_ones():
    """Half of the bytes are for profiles; one that shrinks or is deleted frees its own."""
    store = Store(max_bytes=10_000, now_ms=lambda: 1_000)
    store.add_updates("engage", [update(f"u-{number}", text="x" * 2_000) for number in range(4)])
    assert [each.profile_id for each in store.profiles()] == ["u-2", "u-3"]
    store.add_updates("engage", [update("u-3", text="x"), update("u-4", text="x" * 2_000)])
    assert [each.profile_id for each in store.profiles()] == ["u-2", "u-3", "u-4"]


def test_ids_that_are_longer_than_any_id_are_not_joined():
    """The tables of joined IDs are bounded by number, so each of them must be small."""
    for id_merge, names in [("simplified", ("device", "user")), ("legacy", ("distinct_id", "alias"))]:
        store = Store(now_ms=lambda: 1_000, id_merge=id_merge)
        long = dict.fromkeys(names, "x" * 5_000)
        store.add_events("import", [said(1, "$create_alias" if id_merge == "legacy" else "a", **long)])
        (person,) = store.people()
        assert person.ids == (person.person,)


def test_an_event_that_was_pushed_out_is_still_known(store):
    """A late duplicate is one, and a late change too."""
    store.add_events("import", [make(number) for number in range(5)])
    store.add_events("import", [make(0), make(1, b'{"a":1}')])
    stats = store.stats()
    assert (stats["unique"], stats["duplicates"], stats["altered"]) == (5, 2, 1)
    assert [each.event.insert_id for each in store.events()] == ["i-2", "i-3", "i-4"]


def test_an_event_that_was_pushed_out_frees_its_memory(store):
    """Only what is needed to know it again stays."""
    event = make(0)
    before = sys.getrefcount(event)
    store.add_events("import", [event])
    store.add_events("import", [make(number) for number in range(1, 5)])
    assert sys.getrefcount(event) == before


def test_numbers_run_in_the_order_of_arrival(store):
    """A duplicate has the number of the first."""
    store.add_events("import", [make(7), make(8), make(7), make(9)])
    assert [(each.number, each.deliveries) for each in store.events()] == [(1, 2), (2, 1), (3, 1)]


def test_reset_forgets_everything(store):
    """Counts, events, profiles, refusals and requests."""
    store.add_events("import", [make(1)])
    store.add_updates(
        "engage", [Update(token="t", group_key="", profile_id="u", operation="$set", operand={})]
    )
    store.reject([Rejection(endpoint="import", status=400, message="no", index=0)])
    store.count_request("/import", 200)
    store.reset()
    assert store.events() == store.profiles() == store.groups() == store.rejections() == []
    assert store.people() == []
    assert all(not value for value in store.stats().values())


def test_the_number_of_refusals_that_are_kept_is_bounded(store):
    """All are counted."""
    refusals = [
        Rejection(endpoint="import", status=400, message="no", index=n) for n in range(MAX_REJECTIONS + 5)
    ]
    store.reject(refusals)
    assert len(store.rejections()) == MAX_REJECTIONS
    assert store.rejections(limit=1) == refusals[-1:]
    assert store.stats()["rejected"] == MAX_REJECTIONS + 5


def test_the_number_of_paths_that_are_counted_is_bounded(store):
    """A scanner cannot fill the memory."""
    for number in range(MAX_PATHS + 50):
        store.count_request(f"/{number}", 404)
    requests = store.stats()["requests"]
    assert len(requests) == MAX_PATHS + 1
    assert requests["(other)"] == {"404": 50}


def test_the_number_of_profiles_is_bounded(store):
    """The one that was updated longest ago goes first."""
    updates = [
        Update(token="t", group_key="", profile_id=each, operation="$set", operand={})
        for each in ("a", "b", "c", "a", "d")
    ]
    store.add_updates("engage", updates)
    assert [profile.profile_id for profile in store.profiles()] == ["c", "a", "d"]


def test_a_listener_is_told_of_everything(store):
    """Events with their deliveries, updates and refusals, request by request."""
    heard = []
    stop = store.subscribe(heard.append)
    update = Update(token="t", group_key="", profile_id="u", operation="$set", operand={})
    store.add_events("track", [make(1), make(1)])
    store.add_updates("engage", [update])
    store.reject([Rejection(endpoint="track", status=400, message="no", index=0)])
    stop()
    store.add_events("track", [make(2)])
    assert [[type(each) for each in arrivals] for arrivals in heard] == [
        [StoredEvent, StoredEvent],
        [ProfileChange],
        [Rejection],
    ]
    assert [each.deliveries for each in heard[0]] == [1, 2]


def test_a_listener_that_fails_harms_nobody(store, caplog):
    """It is logged, and what arrived is stored."""

    def fail(_arrivals):
        raise ValueError("listener")

    store.subscribe(fail)
    with caplog.at_level(logging.ERROR):
        store.add_events("import", [make(1)])
    assert len(store.events()) == 1
    assert "listener" in caplog.text


def test_a_store_keeps_at_least_one_event():
    """Zero is a mistake."""
    with pytest.raises(ValueError, match="max_events"):
        Store(max_events=0)


def said(number: int, name: str = "a", **properties: Any) -> Event:
    """Make an event with this number and these properties; `device` and `user` are the two of identity."""
    names = {"device": "$device_id", "user": "$user_id", "pair": "$distinct_ids"}
    encoded = orjson.dumps({names.get(key, key): value for key, value in properties.items()})
    return Event(name=name, time_ms=number, distinct_id="", insert_id=f"i-{number}", properties=encoded)


def update(profile_id: str, **properties: Any) -> Update:
    """Make a `$set` of a person's profile."""
    return Update(token="t", group_key="", profile_id=profile_id, operation="$set", operand=properties)


def persons(store: Store) -> list[str | None]:
    """Return whose the listed events are."""
    return [each.person for each in store.events()]


def test_whose_an_event_is_changes_with_what_comes_later(store):
    """The anonymous one is the user's once they are joined."""
    store.add_events("import", [said(1, device="D"), said(2)])
    assert persons(store) == ["$device:D", None]
    store.add_events("track", [said(3, device="D", user="u")])
    assert persons(store) == ["u", None, "u"]
    assert [each.own_id for each in store.events()] == ["$device:D", None, "u"]


def test_a_duplicate_joins_nothing(store):
    """Not even if it says more than the first one."""
    store.add_events("import", [said(1, device="D"), said(1, device="D", user="u")])
    assert persons(store) == ["$device:D"]
    assert store.people() == [Person(person="$device:D", ids=("$device:D",), events=1)]


def test_the_reason_why_an_event_joined_nothing_is_kept(store):
    """With the event."""
    store.add_events("import", [said(1, device="D", user="a"), said(2, device="D", user="b")])
    assert [each.identity_failure for each in store.events()] == [None, "errAnonDistinctIdAssignedAlready"]


def test_properties_need_not_be_parsed_again(store):
    """Who has them gives them."""
    store.add_events("import", [make(1), make(2)], [{"distinct_id": "a"}, {"distinct_id": "b"}])
    assert persons(store) == ["a", "b"]


def test_a_merge_counts_where_it_was_sent_to():
    """Only `/import` takes it."""
    store = Store(id_merge="original")
    store.add_events("track", [said(1, "$merge", distinct_id="a", pair=["a", "b"]), said(2, distinct_id="b")])
    assert persons(store) == ["a", "b"]
    store.add_events("import", [said(3, "$merge", distinct_id="a", pair=["a", "b"])])
    assert persons(store) == ["a", "a", "a"]


def test_people_are_those_of_the_kept_events(store):
    """The one seen last is last; joins are known although their events were pushed out."""
    store.add_events(
        "import",
        [
            said(1, device="D", user="u"),
            said(2, device="D"),
            said(3, distinct_id="v"),
            said(4, distinct_id="w"),
            said(5, device="D"),
        ],
    )
    v, w, u = (
        Person(person="v", ids=("v",), events=1),
        Person(person="w", ids=("w",), events=1),
        Person(person="u", ids=("$device:D",), events=1),
    )
    assert store.people() == [v, w, u]
    assert store.people(limit=2) == [w, u]


def test_the_ids_of_an_event_that_was_pushed_out_free_their_memory(store):
    """A million late duplicates may be known."""
    own_id = str(uuid.uuid4())
    before = sys.getrefcount(own_id)
    store.add_events("import", [make(1)], [{"distinct_id": own_id}])
    for number in range(2, 6):
        store.add_events("import", [make(number)], [{"distinct_id": f"u-{number}"}])
    assert sys.getrefcount(own_id) == before


def test_a_listener_is_told_whose_an_event_is(store):
    """As far as is known then; not of a late duplicate of one that was pushed out."""
    heard: list[Any] = []
    store.subscribe(heard.extend)
    store.add_events("import", [said(1, device="D"), said(2, device="D", user="u"), said(3, device="D")])
    store.add_events("import", [said(4), said(1, device="D")])
    assert [each.person for each in heard] == ["$device:D", "u", "u", None, None]


def test_reset_forgets_who_is_who():
    """The ID merge stays."""
    store = Store(id_merge="legacy")
    store.add_events("track", [said(1, "$create_alias", distinct_id="D", alias="u")])
    store.reset()
    store.add_events("track", [said(1, distinct_id="u")])
    assert persons(store) == ["u"]
    assert store.id_merge == "legacy"


def test_an_id_merge_that_does_not_exist_is_a_mistake():
    """The error names those that do."""
    with pytest.raises(ValueError, match="'simplified', 'original', 'legacy', not 'none'"):
        Store(id_merge="none")
