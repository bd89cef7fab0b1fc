"""Declaring events: what can be declared, and what is refused with the fix."""

import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, NotRequired, TypedDict

import pytest
from support.waiting import PATIENCE_S

from mixpanel_visitor.errors import InvalidEventError, SettingsError
from mixpanel_visitor.plan import Plan
from mixpanel_visitor.settings import Settings

if TYPE_CHECKING:
    from nowhere import Unknown


def settings(plan):
    return Settings.resolve(
        {"token": "t", "secret_key": "a-key-of-some-length", "plan": plan}, environ={"HOME": "/"}
    )


def test_the_class_stays_what_it_is():
    """The decorator only notes it."""
    plan = Plan()

    @dataclass(frozen=True, slots=True)
    class Left:
        """Somebody has left."""

    assert plan.event("Left")(Left) is Left
    assert plan.events["Left"].description == "Somebody has left."
    assert repr(plan) == "<Plan of 1 event>"
    assert repr(plan.events["Left"]) == "<Event 'Left' as Left>"


def test_the_order_of_the_decorators_is_told():
    """Below `@dataclass` there are no fields to read yet."""
    with pytest.raises(TypeError, match="above @dataclass"):

        @dataclass
        @Plan().event("Left")
        class Left:
            pass


def test_the_name_must_not_be_forgotten():
    """`@plan.event` alone would take the class for it."""
    with pytest.raises(TypeError, match="name is missing"):
        Plan().event(Plan)


def test_a_name_is_declared_once():
    """Two classes for it would contradict each other."""
    plan = Plan()
    plan.event("Left")(dataclass(type("First", (), {})))
    with pytest.raises(ValueError, match="declared already, as First"):
        plan.event("Left")(dataclass(type("Second", (), {})))


def test_an_instance_of_a_subclass_is_the_same_event():
    """With its own fields."""
    plan = Plan()

    @plan.event("Left")
    @dataclass
    class Left:
        reason: str

    class LeftInAnger(Left):
        pass

    assert plan.read(LeftInAnger("noise")) == ("Left", {"reason": "noise"})


def test_an_instance_that_is_not_declared_is_refused():
    """With the fix."""
    with pytest.raises(InvalidEventError, match=r"declare it: @plan\.event"):
        Plan().read(dataclass(type("Stranger", (), {}))())


def test_a_typed_dict_can_be_declared():
    """Its instances have no class of their own, so the event goes by its name."""

    class Left(TypedDict):
        reason: str
        after_s: NotRequired[int]

    plan = Plan()
    plan.event("Left")(Left)
    properties: Left = {"reason": "noise"}
    assert plan.differences("Left", properties) == []
    assert str(plan.differences("Left", {"after_s": 1})[0]) == "reason: missing, must be a string"


def test_neither_pydantic_nor_msgspec_is_needed():
    """Who has only dataclasses needs no other package."""
    script = (
        "import sys; sys.modules['pydantic'] = sys.modules['msgspec'] = None\n"
        "from dataclasses import dataclass\n"
        "from mixpanel_visitor.plan import Plan\n"
        "plan = Plan()\n"
        "@plan.event('Left')\n@dataclass\nclass Left:\n    reason: str\n"
        "print(plan.read(Left('noise')), plan.differences('Left', {}), plan.problems(), len(plan.lexicon()))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=PATIENCE_S
    )
    assert ended.stdout.startswith("('Left', {'reason': 'noise'}) [Difference(path='reason'")


def test_a_class_is_not_yet_an_event():
    """Its parentheses are easily forgotten."""
    plan = Plan()
    Left = plan.event("Left")(dataclass(type("Left", (), {})))  # noqa: N806
    with pytest.raises(InvalidEventError, match=r"give an instance, Left\(\.\.\.\)"):
        plan.read(Left)


def test_types_that_are_not_there_are_a_mistake_in_the_settings():
    """Found when the tracker is built, not with the first event."""
    plan = Plan()

    @plan.event("Left")
    @dataclass
    class Left:
        why: "Unknown"

    with pytest.raises(SettingsError, match=r"Left \('Left'\) cannot be read: name 'Unknown' is not defined"):
        settings(plan)


@pytest.mark.parametrize("value", ["plan", Plan, {"Left": {}}, 3])
def test_the_setting_takes_a_plan(value):
    """And says what it was given instead."""
    with pytest.raises(SettingsError, match=r"must be a mixpanel_visitor\.plan\.Plan, not "):
        settings(value)


def test_flasks_config_may_hold_the_plan():
    """The environment cannot: it is no text."""
    plan = Plan()
    given = {"token": "t", "secret_key": "a-key-of-some-length", "spool": "memory:"}
    assert Settings.resolve(given, mapping={"MIXPANEL_VISITOR_PLAN": plan}, environ={}).plan is plan
    with pytest.raises(SettingsError, match="plan cannot be text; give it in code"):
        Settings.resolve(given, environ={"MIXPANEL_VISITOR_PLAN": "shop.events:plan"})


def test_no_plan_is_the_default():
    """And can be said."""
    assert settings(None).plan is None
