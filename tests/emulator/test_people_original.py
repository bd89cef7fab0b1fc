"""Whose an event is under Original ID Merge."""

from __future__ import annotations

import itertools
import uuid

import pytest
from support.people import (
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

from mixpanel_visitor.emulator.people import People


@pytest.mark.parametrize("spelled", [identify, browser_identify])
@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_an_identify_joins_the_anonymous_id_to_the_user(spelled, order):
    """Whenever it comes, as a server and as the browser SDK spells it."""
    sent = [
        event(distinct_id=f"$device:{U}", device=U),
        spelled("u", f"$device:{U}"),
        event(distinct_id="u"),
        event(distinct_id=f"$device:{U}"),
    ]
    assert len(set(persons("original", *(sent[index] for index in order)))) == 1


@pytest.mark.parametrize("named", [U, f"$device:{U}"])
def test_an_identify_means_the_anonymous_id_in_both_spellings(named):
    """The browser SDK's with the prefix, and the bare one of a server without a browser."""
    sent = [event(distinct_id=f"$device:{U}"), event(distinct_id=U), identify("u", named)]
    assert len(set(persons("original", *sent))) == 1


def test_an_identify_joins_both_spellings_with_what_they_were_merged_with():
    """Wherever they have been before."""
    people = People("original")
    failures(people, merge("a", U), merge("b", f"$device:{U}"), identify("u", U))
    assert len({people.canonical_id(each) for each in ("a", "b", "u", U, f"$device:{U}")}) == 1


def test_the_two_spellings_are_two_ids_without_an_identify():
    """Nothing says that Mixpanel takes the prefix away."""
    sent = [event(distinct_id=f"$device:{U}"), event(distinct_id=U)]
    assert persons("original", *sent) == [f"$device:{U}", U]


@pytest.mark.parametrize(
    "anon",
    [
        "1ab2c3Xt3n8cgX0zk9m4",
        "u-0",
        U.replace("-", ""),
        U + "\n",
        "$device:$device:" + U,
        str(uuid.UUID(int=1, version=1)),
        U.replace("-8", "-c"),
        "18f0c1d2e3f4a5-0a1b2c3d4e5f6a-1b2c3d4e-1fa400-18f0c1d2e3f4a6",
    ],
)
def test_the_anonymous_id_must_be_a_uuid4(anon):
    """Of version and variant too; with or without the prefix."""
    people = People("original")
    for each in (anon, f"$device:{anon}"):
        assert failures(people, identify("u", each)) == ["errAnonDistinctIdNonGUIDForm"]
        assert persons(people, event(distinct_id=each), event(distinct_id="u")) == [each, "u"]


def test_a_uuid4_may_be_in_upper_case():
    """As some SDKs make them."""
    assert failures("original", identify("u", U.upper())) == [None]


@pytest.mark.parametrize("again", [U, f"$device:{U}"])
def test_an_anonymous_id_is_given_to_one_user_only(again):
    """A second one gets nothing, in neither spelling; the first one may have it again."""
    people = People("original")
    assert failures(people, identify("a", f"$device:{U}"), identify("a", again)) == [None, None]
    assert failures(people, identify("b", again)) == ["errAnonDistinctIdAssignedAlready"]
    assert failures(people, browser_identify("b", again)) == ["errAnonDistinctIdAssignedAlready"]
    assert persons(people, event(distinct_id="a"), event(distinct_id="b")) == ["a", "b"]


@pytest.mark.parametrize("override", [merge("b", f"$device:{U}"), alias("b", f"$device:{U}")])
def test_alias_and_merge_override_that(override):
    """The documentation says so: then both users are one person."""
    sent = [identify("a", f"$device:{U}"), override, event(distinct_id="a"), event(distinct_id="b")]
    assert failures("original", *sent) == [None] * 4
    assert len(set(persons("original", *sent))) == 1


@pytest.mark.parametrize("user", [U, f"$device:{U}"])
@pytest.mark.parametrize("anon", [U, f"$device:{U}"])
def test_an_id_is_not_identified_as_itself(user, anon):
    """It is one already."""
    assert failures("original", identify(user, anon)) == ["errSameIDs"]


def test_a_second_identify_without_a_reset_names_the_first_user():
    """The browser SDK sends it as the anonymous ID, and Mixpanel refuses it."""
    sent = [browser_identify("a", f"$device:{U}"), browser_identify("b", "a")]
    assert failures("original", *sent) == [None, "errAnonDistinctIdNonGUIDForm"]


def test_an_identify_without_a_distinct_id_is_the_user_s():
    """It is inferred."""
    sent = ("$identify", {"$identified_id": "u", "$anon_id": U})
    assert People("original").record_event(*sent) == ("u", None)


@in_any_order(
    event(distinct_id="a"), event(distinct_id="b"), event(distinct_id="c"), alias("b", "a"), alias("c", "b")
)
def test_an_alias_joins_any_two_ids(sent):
    """Retroactively, and in a chain."""
    assert len(set(persons("original", *sent))) == 1


def test_an_alias_is_one_of_one_id_only():
    """It may be made again, another ID is refused; an ID may have several."""
    sent = [alias("x", "a"), alias("x", "a"), alias("x", "b"), alias("y", "a")]
    assert failures("original", *sent) == [None, None, "errAliasAlreadyExists", None]
    shown = persons("original", *sent, *(event(distinct_id=each) for each in "xyb"))[-3:]
    assert shown == ["a", "a", "b"]


@in_any_order(merge("a", "b"), merge("c", "d"), merge("c", "b"), event(distinct_id="d"))
def test_a_merge_joins_any_two_ids(sent):
    """In any order."""
    assert len(set(persons("original", *sent))) == 1


def test_a_merge_is_taken_by_import_only():
    """As it cannot be undone."""
    people = People("original")
    assert people.record_event(*merge("a", "b"), "track") == ("a", None)
    assert people.canonical_id("a") != people.canonical_id("b")
    people.record_event(*merge("a", "b"), "import")
    assert people.canonical_id("a") == people.canonical_id("b")


@pytest.mark.parametrize(
    "too_many", [identify("u", anon(500)), alias("x", "u"), merge("x", "u"), merge("u", "x")]
)
def test_a_person_has_at_most_500_ids(too_many):
    """The user and 499 devices are; one more is refused, and what is in stays in."""
    people = People("original")
    assert failures(people, *(identify("u", anon(number)) for number in range(499))) == [None] * 499
    assert failures(people, too_many) == ["errManyIDs"]
    assert persons(people, event(distinct_id="x"), event(distinct_id=anon(500))) == ["x", anon(500)]
    assert persons(people, event(distinct_id=anon(498)), event(distinct_id=anon(0))) == ["u", "u"]
    assert failures(people, identify("u", anon(7)), merge(anon(1), anon(2))) == [None, None]


def test_two_persons_merge_up_to_500_ids():
    """Their IDs are added."""
    people = People("original")
    for number in range(249):
        assert failures(people, identify("a", anon(number)), identify("b", anon(1000 + number))) == [
            None,
            None,
        ]
    assert failures(people, merge("c", "d")) == [None]
    assert failures(people, merge("a", "b"), merge("a", "c")) == [None, "errManyIDs"]
    assert people.canonical_id("a") == people.canonical_id("b") != people.canonical_id("c")


def test_an_anonymous_id_that_was_too_many_is_still_free():
    """Another user may get it."""
    people = People("original")
    failures(people, *(identify("u", anon(number)) for number in range(499)))
    assert failures(people, identify("u", anon(500)), identify("v", anon(500))) == ["errManyIDs", None]


def test_device_and_user_properties_join_nothing_under_original():
    """Without an `$identify` they are properties like others."""
    sent = [event(distinct_id=f"$device:{U}", device=U, user="u"), event(distinct_id="u", device=U, user="u")]
    assert persons("original", *sent) == [f"$device:{U}", "u"]
    assert persons("original", event(device=U), event(user="u")) == [None, None]
