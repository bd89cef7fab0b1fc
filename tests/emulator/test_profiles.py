"""The documented rules about one profile update, and what the updates do."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixpanel_visitor.emulator.profiles import Update, applied, check_update
from mixpanel_visitor.emulator.rules import BANNED_IDS, Problem


def person(**update: Any) -> Update | Problem:
    """Judge an update of a person."""
    return check_update({"$token": "t", "$distinct_id": "u-1", **update}, endpoint="engage")


def group(**update: Any) -> Update | Problem:
    """Judge an update of a group."""
    return check_update(
        {"$token": "t", "$group_key": "company", "$group_id": "Acme", **update}, endpoint="groups"
    )


def field_of(outcome: Update | Problem) -> str:
    """Return the field at fault; fails if there is none."""
    assert isinstance(outcome, Problem), outcome
    return outcome.field


OPERANDS: dict[str, Any] = {
    "$set": {"a": 1},
    "$set_once": {"a": 1},
    "$add": {"a": 1, "b": -2.5},
    "$union": {"a": ["x", 1]},
    "$append": {"a": {"b": 1}},
    "$remove": {"a": "x"},
    "$unset": ["a"],
    "$delete": "",
}


@pytest.mark.parametrize("operation", OPERANDS)
def test_every_operation_on_people_is_accepted(operation):
    """The eight of the reference."""
    assert isinstance(person(**{operation: OPERANDS[operation]}), Update)


@pytest.mark.parametrize("operation", ["$set", "$set_once", "$union", "$remove", "$unset", "$delete"])
def test_the_operations_on_groups_are_accepted(operation):
    """The six of the reference."""
    assert isinstance(group(**{operation: OPERANDS[operation]}), Update)


@pytest.mark.parametrize("operation", ["$add", "$append"])
def test_groups_know_no_add_and_no_append(operation):
    """The reference has no such pages for groups."""
    assert field_of(group(**{operation: OPERANDS[operation]})) == operation


@pytest.mark.parametrize("token", [None, "", 5])
def test_an_update_needs_a_token(token):
    """It is the only credential of /engage and /groups."""
    outcome = check_update({"$token": token, "$distinct_id": "u", "$set": {}}, endpoint="engage")
    assert field_of(outcome) == "$token"


@pytest.mark.parametrize("distinct_id", [None, "", " ", 5, ["u"], *sorted(BANNED_IDS)])
def test_a_person_needs_a_distinct_id(distinct_id):
    """It is a string that is not on the list of banned ones."""
    outcome = check_update({"$token": "t", "$distinct_id": distinct_id, "$set": {}}, endpoint="engage")
    assert field_of(outcome) == "$distinct_id"


@pytest.mark.parametrize(("key", "value"), [("$group_key", ""), ("$group_key", 5), ("$group_id", "")])
def test_a_group_needs_a_key_and_an_id(key, value):
    """Neither may be blank."""
    assert field_of(group(**{key: value, "$set": {}})) == key


@pytest.mark.parametrize("group_id", [None, True, [], {}])
def test_a_group_id_is_a_string_or_a_number(group_id):
    """Other values are refused."""
    assert field_of(group(**{"$group_id": group_id, "$set": {}})) == "$group_id"


def test_a_number_is_a_group_id():
    """The browser SDK takes any property value as one."""
    assert isinstance(group(**{"$group_id": 42, "$set": {}}), Update)


def test_a_group_update_with_a_distinct_id_is_refused():
    """Mixpanel refuses it too (mixpanel/mixpanel-swift#539)."""
    assert field_of(group(**{"$distinct_id": "u", "$set": {}})) == "$distinct_id"


@pytest.mark.parametrize("update", [{}, {"$set": {}, "$add": {}}, {"$sett": {}}])
def test_an_update_has_exactly_one_operation(update):
    """None, two, and an unknown one are refused."""
    outcome = person(**update)
    assert isinstance(outcome, Problem)
    assert "exactly one operation" in outcome.message


@pytest.mark.parametrize(
    ("operation", "operand", "field"),
    [
        ("$set", [], "$set"),
        ("$set_once", "a", "$set_once"),
        ("$append", 1, "$append"),
        ("$remove", ["a"], "$remove"),
        ("$add", {"a": "1"}, "$add.a"),
        ("$add", {"a": True}, "$add.a"),
        ("$union", {}, "$union"),
        ("$union", {"a": "x"}, "$union.a"),
        ("$union", {"a": []}, "$union.a"),
        ("$union", {"a": [True]}, "$union.a"),
        ("$union", {"a": [{}]}, "$union.a"),
        ("$unset", [], "$unset"),
        ("$unset", {"a": 1}, "$unset"),
        ("$unset", [1], "$unset"),
    ],
)
def test_each_operation_has_its_shape(operation, operand, field):
    """What does not fit is refused by name."""
    assert field_of(person(**{operation: operand})) == field


def test_an_update_is_smaller_than_1_mb():
    """Measured in bytes of JSON."""
    assert field_of(person(**{"$set": {"a": "x" * 1024 * 1024}})) == "$set"


def test_a_value_nested_without_end_is_refused():
    """What could not be written again is not taken."""
    deep: Any = 1
    for _ in range(200):
        deep = [deep]
    assert field_of(person(**{"$set": {"a": deep}})) == "$set"


@pytest.mark.parametrize(
    ("before", "operation", "operand", "after"),
    [
        ({"a": 1}, "$set", {"a": 2, "b": 3}, {"a": 2, "b": 3}),
        ({"a": 1}, "$set_once", {"a": 2, "b": 3}, {"a": 1, "b": 3}),
        ({"a": 1}, "$add", {"a": 2, "b": -3}, {"a": 3, "b": -3}),
        ({"a": "x"}, "$add", {"a": 2}, {"a": 2}),
        ({"a": 2**64 - 1}, "$add", {"a": 1}, {"a": float(2**64)}),
        ({}, "$append", {"a": "x"}, {"a": ["x"]}),
        ({"a": ["x"]}, "$append", {"a": "x"}, {"a": ["x", "x"]}),
        ({"a": "w"}, "$append", {"a": "x"}, {"a": ["w", "x"]}),
        ({"a": ["x", 1]}, "$union", {"a": ["x", "y", 1, 1]}, {"a": ["x", 1, "y"]}),
        ({"a": ["x", "y", "x"]}, "$remove", {"a": "x", "b": 1}, {"a": ["y"]}),
        ({"a": "x"}, "$remove", {"a": "x"}, {"a": "x"}),
        ({"a": 1, "b": 2}, "$unset", ["a", "c"], {"b": 2}),
    ],
)
def test_what_an_operation_does(before, operation, operand, after):
    """As the profile pages describe it, without touching what was there."""
    copy = dict(before)
    assert applied(before, operation, operand) == after
    assert before == copy


def test_true_is_not_one_in_a_list():
    """Python says they are equal, JSON does not."""
    assert applied({"a": [True, 1.5]}, "$union", {"a": [1]})["a"] == [True, 1.5, 1]
    assert applied({"a": [True, 1]}, "$remove", {"a": 1})["a"] == [True]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=10,
)
keys = st.sampled_from(["$token", "$distinct_id", "$group_key", "$group_id", *OPERANDS])


@given(
    items=st.lists(
        json_values
        | st.dictionaries(keys, json_values)
        | st.tuples(st.sampled_from(list(OPERANDS)), json_values).map(
            lambda pair: {"$token": "t", "$distinct_id": "u", pair[0]: pair[1]}
        )
    ),
    endpoint=st.sampled_from(["engage", "groups"]),
)
@settings(deadline=None)
def test_any_updates_get_a_verdict_and_can_be_applied(items, endpoint):
    """No JSON raises, neither when it is judged nor when it is applied to what came before."""
    properties: dict[str, Any] = {}
    for item in items:
        outcome = check_update(item, endpoint=endpoint)
        if isinstance(outcome, Update) and outcome.operation != "$delete":
            properties = applied(properties, outcome.operation, outcome.operand)
