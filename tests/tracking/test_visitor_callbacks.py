"""Visitor: what the application's own `before_send` and `extra_properties` do to its events."""

import asyncio
import dataclasses
import logging
from decimal import Decimal

import pytest
from support.trackers import NOW_S, begin, recording_tracker

from mixpanel_visitor.tracking.tracker import engine_of


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


@dataclasses.dataclass
class Size:
    width: int


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
