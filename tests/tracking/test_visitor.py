"""Visitor: what a handler can say, and that nothing it says can hurt it."""

import asyncio
import dataclasses
import enum
import logging
import uuid
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType

import pytest
from support.facts import facts
from support.trackers import NOW_S, TOKEN, known, recording_tracker

from mixpanel_visitor.errors import InvalidEventError
from mixpanel_visitor.tracking.context import current_visitor
from mixpanel_visitor.tracking.tracker import engine_of

DEVICE = "6f1c2a3b-4d5e-4f60-8a7b-9c0d1e2f3a4b"


def begin(tracker, headers=None, **more):
    """Begin the request of a visitor whom we know."""
    return engine_of(tracker).begin(facts(headers or known(), **more), in_background=False)


def test_an_event_is_frozen_at_the_call():
    """Time, insert id and identity are those of the moment of `track`; later changes do not reach it."""
    tracker, spool = recording_tracker()
    exchange, visitor = begin(tracker)
    properties = {"plan": "pro"}
    visitor.track("Signed up", properties)
    properties["plan"] = "free"
    visitor.identify("user-42")
    visitor.track("Welcomed")
    engine_of(tracker).on_response_end(exchange, in_background=False)
    before, after = (event["properties"] for event in spool.events)
    assert before["plan"] == "pro"
    assert before["time"] == round(NOW_S * 1000)
    assert before["distinct_id"] == f"$device:{visitor.device_id}"
    assert "$user_id" not in before
    assert (after["distinct_id"], after["$user_id"]) == ("user-42", "user-42")
    assert after["$device_id"] == before["$device_id"] == visitor.id
    assert before["$insert_id"] != after["$insert_id"]
    assert before["token"] == TOKEN


def test_attributes_of_a_new_visitor():
    """Everything a handler may want to know."""
    tracker, _ = recording_tracker()
    _, visitor = engine_of(tracker).begin(facts(), in_background=False)
    assert visitor.id == visitor.device_id
    assert str(uuid.UUID(visitor.id)) == visitor.id
    assert visitor.distinct_id == f"$device:{visitor.id}"
    assert visitor.user_id is None
    assert (visitor.source, visitor.vouched, visitor.is_new) == ("generated", True, True)
    assert (visitor.consent, visitor.is_bot) == ("granted", False)
    assert visitor.id not in repr(visitor)  # an ID is personal data and does not belong into logs


def test_properties_may_be_keywords():
    """A dict, keywords, or both; the event's name may be a property's name too."""
    tracker, spool = recording_tracker()
    tracker.visitor("u").track("x", {"a": 1}, b=2, event="e", properties="p")
    properties = spool.events[0]["properties"]
    assert (properties["a"], properties["b"]) == (1, 2)
    assert (properties["event"], properties["properties"]) == ("e", "p")


def test_registered_properties_go_with_later_events():
    """Super properties last until the end of the request or the log-out."""
    tracker, spool = recording_tracker()
    visitor = tracker.visitor("u")
    visitor.track("before")
    visitor.register({"theme": "dark"}, beta=True)
    visitor.track("after", theme="light")
    visitor.reset()
    visitor.track("fresh")
    before, after, fresh = (event["properties"] for event in spool.events)
    assert "theme" not in before
    assert (after["theme"], after["beta"]) == ("light", True)
    assert "theme" not in fresh


def test_set_group_marks_events_and_the_profile():
    """As mixpanel-browser's `set_group` does."""
    tracker, spool = recording_tracker()
    visitor = tracker.visitor("u")
    visitor.set_group("company", "Acme")
    visitor.track("x")
    assert spool.events[0]["properties"]["company"] == ["Acme"]
    assert spool.messages("engage")[0]["$set"] == {"company": ["Acme"]}


def test_a_given_time_and_insert_id_are_kept():
    """Backdating and own IDs for deduplication are legitimate."""
    tracker, spool = recording_tracker()
    tracker.visitor("u").track("x", {"time": 1_700_000_000, "$insert_id": "mine-1"})
    properties = spool.events[0]["properties"]
    assert (properties["time"], properties["$insert_id"]) == (1_700_000_000_000, "mine-1")


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


def test_before_send_has_the_last_word():
    """It may change an event or drop it; dropped ones are counted."""

    def scrub(event):
        if event["event"] == "secret":
            return None
        event["properties"].pop("password", None)
        return event

    tracker, spool = recording_tracker(before_send=scrub)
    visitor = tracker.visitor("u")
    visitor.track("secret")
    visitor.track("login", password="hunter2")
    assert spool.names == ["login"]
    assert "password" not in spool.events[0]["properties"]
    assert tracker.stats()["refused"] == {"before_send": 1}


def test_a_failing_before_send_lets_nothing_out():
    """It may be the scrubber of personal data, so what it could not see is refused, and nothing raises."""

    def scrub(_event):
        raise KeyError("oops")

    tracker, spool = recording_tracker(before_send=scrub)
    tracker.visitor("u").track("x")
    assert spool.records == []
    assert tracker.stats()["refused"] == {"before_send_failed": 1}


def boom():
    raise RuntimeError("boom")


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({"app": "shop"}, {"app": "shop"}),
        (lambda: {"app": "shop"}, {"app": "shop"}),
        (lambda facts: {"path": facts and facts.path}, {"path": "/"}),
        (boom, {}),
        (dict, {}),
    ],
)
def test_extra_properties_are_added(extra, expected):
    """A mapping, or a callable with or without the request; a failing one costs the event nothing."""
    tracker, spool = recording_tracker(extra_properties=extra)
    exchange, visitor = begin(tracker)
    visitor.track("x")
    engine_of(tracker).on_response_end(exchange, in_background=False)
    assert expected.items() <= spool.events[0]["properties"].items()


def test_explicit_properties_beat_registered_and_extra_ones():
    """The closer to the call, the stronger."""
    tracker, spool = recording_tracker(extra_properties={"a": 1, "b": 1, "c": 1})
    visitor = tracker.visitor("u")
    visitor.register(b=2, c=2)
    visitor.track("x", c=3)
    properties = spool.events[0]["properties"]
    assert (properties["a"], properties["b"], properties["c"]) == (1, 2, 3)


@pytest.mark.parametrize(
    ("headers", "reason"), [({"dnt": "1"}, "consent_denied"), ({"user-agent": "Googlebot"}, "bot")]
)
def test_events_of_those_we_may_not_track_are_refused(headers, reason):
    """They are counted, so that the ledger adds up, and nothing is stored."""
    tracker, spool = recording_tracker()
    exchange, visitor = begin(tracker, headers)
    visitor.track("x")
    visitor.people_set({"a": 1})
    engine_of(tracker).on_response_end(exchange, in_background=False)
    assert spool.records == []
    assert tracker.stats()["refused"] == {reason: 2}
    assert visitor.id


def test_an_offline_visitor_may_be_a_device():
    """A visitor ID from a request may be used in a job."""
    tracker, spool = recording_tracker()
    tracker.visitor(DEVICE).track("x")
    properties = spool.events[0]["properties"]
    assert (properties["distinct_id"], properties["$device_id"]) == (f"$device:{DEVICE}", DEVICE)


def test_an_offline_user_id_may_look_like_a_device():
    """Where users' IDs are UUIDs, a keyword says so."""
    tracker, spool = recording_tracker()
    tracker.visitor(user_id=DEVICE).track("x")
    properties = spool.events[0]["properties"]
    assert (properties["distinct_id"], properties["$user_id"]) == (DEVICE, DEVICE)
    with pytest.raises(TypeError):
        tracker.visitor("u", user_id="v")


def test_a_block_stores_its_events_together():
    """`with tracker.visitor(...)` is one write, also when the block fails."""
    tracker, spool = recording_tracker()
    visitor = tracker.visitor("u")

    def job():
        with visitor:
            visitor.track("a")
            visitor.track("b")
            assert spool.records == []
            raise KeyError

    with pytest.raises(KeyError):
        job()
    assert spool.names == ["a", "b"]
    visitor.track("later")
    assert spool.names == ["a", "b", "later"]


def test_original_mode_sends_identify_in_the_request():
    """The identity event goes the same durable way as all others, before what follows it."""
    tracker, spool = recording_tracker(id_mode="original")
    exchange, visitor = begin(tracker)
    visitor.identify("user-42")
    visitor.track("x")
    engine_of(tracker).on_response_end(exchange, in_background=False)
    assert spool.names == ["$identify", "x"]
    assert spool.events[0]["properties"]["$anon_id"] == f"$device:{visitor.device_id}"


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


@dataclasses.dataclass
class Size:
    width: int


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


def test_registered_properties_are_those_of_the_call():
    """What the application does with its list later changes no event."""
    tracker, spool = recording_tracker()
    visitor = tracker.visitor("u")
    tags, nested = ["a"], {"b": ["c"]}
    visitor.register({"tags": tags, "nested": nested})
    visitor.set_group("company", tags)
    tags.append("late")
    nested["b"].append("late")
    visitor.track("x")
    properties = spool.events[0]["properties"]
    assert (properties["tags"], properties["nested"]) == (["a"], {"b": ["c"]})
    assert properties["company"] == ["a"]


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


@pytest.mark.parametrize("answer", [True, ["event"], "event", 0, object()])
def test_before_send_must_answer_with_an_event_or_none(caplog, answer):
    """What else it answers is named, and the event does not leave: nobody knows whether it was looked at."""
    tracker, spool = recording_tracker(before_send=lambda _event: answer)
    tracker.visitor("u").track("x")
    assert spool.records == []
    assert tracker.stats()["refused"] == {"before_send_failed": 1}
    assert type(answer).__name__ in caplog.text
    assert "return the event" in caplog.text


def test_before_send_sees_what_is_sent_and_may_add_anything():
    """Values have their final form by then, and what it adds gets it."""
    seen = []

    def stamp(event):
        seen.append(event["properties"]["size"])
        event["properties"].update(time=Decimal(str(NOW_S)), distinct_id=42, price=Decimal("1.5"))
        return event

    tracker, spool = recording_tracker(before_send=stamp)
    tracker.visitor("u").track("x", {"size": Size(3)})
    properties = spool.events[0]["properties"]
    assert seen == [{"width": 3}]
    assert (properties["distinct_id"], properties["price"]) == ("42", 1.5)
    assert properties["time"] == round(NOW_S * 1000)


@pytest.mark.parametrize("order", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_an_order_to_stop_is_not_kept_from_the_process(order):
    """`before_send` that exits or is cancelled is obeyed; the books add up all the same."""

    def stop(_event):
        raise order

    tracker, spool = recording_tracker(before_send=stop)
    with pytest.raises(order):
        tracker.visitor("u").track("x")
    stats = tracker.stats()
    assert spool.records == []
    assert (stats["accepted"], stats["refused"], stats["pending"]) == (1, {"interrupted": 1}, 0)


@pytest.mark.parametrize(
    "extra", [lambda: ["a"], lambda: "a", lambda: 7, {"a": [[[[1]]]]}, lambda: {"a": list(range(300))}]
)
def test_extra_properties_that_cannot_be_sent_cost_no_event(caplog, extra):
    """Each event goes without them, and the setting is named."""
    tracker, spool = recording_tracker(extra_properties=extra)
    tracker.visitor("u").track("x")
    assert spool.names == ["x"]
    assert tracker.stats()["notes"] == {"extra_properties_failed": 1}
    assert "extra_properties" in caplog.text


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


def test_nonsense_from_before_send_costs_one_event(caplog):
    """What is neither an event nor None is counted, logged and never raised."""
    tracker, spool = recording_tracker(before_send=lambda event: event if event["event"] == "good" else 42)
    visitor = tracker.visitor("u")
    visitor.track("x")
    visitor.track("good")
    assert spool.names == ["good"]
    assert sum(tracker.stats()["refused"].values()) == 1
    assert __file__ in caplog.text


def test_nonsense_from_before_send_raises_under_test():
    """With `on_error="raise"` a mistake in a hook is an exception as well."""
    tracker, _ = recording_tracker(before_send=lambda _event: 42, on_error="raise")
    with pytest.raises(Exception, match=r"int|dict"):
        tracker.visitor("u").track("x")


def test_failing_extra_properties_are_logged_and_counted(caplog):
    """The event goes without them, and the developer is told."""
    tracker, spool = recording_tracker(extra_properties=boom)
    tracker.visitor("u").track("x")
    assert spool.names == ["x"]
    assert tracker.stats()["notes"] == {"extra_properties_failed": 1}
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_an_offline_log_in_goes_with_later_events():
    """In a job as in a request: from `identify` on, events carry the user and the device."""
    tracker, spool = recording_tracker()
    visitor = tracker.visitor(DEVICE)
    visitor.identify("user-42")
    visitor.track("x")
    properties = spool.events[0]["properties"]
    assert (properties["$user_id"], properties["$device_id"]) == ("user-42", DEVICE)


def test_an_offline_log_out_makes_somebody_new():
    """A job that resets goes on under a fresh device ID, for which no host vouches."""
    tracker, spool = recording_tracker()
    visitor = tracker.visitor("user-42")
    visitor.reset()
    visitor.track("x")
    assert visitor.user_id is None
    assert not visitor.vouched
    assert spool.events[0]["properties"]["distinct_id"] == f"$device:{visitor.device_id}"


def test_an_offline_visitor_is_a_person():
    """Jobs know whom they speak of."""
    tracker, _ = recording_tracker()
    visitor = tracker.visitor("u")
    assert (visitor.is_bot, visitor.consent) == (False, "granted")


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


def test_blocks_may_be_nested():
    """The events are stored at the end of the outer one, and nobody is left current."""
    tracker, spool = recording_tracker()
    visitor = tracker.visitor("u")
    with visitor:
        with visitor:
            visitor.track("x")
        assert spool.names == []
        assert current_visitor.id == "u"
    assert spool.names == ["x"]
    assert not current_visitor


def test_two_users_of_one_device_outside_of_a_request_are_two():
    """As in a request, the second one gets a device of its own."""
    tracker, spool = recording_tracker(id_mode="original")
    visitor = tracker.visitor(device_id=DEVICE)
    visitor.identify("anna")
    visitor.identify("bert")
    anna, bert = (event["properties"] for event in spool.events)
    assert anna["$anon_id"] == f"$device:{DEVICE}"
    assert bert["$anon_id"] != anna["$anon_id"]
