"""What is said of an event that is other than planned: the property, what is wrong, the likely word."""

import datetime as dt
import decimal
import enum
import uuid
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixpanel_visitor.plan import Plan

plan = Plan()


class Size(enum.Enum):
    SMALL = 1
    LARGE = 2


@dataclass
class Address:
    city: str


@plan.event("Bought")
@dataclass
class Bought:
    tier: Literal["free", "pro"]
    seats: int = 1
    price: float = 0.0
    note: str | None = None
    gift: bool = False
    on: dt.datetime | None = None
    size: Size = Size.SMALL
    tags: list[str] = field(default_factory=list)
    to: Address | None = None
    whatever: Any = None


def told(**properties):
    """What is said of an event with these properties."""
    return [str(each) for each in plan.differences("Bought", properties)]


@pytest.mark.parametrize(
    "properties",
    [
        {"seats": 3, "price": 3, "note": None, "gift": True},
        {"price": decimal.Decimal("9.50"), "on": dt.datetime.now(dt.UTC), "size": Size.LARGE},
        {"on": "2026-11-25", "size": 2, "note": uuid.uuid4(), "tags": ("a", "b")},
        {"on": dt.date(2026, 11, 25), "tags": {"a"}, "to": {"city": "Oslo"}, "whatever": [1, {"a": 2}]},
        {"to": Address("Oslo"), "price": float("nan"), "seats": decimal.Decimal(3)},
        {"$browser": "Chrome", "time": 1, "$insert_id": "x", "mp_lib": "python", "ip": "0"},
    ],
)
def test_what_mixpanel_gets_is_what_counts(properties):
    """Whatever Python calls it; Mixpanel's own properties need no plan."""
    assert told(tier="pro", **properties) == []


@pytest.mark.parametrize(
    ("properties", "said"),
    [
        ({"seats": "3"}, "seats: '3' is a string, must be an integer"),
        ({"seats": True}, "seats: True is a boolean, must be an integer"),
        ({"seats": 1.5}, "seats: 1.5 is a number, must be an integer"),
        ({"seats": None}, "seats: None is null, must be an integer"),
        ({"price": True}, "price: True is a boolean, must be a number"),
        ({"note": 1}, "note: 1 is an integer, must be a string or null"),
        ({"gift": 1}, "gift: 1 is an integer, must be a boolean"),
        ({"on": "tomorrow"}, "on: 'tomorrow' is a string, must be a date or null"),
        ({"tier": "prp"}, "tier: 'prp' is none of the choices, must be 'free' or 'pro'; did you mean 'pro'?"),
        ({"tier": 1}, "tier: 1 is an integer, must be 'free' or 'pro'"),
        ({"size": 3}, "size: 3 is none of the choices, must be 1 or 2"),
        ({"size": True}, "size: True is a boolean, must be 1 or 2"),
        ({"to": {"city": "Oslo", "$x": 1}}, "to.$x: unknown"),
        ({"tags": "a"}, "tags: 'a' is a string, must be a list, each a string"),
        ({"tags": [1]}, "tags: [1] is a list, must be a list, each a string"),
        ({"to": "Oslo"}, "to: 'Oslo' is a string, must be an object or null"),
        ({"to": {"city": 1}}, "to.city: 1 is an integer, must be a string"),
        ({"seets": 1}, "seets: unknown; did you mean 'seats'?"),
        ({"Gift": True}, "Gift: unknown; did you mean 'gift'?"),
        ({"xyz": 1}, "xyz: unknown"),
    ],
)
def test_a_difference_names_the_property_and_what_it_must_be(properties, said):
    """One line for each."""
    assert told(**{"tier": "pro", **properties}) == [said]


def test_a_missing_property_comes_first():
    """With what it must be; the word that was meant stands with the one that was used."""
    assert told(tiers="pro") == [
        "tier: missing, must be 'free' or 'pro'",
        "tiers: unknown; did you mean 'tier'?",
    ]


def test_nested_properties_have_a_path():
    """To be found."""
    assert told(tier="pro", to={"town": "Oslo"}) == ["to.city: missing, must be a string", "to.town: unknown"]


def test_an_event_that_is_not_planned_is_a_difference():
    """With the one that was meant; Mixpanel's own events need no plan."""
    assert str(plan.differences("Boughtt", {})[0]) == "is not in the plan; did you mean 'Bought'?"
    assert str(plan.differences("bought", {})[0]) == "is not in the plan; did you mean 'Bought'?"
    assert plan.differences("$mp_web_page_view", {"x": 1}) == []


def test_a_partial_plan_lets_others_be():
    """What it does declare is compared."""
    partial = Plan(partial=True)
    partial.event("Bought")(Bought)
    assert partial.differences("Anything", {"x": 1}) == []
    assert len(partial.differences("Bought", {})) == 1


def test_a_log_line_holds_no_value():
    """It may be somebody's."""
    (difference,) = plan.differences("Bought", {"tier": "pro", "seats": "anna@example.com"})
    assert difference.without_value == "seats: is a string, must be an integer"


def test_what_cannot_be_encoded_is_the_encoders_to_tell():
    """It says more."""
    deep: list = []
    for _ in range(60):
        deep = [deep]
    assert told(tier="pro", whatever=deep, seats=deep) == []


def test_what_becomes_its_text_is_compared_as_text():
    """That is what is sent."""
    (difference,) = told(tier="pro", whatever=object(), seats=object())
    assert "is a string, must be an integer" in difference


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text() | st.sampled_from(list(Bought.__annotations__)), json, max_size=6))
def test_any_properties_can_be_compared(properties):
    """Nothing raises, and each difference can be told."""
    for difference in plan.differences("Bought", properties):
        assert str(difference)
        assert difference.without_value
