"""RetryPolicy: how long to wait, by what came of the requests before."""

from __future__ import annotations

import pytest

from mixpanel_visitor.delivery.sending.retry_policy import (
    MAX_CONSECUTIVE_REJECTIONS,
    RetryPolicy,
    backoff_s,
    pause_s,
)


@pytest.fixture
def policy(clock) -> RetryPolicy:
    """A policy whose jitter is always a second."""
    return RetryPolicy(clock=clock.time, monotonic=clock.monotonic, uniform=lambda low, high: low)


def test_the_back_off_doubles_to_a_minute():
    """Mixpanel's advice: 2 s doubling to 60 s, plus jitter."""
    assert [backoff_s(n, 1.0) for n in range(7)] == [3.0, 5.0, 9.0, 17.0, 33.0, 61.0, 61.0]


def test_the_back_off_never_overflows():
    """After years of failures the wait is still a minute."""
    assert backoff_s(10**9, 5.0) == 65.0


@pytest.mark.parametrize(("retry_after", "wait_s"), [(None, 3.0), (1.0, 3.0), (100.0, 100.0), (1e9, 600.0)])
def test_retry_after_is_a_minimum(retry_after, wait_s):
    """The longer of our wait and the server's counts."""
    assert backoff_s(0, 1.0, retry_after) == wait_s


def test_a_pause_doubles_to_ten_minutes():
    """A wrong configuration is tried again after 60 s, and ever more rarely."""
    assert [pause_s(n) for n in (0, 1, 2, 3, 4, 10**9)] == [60.0, 120.0, 240.0, 480.0, 600.0, 600.0]


def test_at_first_a_request_may_be_sent(policy):
    """Nothing has failed yet."""
    assert policy.wait_s <= 0
    assert (policy.paused_until_s, policy.reason, policy.failures) == (0.0, "", 0)


def test_failures_in_a_row_wait_longer_each_time(policy):
    """The pause doubles with each request that has to be tried again."""
    assert [policy.failed("503") for _ in range(3)] == [3.0, 5.0, 9.0]
    assert policy.failures == 3


def test_a_pause_ends_with_its_time(policy, clock):
    """Until then its reason and its end can be asked for."""
    policy.failed("503")
    assert (policy.wait_s, policy.reason) == (3.0, "503")
    assert policy.paused_until_s == clock.time() + 3.0
    clock.tick(3.0)
    assert policy.wait_s <= 0
    assert (policy.paused_until_s, policy.reason) == (0.0, "")


def test_a_pause_is_not_shortened_by_a_wall_clock_that_is_set(policy, clock):
    """Pauses are measured by the monotonic clock."""
    policy.failed("503")
    clock.wall_s += 3_600
    assert policy.wait_s == 3.0


def test_the_servers_wait_is_kept(policy):
    """Retry-After is a minimum."""
    assert policy.failed("429", retry_after_s=120.0) == 120.0


def test_an_answer_ends_the_failures_and_says_so_once(policy):
    """The end of trouble is worth a log line, and the next failure waits for a short time again."""
    policy.failed("503")
    policy.misconfigured("401")
    assert policy.answered()
    assert not policy.answered()
    assert policy.failed("503") == 3.0


def test_a_wrong_configuration_has_pauses_of_its_own(policy):
    """They begin at a minute, whatever has failed before, and do not count as something to try again."""
    assert [policy.misconfigured("401") for _ in range(3)] == [60.0, 120.0, 240.0]
    assert not policy.is_retrying


def test_only_a_failure_is_retried(policy):
    """After the answer to it there is nothing to try again."""
    policy.failed("503")
    assert policy.is_retrying
    policy.answered()
    assert not policy.is_retrying


def test_a_few_rejections_cost_no_pause(policy):
    """Single records may be wrong."""
    assert [policy.rejected() for _ in range(MAX_CONSECUTIVE_REJECTIONS)] == [
        0.0
    ] * MAX_CONSECUTIVE_REJECTIONS
    assert policy.wait_s <= 0


def test_too_many_rejections_pause(policy):
    """With nothing delivered between them, the configuration is the likelier fault."""
    for _ in range(MAX_CONSECUTIVE_REJECTIONS):
        policy.rejected()
    assert [policy.rejected(), policy.rejected()] == [60.0, 120.0]
    assert policy.wait_s == 120.0


def test_a_delivery_forgets_rejections(policy):
    """They are counted in a row."""
    for _ in range(MAX_CONSECUTIVE_REJECTIONS):
        policy.rejected()
    policy.delivered()
    assert policy.rejected() == 0.0
    assert policy.rejections == 1


def test_exceptions_in_a_row_wait_up_to_a_minute(policy):
    """A disk in trouble is asked ever more rarely."""
    assert [policy.raised("OSError") for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_exceptions_are_forgotten_by_a_round_without_one(policy):
    """They are no failures of Mixpanel's: an answer does not end them, and they do not end in a recovery."""
    policy.raised("OSError")
    assert not policy.answered()
    assert policy.failures == 1
    policy.completed()
    assert policy.failures == 0
