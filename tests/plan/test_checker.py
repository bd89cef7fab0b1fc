"""With a plan, `track` compares: it raises in tests, and in production it tells and sends."""

import logging
from dataclasses import dataclass
from typing import Literal

import msgspec
import pydantic
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from support.trackers import recording_tracker
from support.waiting import PATIENCE_S, wait_until

from mixpanel_visitor.errors import InvalidEventError
from mixpanel_visitor.plan import Plan
from mixpanel_visitor.starlette import VisitorMiddleware

plan = Plan()


@plan.event("Signed up")
@dataclass
class SignedUp:
    plan: Literal["free", "pro"]
    seats: int = 1


@plan.event("Paid")
class Paid(pydantic.BaseModel):
    amount: float


@plan.event("Left")
class Left(msgspec.Struct):
    reason: str


@pytest.fixture
def production():
    """A tracker as it is in production, its spool, and a visitor."""
    tracker, spool = recording_tracker(plan=plan)
    return tracker, spool, tracker.visitor("ann")


def own_properties(event):
    """What the application has given."""
    ours = {"token", "time", "distinct_id", "mp_lib", "ip"}
    return {
        name: value
        for name, value in event["properties"].items()
        if not name.startswith("$") and name not in ours
    }


def test_an_instance_and_its_name_are_the_same_event(production, caplog):
    """Both are accepted, and nothing is said."""
    _, spool, visitor = production
    visitor.track(SignedUp(plan="pro"))
    visitor.track("Signed up", {"plan": "pro", "seats": 1})
    first, second = spool.events
    assert first["event"] == second["event"] == "Signed up"
    assert own_properties(first) == own_properties(second) == {"plan": "pro", "seats": 1}
    assert caplog.records == []


def test_pydantic_and_msgspec_are_tracked_too(production):
    """By their instances."""
    tracker, spool, visitor = production
    visitor.track(Paid(amount=2.5))
    tracker.track("ann", Left(reason="noise"))
    assert [own_properties(event) for event in spool.events] == [{"amount": 2.5}, {"reason": "noise"}]


def test_more_properties_can_be_given_with_an_instance(production):
    """What every event knows, such as its time."""
    _, spool, visitor = production
    visitor.track(SignedUp(plan="pro"), {"time": 1_700_000_000}, seats=5)
    (event,) = spool.events
    assert event["properties"]["time"] == 1_700_000_000_000
    assert own_properties(event) == {"plan": "pro", "seats": 5}


def test_in_production_a_difference_is_told_and_the_event_sent(production, caplog):
    """As it is; the log has the place, and no value."""
    tracker, spool, visitor = production
    for _ in range(3):
        visitor.track("Signed up", {"plan": "gold", "seets": 3})
    assert [own_properties(event) for event in spool.events] == [{"plan": "gold", "seets": 3}] * 3
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "test_checker.py:" in record.getMessage()
    assert "seets: unknown; did you mean 'seats'?" in record.getMessage()
    assert "gold" not in record.getMessage()
    stats = tracker.stats()
    assert stats["notes"]["off_plan"] == 3
    assert (stats["accepted"], stats["refused"]) == (3, {})


def test_an_unplanned_event_is_told_and_sent(production, caplog):
    """With the name that was meant."""
    _, spool, visitor = production
    visitor.track("Singed up")
    assert spool.names == ["Singed up"]
    assert "is not in the plan; did you mean 'Signed up'?" in caplog.text


@pytest.fixture
def shop():
    """An application with a plan; give its spool, and a client whose tests see what a handler raises."""
    tracker, spool = recording_tracker(plan=plan, deliver=False)

    async def handler(request):
        visitor = request.state.visitor
        visitor.track(SignedUp(plan="pro"))
        visitor.track("Signed up", {"plan": "pro", "seats": 1})
        visitor.track("Signed up", {"plan": request.query_params.get("plan", "free")})
        return PlainTextResponse("Welcome")

    app = Starlette(routes=[Route("/", handler)])
    app.add_middleware(VisitorMiddleware, tracker=tracker)
    with TestClient(app, headers={"user-agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/145.0"}) as client:
        yield client, spool, tracker


def test_in_a_request_it_is_the_same(shop):
    """The quick way that events of requests take, too: all three are sent, one is counted."""
    client, spool, tracker = shop
    assert client.get("/?plan=gold").text == "Welcome"
    assert wait_until(lambda: len(spool.events) == 3, PATIENCE_S)
    assert [event["properties"]["plan"] for event in spool.events] == ["pro", "pro", "gold"]
    assert [event["properties"].get("seats") for event in spool.events] == [1, 1, None]
    assert tracker.stats()["notes"]["off_plan"] == 1


def test_a_test_of_the_application_fails(shop, mixpanel_events):
    """Where the handler tracks what is not planned, and only there."""
    client, _, _ = shop
    client.get("/")
    mixpanel_events.assert_tracked("Signed up", plan="free")
    with pytest.raises(InvalidEventError, match="did you mean 'free'"):
        client.get("/?plan=fre")


def test_many_differences_are_not_all_logged(production, caplog):
    """The first ones will do."""
    _, _, visitor = production
    visitor.track("Signed up", {"plan": "pro", **{f"x{number}": number for number in range(9)}})
    assert "and 4 more" in caplog.text


def test_in_tests_a_difference_raises(mixpanel_events):
    """With everything that is wrong, values included."""
    tracker, _ = recording_tracker(plan=plan)
    with pytest.raises(InvalidEventError) as caught:
        tracker.visitor("ann").track("Signed up", {"seats": "three", "pln": "pro"})
    assert str(caught.value).splitlines() == [
        "'Signed up' differs from the plan:",
        "  plan: missing, must be 'free' or 'pro'",
        "  seats: 'three' is a string, must be an integer",
        "  pln: unknown; did you mean 'plan'?",
    ]
    assert caught.value.reason == "off_plan"
    assert mixpanel_events.names == []


@pytest.mark.parametrize("event", [SignedUp(plan="pro"), Paid(amount=2.5), Left(reason="noise")])
def test_tests_can_look_for_an_instance(mixpanel_events, event):
    """Its properties are looked for as well; a class stands for any of its instances."""
    tracker, _ = recording_tracker(plan=plan)
    mixpanel_events.assert_not_tracked(event)
    tracker.track("ann", event)
    mixpanel_events.assert_tracked(event, times=1)
    mixpanel_events.assert_tracked(type(event))
    with pytest.raises(AssertionError, match="was tracked once"):
        mixpanel_events.assert_not_tracked(event)


def test_an_instance_that_was_not_tracked_is_told(mixpanel_events):
    """With what came near, as for a name."""
    tracker, _ = recording_tracker(plan=plan)
    tracker.track("ann", SignedUp(plan="pro", seats=2))
    with pytest.raises(AssertionError) as caught:
        mixpanel_events.assert_tracked(SignedUp(plan="pro", seats=3))
    assert str(caught.value).splitlines() == [
        "'Signed up' with plan='pro', seats=3 was not tracked.",
        "Nearest:",
        "  Signed up:",
        "    seats: 2, expected 3",
        "Tracked: 'Signed up'.",
    ]
    assert len(mixpanel_events.find(SignedUp, seats=...)) == 1


def test_a_class_that_is_not_declared_cannot_be_looked_for(mixpanel_events):
    """It has no name."""
    with pytest.raises(TypeError, match="int is not declared in a tracking plan"):
        mixpanel_events.assert_tracked(3)


def test_an_unplanned_event_raises_in_tests(mixpanel_events):
    """One line says it."""
    tracker, _ = recording_tracker(plan=plan)
    with pytest.raises(InvalidEventError, match=r"^'Singed up' is not in the plan; did you mean 'Signed up'"):
        tracker.track("ann", "Singed up")
    tracker.track("ann", SignedUp(plan="free"))
    mixpanel_events.assert_tracked("Signed up", plan="free", seats=1)


def test_on_error_raise_raises_too():
    """As for all other bad input; the books agree."""
    tracker, spool = recording_tracker(plan=plan, on_error="raise")
    with pytest.raises(InvalidEventError):
        tracker.track("ann", "Singed up")
    assert spool.names == []
    assert tracker.stats()["refused"] == {"off_plan": 1}


def test_the_official_library_is_compared_as_well(production):
    """Whatever it adds by itself is not in question."""
    tracker, spool, visitor = production
    visitor.mixpanel.track(visitor.distinct_id, "Signed up", {"plan": "pro"})
    visitor.mixpanel.track(visitor.distinct_id, "Singed up", {})
    assert spool.names == ["Signed up", "Singed up"]
    assert tracker.stats()["notes"] == {"off_plan": 1}


@pytest.mark.parametrize(
    ("id_mode", "name"), [("original", "$identify"), ("simplified", "Visitor identified")]
)
def test_events_of_our_own_need_no_plan(id_mode, name):
    """A log-in's are not the application's."""
    tracker, spool = recording_tracker(plan=plan, id_mode=id_mode, on_error="raise")
    with tracker.visitor(device_id="6f1c2a3b-4d5e-4f60-8a7b-9c0d1e2f3a4b") as visitor:
        visitor.identify("ann")
    assert spool.names == [name]


def test_what_is_registered_is_not_in_question(production):
    """Super properties go with every event, whatever it is."""
    tracker, _, visitor = production
    visitor.register(campaign="autumn")
    visitor.track("Signed up", plan="pro")
    assert tracker.stats()["notes"] == {}


def test_properties_that_are_none_are_refused_as_ever(production):
    """The plan has nothing to add."""
    tracker, _, visitor = production
    visitor.track("Signed up", ["plan"])
    assert tracker.stats()["refused"] == {"bad_properties": 1}


def test_a_plan_that_fails_loses_nothing(caplog):
    """A type that cannot be read after all is not the event's fault."""
    late = Plan()
    tracker, spool = recording_tracker(plan=late)

    @late.event("Late")
    @dataclass
    class Late:
        why: "Missing"  # noqa: F821  # declared after the tracker was made, so nobody has found it yet

    tracker.track("ann", "Late", {"why": "x"})
    assert spool.names == ["Late"]
    assert tracker.stats()["notes"] == {"plan_failed": 1}
    assert "plan check" in caplog.text


def test_a_plan_that_fails_raises_in_tests():
    """Somebody has to hear of it."""
    late = Plan()
    tracker, _ = recording_tracker(plan=late, on_error="raise")

    @late.event("Late")
    @dataclass
    class Late:
        why: "Missing"  # noqa: F821

    with pytest.raises(NameError, match="Missing"):
        tracker.track("ann", "Late", {"why": "x"})


def test_without_a_plan_an_instance_is_refused_with_the_fix(caplog):
    """It has no name there."""
    tracker, spool = recording_tracker()
    tracker.track("ann", SignedUp(plan="pro"))
    assert spool.names == []
    assert "the tracker needs the setting plan=" in caplog.text


def test_an_instance_that_cannot_be_read_is_refused(production, caplog):
    """The handler goes on."""
    tracker, _, visitor = production
    broken = SignedUp(plan="pro")
    del broken.plan
    visitor.track(broken)
    assert tracker.stats()["refused"] == {"bad_properties": 1}
    assert "the fields of SignedUp cannot be read" in caplog.text


@pytest.mark.parametrize(
    "track",
    [
        lambda visitor, forged: visitor.track("Signed up", {"plan": "pro", forged: 1}),
        lambda visitor, forged: visitor.track("Signed up", {"plan": forged}),
        lambda visitor, forged: visitor.track(forged),
    ],
)
def test_a_difference_stays_in_its_line(production, caplog, track):
    """Names of properties often come from forms, and must not look like log lines of their own."""
    _, _, visitor = production
    track(visitor, "zz\n[CRITICAL] forged \x1b[31m")
    assert "differs from the plan" in caplog.text
    assert all(record.getMessage().isprintable() for record in caplog.records)


@dataclass
class Line:
    coupon: str | None


bought = Plan()


@bought.event("Bought, dataclass")
@dataclass
class BoughtDataclass:
    coupon: str | None
    line: Line
    lines: list[Line]


@bought.event("Bought, pydantic")
class BoughtPydantic(pydantic.BaseModel):
    coupon: str | None
    line: Line
    lines: list[Line]


@bought.event("Bought, msgspec")
class BoughtStruct(msgspec.Struct):
    coupon: str | None
    line: Line
    lines: list[Line]


@pytest.mark.parametrize("cls", [BoughtDataclass, BoughtPydantic, BoughtStruct])
def test_none_in_a_field_that_may_be_null_is_as_planned(cls):
    """At the top and within: it is null, and not missing."""
    tracker, spool = recording_tracker(plan=bought, on_error="raise")
    tracker.track("u", cls(coupon=None, line=Line(None), lines=[Line(None)]))
    properties = own_properties(spool.events[0])
    assert properties == {"coupon": None, "line": {"coupon": None}, "lines": [{"coupon": None}]}
    name = spool.events[0]["event"]
    tracker.track("u", name, {"coupon": None, "line": {"coupon": None}, "lines": []})
    with pytest.raises(InvalidEventError, match="coupon: missing"):
        tracker.track("u", name, {"line": {"coupon": None}, "lines": []})


def test_a_value_that_nobody_can_read_differs_and_is_sent(production, caplog):
    """Neither its comparison nor its text costs the event."""
    _, spool, visitor = production
    visitor.track("Signed up", {"plan": "pro", "seats": 10**5000})
    visitor.track("Signed up", {"plan": "pro", "seats": object()})
    assert len(spool.events) == 2
    assert "seats" in caplog.text
