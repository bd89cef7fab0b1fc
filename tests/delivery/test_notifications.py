"""Notifications: how long the sender's thread lingers, and what wakes it."""

from __future__ import annotations

import pytest
from support.journals import Clock

from mixpanel_visitor.delivery.sending.notifications import Notifications
from mixpanel_visitor.delivery.sending.send_queue import MAX_RECORDS


@pytest.fixture
def waits_s() -> list[float]:
    """The waits so far, in seconds."""
    return []


@pytest.fixture
def notifications(waits_s) -> Notifications:
    """Notifications whose waits move the clock."""
    clock = Clock()

    def wait(seconds: float) -> None:
        waits_s.append(seconds)
        clock.tick(seconds)

    return Notifications(monotonic=clock.monotonic, wait=wait, linger_s=1.0)


def goes_on() -> bool:
    """The thread is not to end."""
    return False


def test_only_the_first_record_of_a_round_is_the_first(notifications):
    """After a round the next one is the first again."""
    assert [notifications.add(1), notifications.add(1)] == [True, False]
    notifications.linger(goes_on)
    assert notifications.add(1)


def test_without_a_record_nothing_lingers(notifications, waits_s):
    """The thread looks for what other processes have put."""
    notifications.linger(goes_on)
    assert waits_s == []


def test_after_a_record_it_lingers(notifications, waits_s):
    """For the time that it was given, from the first record on."""
    notifications.add(1)
    notifications.linger(goes_on)
    assert waits_s == [1.0]


@pytest.mark.parametrize("records", [MAX_RECORDS, MAX_RECORDS + 1])
def test_a_full_batch_does_not_linger(notifications, waits_s, records):
    """There is nothing to wait for."""
    notifications.add(1)
    notifications.add(records - 1)
    notifications.linger(goes_on)
    assert waits_s == []


def test_a_flush_does_not_linger_and_holds_for_one_round(notifications, waits_s):
    """The round after it lingers as usual."""
    notifications.add(1)
    notifications.request_flush()
    notifications.linger(goes_on)
    assert waits_s == []
    notifications.add(1)
    notifications.linger(goes_on)
    assert waits_s == [1.0]


def test_a_thread_that_is_to_end_does_not_linger(notifications, waits_s):
    """An exit is not held up."""
    notifications.add(1)
    notifications.linger(lambda: True)
    assert waits_s == []


def test_a_wake_of_before_the_rest_is_not_lost():
    """A thread that rests a moment too late does not sleep through it."""
    real = Notifications(monotonic=Clock().monotonic, wait=None, linger_s=1.0)
    real.wake()
    real.wait(600.0)
