"""Reporter: what is logged and counted of all that may happen."""

from __future__ import annotations

import email.utils
import logging
import random

from support.sending import (
    LOST,
    NOW_S,
    UNREACHABLE,
    answer,
    event,
    events,
    failed,
    received,
)

from mixpanel_visitor.delivery.sending.sender import Sender


def test_refused_credentials_are_logged_with_what_to_do(rig, caplog):
    """The line says what happened, what becomes of the events, and what to check."""
    rig.put(*events(1))
    rig.mixpanel.scripts["import"] = [answer(401, {"error": "Invalid credentials"})]
    rig.run()
    line = (
        "Sending to /import failed: Mixpanel refused the credentials (401: Invalid credentials). "
        "Events are kept in the spool and sending pauses for 60 s. Check MIXPANEL_TOKEN and MIXPANEL_REGION."
    )
    assert caplog.messages == [line]


def test_the_same_trouble_is_logged_once_a_minute(rig, caplog):
    """An outage does not fill the log; what was kept back is counted."""
    rig.put(*events(1))
    rig.mixpanel.otherwise = lambda bodies: answer(503)
    rig.run(for_s=59)
    assert len(caplog.messages) == 1
    rig.run(for_s=60)
    assert len(caplog.messages) == 2
    assert "more like this since the last" in caplog.messages[1]


def test_no_event_is_ever_logged(rig, caplog):
    """Neither names nor properties get into the log, whatever happens."""
    caplog.set_level(logging.DEBUG)
    rig.put(event("secret-name"), event("secret-name-too"))
    echo = {"index": 0, "field": "event", "message": "'secret-name' is no name"}
    rig.mixpanel.scripts["import"] = [LOST, answer(400), failed(echo), received]
    rig.run(for_s=60)
    assert caplog.messages
    assert "secret-name" not in caplog.text


def test_a_log_handler_that_raises_stops_nothing(rig):
    """The host's logging is not ours to rely on."""

    def explode(*line):
        raise ZeroDivisionError

    rig.sender = rig.make(log=explode)
    rig.put(*events(1))
    rig.mixpanel.scripts["import"] = [answer(503)]
    rig.run(for_s=5)
    assert rig.spool.acked == events(1)


def test_the_recovery_is_logged(rig, caplog):
    """Who saw the trouble wants to see its end."""
    caplog.set_level(logging.INFO)
    rig.put(*events(1))
    rig.mixpanel.scripts["import"] = [answer(503)]
    rig.run(for_s=5)
    assert caplog.messages[-1] == "Sending to /import works again."


def test_a_clock_that_is_wrong_is_told_once(rig, caplog):
    """The Date header tells how far our clock is off."""
    date = email.utils.formatdate(NOW_S - 60, usegmt=True)
    rig.mixpanel.otherwise = lambda bodies: answer(200, {"code": 200}, date=date)
    rig.put(*events(1))
    rig.run()
    rig.time.wait(120)
    rig.put(event("late"))
    rig.run()
    assert [message for message in caplog.messages if "clock" in message] == caplog.messages
    assert len(caplog.messages) == 1
    assert rig.sender.stats()["clock_offset_s"] == -180.0


def test_the_figures_tell_what_happened(rig):
    """Requests, statuses and records are counted."""
    rig.put(*events(3))
    rig.mixpanel.scripts["import"] = [answer(503), failed({"index": 0, "message": "bad"})]
    rig.run(for_s=5)
    stats = rig.sender.stats()
    figures = {name: stats[name] for name in ("batches", "delivered", "dead", "http", "retried")}
    assert figures == {
        "batches": 2,
        "delivered": 2,
        "dead": 1,
        "http": {503: 1, 400: 1},
        "retried": {"server": 1},
    }


def test_a_paused_lane_says_why_and_until_when(rig):
    """A status command can explain why nothing moves."""
    rig.put(*events(2))
    rig.mixpanel.scripts["import"] = [UNREACHABLE]
    rig.run()
    assert rig.lane() == {
        "paused_until_s": rig.time.clock() + 3.0,
        "why": "Mixpanel was not reached (refused: nobody there)",
        "failures": 1,
        "limit_bytes": 9_500_000,
        "held": 2,
        "parked": 0,
    }


def test_the_pauses_leave_the_seed_of_the_host_alone(rig):
    """A host that seeds `random` gets the same numbers with us as without."""
    rig.put(*events(1))
    rig.mixpanel.otherwise = lambda bodies: answer(503)
    random.seed(7)
    expected = random.random()
    random.seed(7)
    Sender(rig.spool, rig.mixpanel, clock=rig.time.clock, monotonic=rig.time.monotonic).step()
    assert rig.mixpanel.batches() == [events(1)]
    assert random.random() == expected
