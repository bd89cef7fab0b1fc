"""Visitor: nothing that a handler says can hurt it, whatever the type of an ID, a time or a value."""

import enum
import logging
import uuid
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType

import pytest
from support.trackers import DEVICE, NOW_S, TOKEN, begin, recording_tracker

from mixpanel_visitor.errors import InvalidEventError


def test_identity_cannot_be_given_as_properties(caplog):
    """An event that belonged to somebody else by accident could not be taken back."""
    tracker, spool = recording_tracker()
    tracker.visitor("u").track("x", {"distinct_id": "v", "$device_id": "d", "$user_id": "w", "token": "t"})
    properties = spool.events[0]["properties"]
    assert (properties["distinct_id"], properties["$user_id"], properties["token"]) == ("u", "u", TOKEN)
    assert "$device_id" not in properties
    assert __file__ in caplog.text


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((None,), "bad_name"),
        (("",), "bad_name"),
        (("x", "not a dict"), "bad_properties"),
        (("x", {"a": [[[[1]]]]}), "too_deep"),
        (("x", {"a": "y" * 2_000_000}), "too_large"),
        (("x", {"time": "yesterday"}), "bad_time"),
    ],
)
def test_bad_input_is_logged_and_counted_and_the_rest_goes_on(caplog, arguments, reason):
    """The log names the line of the application; the request's other events are stored."""
    tracker, spool = recording_tracker()
    visitor = tracker.visitor("u")
    visitor.track(*arguments)
    visitor.track("good")
    assert spool.names == ["good"]
    assert tracker.stats()["refused"] == {reason: 1}
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert __file__ in caplog.text


def test_bad_input_is_logged_once_a_minute(caplog):
    """A loop of mistakes does not fill the disk with log lines."""
    tracker, _ = recording_tracker()
    visitor = tracker.visitor("u")
    for _ in range(50):
        visitor.track("")
    assert len(caplog.records) == 1
    assert tracker.stats()["refused"] == {"bad_name": 50}


def test_on_error_raise_is_for_tests():
    """With `on_error="raise"` the mistake is an exception at its own line."""
    tracker, _ = recording_tracker(on_error="raise")
    with pytest.raises(InvalidEventError, match="name"):
        tracker.visitor("u").track("")
    assert tracker.stats()["refused"] == {"bad_name": 1}


def test_a_banned_id_cannot_log_in(caplog):
    """`str(None)` must not become the user of thousands."""
    tracker, _ = recording_tracker()
    _, visitor = begin(tracker)
    visitor.identify("None")
    visitor.identify(None)
    assert visitor.user_id is None
    assert tracker.stats()["refused"] == {"banned_id": 2}
    assert "None" in caplog.text


class StrangeText(str):
    """Raises where it is compared."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other):
        raise RuntimeError("no")

    __ne__ = strip = lower = startswith = __str__ = __eq__


class Level(enum.IntEnum):
    HIGH = 3


class Name(enum.StrEnum):
    ANNA = "anna"


class Index:
    """An int to `operator.index`, as numpy's are."""

    def __index__(self):
        return 7


IDS = [
    (42, "42"),
    (uuid.UUID(int=7), str(uuid.UUID(int=7))),
    (Level.HIGH, "3"),
    (Name.ANNA, "anna"),
    (Index(), "7"),
    (10**200, str(10**200)),
]


class Hostile:
    """Raises at whatever is done with it."""

    def __repr__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "call",
    [
        lambda visitor: visitor.track(Hostile()),
        lambda visitor: visitor.track("x", "text", a=1),
        lambda visitor: visitor.register("text"),
        lambda visitor: visitor.register([1]),
        lambda visitor: visitor.set_group(["company"], "Acme"),
        lambda visitor: visitor.set_group("", "Acme"),
        lambda visitor: visitor.set_group("company", None),
        lambda visitor: visitor.people_set("text"),
        lambda visitor: visitor.group_set("company", None, {"a": 1}),
        lambda visitor: visitor.identify(Hostile()),
        lambda visitor: visitor.identify(visitor.distinct_id if visitor.user_id is None else "$device:x"),
        lambda visitor: visitor.register({"a": [[[[1]]]]}),
        lambda visitor: visitor.people_update(None),
        lambda visitor: visitor.people_set({"a": 1}, "meta"),
        lambda visitor: visitor.people_track_charge(5, "text"),
        lambda visitor: visitor.people_track_charge("5"),
        lambda visitor: visitor.group_update(None),
    ],
)
def test_nothing_that_is_said_raises(call):
    """It is refused, counted once and logged; the next event goes through."""
    tracker, spool = recording_tracker()
    visitor = tracker.visitor("u")
    call(visitor)
    visitor.track("good")
    assert spool.names == ["good"]
    assert sum(tracker.stats()["refused"].values()) == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda visitor: visitor.track("x", {"a": Hostile()}),
        lambda visitor: visitor.track("x", {"a": [Hostile()]}),
        lambda visitor: visitor.people_set({"a": Hostile()}),
        lambda visitor: visitor.register(a=Hostile()),
        lambda visitor: visitor.set_group("company", Hostile()),
        lambda visitor: visitor.mixpanel.track("u", "x", {"a": Hostile()}),
        lambda visitor: visitor.mixpanel.people_set("u", {"a": {(1, 2): Hostile()}}),
    ],
)
def test_a_value_that_nobody_knows_costs_no_event(caplog, call):
    """Its text is sent, or its type's name; the log names property, type and place, and it is counted."""
    tracker, spool = recording_tracker()
    visitor = tracker.visitor("u")
    call(visitor)
    visitor.track("good")
    assert spool.names[-1] == "good"
    stats = tracker.stats()
    assert stats["refused"] == {}
    assert stats["notes"]["stringified"] >= 1
    assert "Hostile" in caplog.text
    assert __file__ in caplog.text


def test_what_an_event_says_is_logged_once_for_each_line(caplog):
    """The count goes on."""
    tracker, spool = recording_tracker()
    visitor = tracker.visitor("u")
    for _ in range(20):
        visitor.track("x", {"a": Hostile()})
    assert len(spool.events) == 20
    assert tracker.stats()["notes"] == {"stringified": 20}
    (record,) = caplog.records
    assert "'a'" in record.getMessage()


def test_names_of_properties_may_be_numbers():
    """A Counter of status codes is a dict of properties, in an event, super properties and a profile."""
    tracker, spool = recording_tracker()
    visitor = tracker.visitor("u")
    visitor.track("x", {200: 5})
    visitor.people_set({200: 5})
    visitor.register({404: 2})
    visitor.track("y")
    assert spool.events[0]["properties"]["200"] == 5
    assert spool.events[1]["properties"]["404"] == 2
    assert spool.messages("engage")[0]["$set"] == {"200": 5}


@pytest.mark.parametrize(("given", "text"), IDS)
def test_an_id_may_be_a_number_or_a_uuid(given, text):
    """Wherever an ID is taken it becomes its text: `user.id` is what frameworks have."""
    tracker, spool = recording_tracker(id_mode="legacy")
    _, visitor = begin(tracker)
    visitor.identify(given)
    assert visitor.user_id == text
    tracker.visitor(user_id=given).track("a")
    tracker.visitor(device_id="d", user_id=given).track("b")
    tracker.track(given, "c")
    tracker.visitor("u").alias(given)
    *events, alias = spool.events
    assert [event["properties"]["distinct_id"] for event in events] == [text] * 3
    assert alias["properties"]["alias"] == text
    assert tracker.stats()["refused"] == {}


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (True, "bool"),
        (1.5, "float"),
        (float("nan"), "float"),
        (b"x", "bytes"),
        (None, "None"),
        (object(), "object"),
        ([1], "list"),
        (0, "refuses"),
        (-1, "refuses"),
        (10**400, "255"),
        ("", "empty"),
    ],
)
def test_what_is_no_id_is_refused_wherever_an_id_is_taken(caplog, given, word):
    """Each with its own reason; nothing raises, and whoever it was for is nobody."""
    tracker, spool = recording_tracker()
    _, visitor = begin(tracker)
    visitor.identify(given)
    assert visitor.user_id is None
    visitor.alias(given)
    tracker.track(given, "x")
    assert tracker.stats()["refused"] == {"banned_id": 3}
    for offline in (tracker.visitor(given), tracker.visitor(user_id=given)):
        offline.track("x")
        offline.people_set({"a": 1})
    assert spool.records == []
    assert tracker.stats()["refused"] == {"banned_id": 3 + 2 * 3}
    assert all(word in record.getMessage() for record in caplog.records)


def test_a_strange_str_is_an_id_like_any_other():
    """A subclass of str that raises when it is compared is its text."""
    tracker, _ = recording_tracker()
    _, visitor = begin(tracker)
    visitor.identify(StrangeText("user-42"))
    assert visitor.user_id == "user-42"
    assert type(visitor.user_id) is str


@pytest.mark.parametrize("given", [None, "from-before"])
def test_one_of_two_ids_may_be_missing(given):
    """A job knows the device and perhaps the user."""
    tracker, spool = recording_tracker()
    tracker.visitor(device_id=DEVICE, user_id=given).track("x")
    assert spool.events[0]["properties"]["$device_id"] == DEVICE


@pytest.mark.parametrize(
    "given", [{"time": None}, {"time": NOW_S}, {"time": Decimal(str(NOW_S))}, {"time": int(NOW_S * 1000)}]
)
def test_a_given_time_is_in_milliseconds_whatever_it_was(given):
    """The optional date of a row may be missing: that is now."""
    tracker, spool = recording_tracker()
    visitor = tracker.visitor("u")
    visitor.track("x", given)
    visitor.register(given)
    visitor.track("y")
    assert [event["properties"]["time"] for event in spool.events] == [round(NOW_S * 1000)] * 2


def test_a_time_without_a_zone_is_told_of(caplog):
    """It is local time, and the line says where it was given; for profiles as well."""
    tracker, spool = recording_tracker()
    naive = datetime.fromtimestamp(NOW_S)  # noqa: DTZ006  # that is the point
    visitor = tracker.visitor("u")
    visitor.track("x", {"time": naive})
    visitor.people_set({"a": 1}, {"$time": naive})
    assert spool.events[0]["properties"]["time"] == round(NOW_S * 1000)
    assert spool.messages("engage")[0]["$time"] == NOW_S
    assert tracker.stats()["notes"] == {"naive_time": 2}
    assert len(caplog.records) == 2
    assert all(__file__ in record.getMessage() for record in caplog.records)


def test_extra_properties_follow_the_rule_of_values():
    """One value that nobody knows costs neither the event nor the others."""
    tracker, spool = recording_tracker(extra_properties={"app": "shop", "thing": Hostile()})
    tracker.visitor("u").track("x")
    properties = spool.events[0]["properties"]
    assert (properties["app"], properties["thing"]) == ("shop", "<Hostile>")


def test_one_liners_do_not_raise_either():
    """`tracker.track` refuses as `visitor.track` does."""
    tracker, spool = recording_tracker()
    tracker.track("u", "x", "text", a=1)
    tracker.track(None, "x")
    assert spool.records == []
    assert tracker.stats()["refused"] == {"bad_properties": 1, "banned_id": 1}


def test_properties_beside_a_refused_identity_are_kept():
    """Only what is the visitor's own is left out."""
    tracker, spool = recording_tracker()
    tracker.visitor("u").track("x", {"distinct_id": "v", "plan": "pro"})
    assert spool.events[0]["properties"]["plan"] == "pro"


def test_a_refused_call_is_accepted_first():
    """The books add up: whatever is refused by reason was counted when it came."""
    tracker, _ = recording_tracker()
    _, visitor = begin(tracker)
    visitor.identify("null")
    stats = tracker.stats()
    assert (stats["accepted"], stats["refused"], stats["pending"]) == (1, {"banned_id": 1}, 0)
    assert stats["buffered"] == 0


def test_identity_cannot_come_through_the_back_door():
    """Neither `register` nor `extra_properties` can put another person or project onto an event."""
    victim = {"$user_id": "victim", "distinct_id": "victim", "token": "other"}
    tracker, spool = recording_tracker(extra_properties=victim)
    visitor = tracker.visitor(DEVICE)
    visitor.register(victim)
    visitor.track("x")
    properties = spool.events[0]["properties"]
    assert (properties["distinct_id"], properties["token"]) == (f"$device:{DEVICE}", TOKEN)
    assert "$user_id" not in properties


def test_properties_may_be_any_mapping():
    """What frameworks hand around is not always a dict."""
    tracker, spool = recording_tracker()
    tracker.visitor("u").track("x", MappingProxyType({"a": 1}))
    tracker.visitor("u").track("y", MappingProxyType({"a": 1}), b=2)
    tracker.visitor("u").people_set(MappingProxyType({"a": 1}))
    assert spool.events[0]["properties"]["a"] == 1
    assert spool.events[1]["properties"]["b"] == 2
    assert spool.messages("engage")[0]["$set"] == {"a": 1}
