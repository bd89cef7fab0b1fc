"""Whose an event is, under each of Mixpanel's ways to merge IDs."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.people import (
    U2,
    U,
    alias,
    anon,
    browser_identify,
    event,
    failures,
    identify,
    in_any_order,
    merge,
    persons,
)

from mixpanel_visitor.emulator.people import ID_MERGES, People
from mixpanel_visitor.emulator.union_find import UnionFind

# --- Simplified ID Merge ---------------------------------------------------------------------


@in_any_order(
    event(device="D"),
    event(distinct_id="$device:D"),
    event(device="D", user="u"),
    event(user="u"),
    event(distinct_id="u"),
)
def test_an_event_with_both_joins_the_device_to_the_user(sent):
    """Whenever it comes, also for what came before it."""
    assert persons("simplified", *sent) == ["u"] * 5


@in_any_order(
    event(device="D"), event(device="D2"), event(device="D", user="u"), event(device="D2", user="u")
)
def test_a_user_may_have_several_devices(sent):
    """All of them are the user's."""
    assert persons("simplified", *sent) == ["u"] * 4


def test_the_browser_s_and_the_server_s_events_of_a_journey_are_one_person():
    """Anonymous, logged in, and with another device after the logout."""
    browser = {"device": U, "distinct_id": f"$device:{U}"}
    logged_in = {"device": U, "user": "u", "distinct_id": "u"}
    assert persons(
        "simplified",
        event(**browser),
        event(device=U),
        browser_identify("u", f"$device:{U}"),
        event(**logged_in),
        event(device=U, user="u"),
        event(device=U2, distinct_id=f"$device:{U2}"),
    ) == ["u"] * 5 + [f"$device:{U2}"]


def test_a_device_stays_with_its_first_user():
    """A second one's event is the second one's, with a reason; anonymous ones stay the first one's."""
    sent = [event(device="D", user="a"), event(device="D", user="b"), event(device="D")]
    assert persons("simplified", *sent) == ["a", "b", "a"]
    assert failures("simplified", *sent) == [None, "errAnonDistinctIdAssignedAlready", None]


def test_a_device_that_comes_with_its_user_again_is_no_failure():
    """Every event of a logged-in user has both."""
    assert failures("simplified", *[event(device="D", user="u")] * 3) == [None] * 3


def test_users_never_merge():
    """Not by the devices that they share."""
    sent = [event(device=device, user=user) for device in "DE" for user in "ab"]
    assert persons("simplified", *sent) == ["a", "b", "a", "b"]


def test_the_distinct_id_is_overridden():
    """By the user, else by the device."""
    assert persons(
        "simplified",
        event(distinct_id="other", user="u"),
        event(distinct_id="other", device="D"),
        event(distinct_id="other", device="D", user="u2"),
    ) == ["u", "u2", "u2"]


def test_a_distinct_id_alone_is_a_device_only_with_the_prefix():
    """A bare one is a user of its own, with which its device cannot merge any more."""
    sent = [event(distinct_id=U), event(device=U, user="u"), event(distinct_id=f"$device:{U}")]
    assert persons("simplified", *sent) == [U, "u", "u"]


def test_a_device_id_gets_the_prefix_even_if_it_has_it():
    """Whoever sends the browser's distinct ID as its device ID sends another device."""
    sent = [event(device="D", user="u"), event(device="$device:D")]
    assert persons("simplified", *sent) == ["u", "$device:$device:D"]


def test_a_device_is_not_a_user_of_the_same_name():
    """The documentation's example is a phone number."""
    sent = [event(device="+6512345678", user="charlie"), event(user="+6512345678")]
    assert persons("simplified", *sent) == ["charlie", "+6512345678"]


@pytest.mark.parametrize(
    "identity",
    [
        browser_identify("u", f"$device:{U}"),
        identify("u", U),
        ("$create_alias", {"distinct_id": f"$device:{U}", "alias": "u", "$device_id": U, "$user_id": "u"}),
        ("$merge", {"$distinct_ids": [f"$device:{U}", "u"], "$device_id": U, "$user_id": "u"}),
    ],
)
def test_identity_events_join_nothing(identity):
    """They are ignored, even with both properties; the next event joins."""
    people = People("simplified")
    assert persons(people, event(device=U), identity, event(user="u")) == [f"$device:{U}", "u", "u"]
    assert persons(people, event(device=U, user="u"), event(device=U)) == ["u", "u"]


def test_a_user_may_have_more_than_500_devices():
    """There is no limit."""
    sent = [event(device=f"D{number}", user="u") for number in range(600)]
    assert failures("simplified", *sent) == [None] * 600
    assert persons("simplified", *sent, event(device="D599"))[-1] == "u"


def test_nothing_is_joined_to_a_user_that_looks_like_a_device():
    """The browser SDK refuses such a user; it is the device."""
    sent = [event(device="D", user="$device:E"), event(device="D"), event(device="E", user="u")]
    assert persons("simplified", *sent) == ["u", "$device:D", "u"]


# --- no ID merge -----------------------------------------------------------------------------


def test_an_alias_maps_what_comes_later():
    """What came under it before stays a person of its own: the race that the documentation warns of."""
    sent = [event(distinct_id="u"), event(distinct_id="D"), alias("u", "D"), event(distinct_id="u")]
    assert persons("legacy", *sent) == ["u", "D", "D", "D"]


def test_an_alias_maps_once():
    """A second device of the same user is an orphan; the same mapping again is harmless."""
    sent = [alias("u", "D"), alias("u", "D"), alias("u", "E"), event(distinct_id="E"), event(distinct_id="u")]
    assert failures("legacy", *sent) == [None, None, "errAliasAlreadyExists", None, None]
    assert persons("legacy", *sent)[-2:] == ["E", "D"]


@in_any_order(alias("a", "D"), alias("b", "a"), alias("c", "b"))
def test_aliases_may_be_chained(sent):
    """In any order."""
    shown = persons("legacy", *sent, *(event(distinct_id=each) for each in "abcD"))
    assert shown[-4:] == ["D"] * 4


def test_aliases_do_not_go_round_in_a_circle():
    """What would close it maps nothing."""
    sent = [alias("a", "a"), alias("a", "D"), alias("D", "a"), event(distinct_id="a"), event(distinct_id="D")]
    assert persons("legacy", *sent)[-2:] == ["D", "D"]


@pytest.mark.parametrize(
    "ignored",
    [
        identify("u", U),
        browser_identify("u", f"$device:{U}"),
        merge("u", f"$device:{U}"),
        event(distinct_id="u", device=U, user="u"),
    ],
)
def test_nothing_else_maps_under_legacy(ignored):
    """No `$identify`, no `$merge`, no properties."""
    sent = [ignored, event(distinct_id=f"$device:{U}"), event(distinct_id=U)]
    assert persons("legacy", *sent) == ["u", f"$device:{U}", U]


# --- all of them -----------------------------------------------------------------------------


@pytest.mark.parametrize("id_merge", ID_MERGES)
@pytest.mark.parametrize("properties", [{}, {"distinct_id": ""}, {"distinct_id": None}, {"distinct_id": 5}])
def test_an_event_without_a_distinct_id_is_nobody_s(id_merge, properties):
    """Two of them are not one person."""
    assert People(id_merge).record_event("Job done", properties) == (None, None)


@pytest.mark.parametrize("value", ["", None, 5, True, ["u"], {"u": 1}])
def test_what_is_not_a_string_is_no_id(value):
    """The distinct ID counts then."""
    assert persons("simplified", event(distinct_id="u", user=value, device=value)) == ["u"]
    assert persons("simplified", event(user="u", device=value)) == ["u"]


def test_another_way_to_merge_is_a_mistake():
    """The ways that there are, are named."""
    with pytest.raises(ValueError, match="'simplified', 'original', 'legacy', not 'spid'"):
        People("spid")


def test_persons_are_listed_with_their_ids():
    """The one seen last is last, and IDs without an event are in it too."""
    people = People("original")
    sent = [
        event(distinct_id="a"),
        event(distinct_id="b"),
        identify("a", f"$device:{U}"),
        event(distinct_id="c"),
    ]
    own_ids = [people.record_event(*each)[0] for each in sent]
    found = people.persons([*own_ids, "b", None])
    assert [(each.person, each.ids, each.events) for each in found] == [
        ("a", ("a", f"$device:{U}"), 2),
        ("c", ("c",), 1),
        ("b", ("b",), 2),
    ]


@pytest.mark.parametrize(
    ("id_merge", "ids"),
    [("simplified", ("u", "$device:D")), ("original", ("u",)), ("legacy", ("u",))],
)
def test_joined_devices_are_listed_as_mixpanel_stores_them(id_merge, ids):
    """With the prefix."""
    people = People(id_merge)
    own_id, _failure = people.record_event(*event(distinct_id="u", device="D", user="u"))
    (found,) = people.persons([own_id])
    assert found.ids == ids


def test_an_alias_is_listed_with_what_it_is_mapped_to():
    """Although no event is stored under it."""
    people = People("legacy")
    own_ids = [people.record_event(*each)[0] for each in (alias("u", "D"), event(distinct_id="u"))]
    (found,) = people.persons(own_ids)
    assert (found.person, found.ids, found.events) == ("D", ("D", "u"), 2)


@pytest.mark.parametrize(
    ("id_merge", "join"),
    [
        ("simplified", lambda n: event(device=anon(n)[8:], user=f"u{n}", distinct_id=f"u{n}")),
        ("original", lambda n: identify(f"u{n}", anon(n))),
        ("legacy", lambda n: alias(anon(n), f"u{n}")),
    ],
)
def test_what_was_joined_first_is_forgotten_first(id_merge, join):
    """The memory is bounded."""
    people = People(id_merge, max_ids=30)
    for number in range(100):
        people.record_event(*join(number))
    known = [
        number for number in range(100) if persons(people, event(distinct_id=anon(number))) != [anon(number)]
    ]
    assert known
    assert known == list(range(100 - len(known), 100))
    assert len(known) <= 30


def test_what_was_forgotten_does_not_count():
    """Nor does it come back when its cluster is joined to another."""
    clusters = UnionFind(max_ids=4, max_size=4)
    assert all(clusters.join(*pair) for pair in [("b", "a"), ("c", "d"), ("c", "e")])
    (forgotten,) = set("abcde") - {each for each, _person in clusters.members()}
    (other,) = set("ab") - {forgotten}
    assert clusters.join(other, "c")
    assert {each for each, _person in clusters.members()} == set("abcde") - {forgotten}
    assert not clusters.join("d", "f")


@pytest.mark.parametrize(
    ("id_merge", "sent"),
    [
        ("simplified", lambda n: event(device=f"D{n}", user="u", distinct_id="u")),
        ("original", lambda n: merge(f"a{n}", f"a{n + 1}")),
        ("legacy", lambda n: alias(f"a{n}", f"a{n + 1}")),
        ("legacy", lambda n: alias(f"a{n + 1}", f"a{n}")),
    ],
)
def test_a_hundred_thousand_events_are_taken(id_merge, sent):
    """Long chains included; were it quadratic, it would not end in the time that a test has."""
    people = People(id_merge)
    own_ids = [people.record_event(*sent(number))[0] for number in range(100_000)]
    assert sum(person.events for person in people.persons(own_ids)) == 100_000


ids = st.sampled_from(["a", "b", "c", U, f"$device:{U}", U2, f"$device:{U2}"])
junk = st.sampled_from(["", "$device:", None, 5, 1.5, True, [], ["a"], ["a", 5], {"a": "b"}])
keys = [
    "distinct_id",
    "$device_id",
    "$user_id",
    "$identified_id",
    "$anon_id",
    "$anon_distinct_id",
    "alias",
    "$distinct_ids",
]
any_events = st.lists(
    st.builds(event, distinct_id=ids)
    | st.builds(event, device=ids, user=ids)
    | st.builds(identify, ids, ids)
    | st.builds(browser_identify, ids, ids)
    | st.builds(alias, ids, ids)
    | st.builds(merge, ids, ids)
    | st.tuples(
        st.sampled_from(["Page viewed", "$identify", "$create_alias", "$merge"]),
        st.dictionaries(st.sampled_from(keys), ids | junk, max_size=5),
    ),
    max_size=30,
)


@pytest.mark.parametrize("id_merge", ID_MERGES)
@given(sent=any_events)
@settings(deadline=None)
def test_persons_partition_the_events(id_merge, sent):
    """Whatever comes, it does not raise, and each event but nobody's is of one person with its own IDs."""
    people = People(id_merge)
    own_ids = [people.record_event(name, properties)[0] for name, properties in sent]
    known = [own_id for own_id in own_ids if own_id is not None]
    found = people.persons(own_ids)
    assert sum(person.events for person in found) == len(known)
    assert len(found) == len({people.canonical_id(each) for each in known})
    for person in found:
        own = [each for each in known if people.canonical_id(each) == person.person]
        assert person.events == len(own)
        assert set(own) <= set(person.ids)
        assert people.canonical_id(person.person) == person.person
    if id_merge != "legacy":  # there an alias may be a person with a past of its own
        everyones = [each for person in found for each in person.ids]
        assert len(everyones) == len(set(everyones))


@pytest.mark.parametrize("id_merge", ID_MERGES)
@given(sent=any_events, max_ids=st.integers(1, 4))
@settings(deadline=None)
def test_forgetting_does_not_break_it(id_merge, sent, max_ids):
    """Each event still is somebody's."""
    people = People(id_merge, max_ids=max_ids)
    own_ids = [people.record_event(name, properties)[0] for name, properties in sent]
    assert sum(person.events for person in people.persons(own_ids)) == len([each for each in own_ids if each])


@given(pairs=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=30))
@settings(deadline=None)
def test_merged_persons_are_the_connected_ids(pairs):
    """As a search through all pairs finds them."""
    people = People("original")
    for first, second in pairs:
        people.record_event(*merge(f"{first}", f"{second}"))
    for start in range(13):
        reached = {start}
        for _round in range(13):
            reached |= {b for a, b in pairs if a in reached} | {a for a, b in pairs if b in reached}
        same = {
            each for each in range(13) if people.canonical_id(f"{each}") == people.canonical_id(f"{start}")
        }
        assert same == reached
