"""Mistakes of a plan itself, which CI should find before a report is wrong for good."""

import dataclasses
from dataclasses import dataclass, make_dataclass
from typing import Literal

import pytest

from mixpanel_visitor.plan import Plan


def made(**events):
    """A plan of events with these fields."""
    plan = Plan()
    for name, fields in events.items():
        plan.event(name)(make_dataclass("Made", list(fields.items())))
    return plan


def test_a_sound_plan_has_no_problems():
    """Whole numbers and others are one type to Mixpanel, and null is none."""
    plan = made(
        Left={"price": float | int},
        Bought={"price": float, "tier": Literal["a"]},
        Paid={"price": int | None, "tier": str | None},
    )
    assert plan.problems() == []


def named(name, **fields):
    return [(field, kind, dataclasses.field(metadata={"name": name})) for field, kind in fields.items()]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("x" * 256, "the name has 256 characters, Mixpanel takes 255"),
        ("$bought", "begin with '$' or 'mp_' are Mixpanel's own"),
        ("mp_bought", "begin with '$' or 'mp_' are Mixpanel's own"),
        (" Bought", "begins or ends with white space"),
        ("", "the name is empty"),
    ],
)
def test_names_that_mixpanel_does_not_take_are_found(name, told):
    """Of events and of properties."""
    plan = Plan()
    plan.event(name)(dataclass(type("Made", (), {})))
    plan.event("Good")(make_dataclass("Made", named(name, field=str)))
    of_event, of_property = (
        problem for problem in plan.problems() if "white space" in told or told in problem
    )
    assert told in of_event
    assert of_event.startswith(f"event {name[:80]!r}")
    assert told in of_property
    assert of_property.startswith(f"'Good': property {name[:80]!r}")


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        (made(Bought={f"p{n}": int for n in range(255)}), "'Bought': has 255 properties"),
        (made(Bought={"time": float}), "property 'time' is Mixpanel's own"),
        (made(Bought={"distinct_id": str}), "property 'distinct_id' is Mixpanel's own"),
        (made(Bought={"password": str}), "property 'password' looks like a secret"),
        (made(Bought={"size": int | str}), "property 'size' may be integer or string"),
        (
            made(Bought={"size": str}, Paid={"size": int}, Left={"size": float}),
            "string in 'Bought' and number in",
        ),
        (made(Bought={}, bought={}), "events 'Bought' and 'bought' differ only by case"),
        (made(Bought={"Size": str}, Paid={"size": str}), "properties 'Size' and 'size' differ only by case"),
        (made(Bought={"why": "Missing"}), "cannot be read: name 'Missing' is not defined"),
    ],
)
def test_each_mistake_is_told_once(plan, told):
    """With the events that make it."""
    (problem,) = plan.problems()
    assert told in problem
