"""RetryPolicy: when the next request to an endpoint may be sent, by the outcomes of the last ones.

No I/O; clocks and random source are arguments. The figures are Mixpanel's advice for 429 and 5xx: wait 2 s,
doubling to 60 s, plus 1 to 5 s of jitter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .responses import RETRY_AFTER_MAX_S

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_CONSECUTIVE_REJECTIONS = 10
"""Single records rejected in a row, after which the configuration is suspected and sending pauses."""

ERROR_WAIT_MAX_S = 60.0


def backoff_s(failures: int, jitter_s: float, retry_after_s: float | None = None) -> float:
    """Return the seconds to wait after a failure that had `failures` before it; `jitter_s` is 1 to 5."""
    own_s = min(60.0, 2.0 * 2.0 ** min(failures, 10)) + jitter_s
    return max(own_s, min(retry_after_s or 0.0, RETRY_AFTER_MAX_S))


def pause_s(pauses: int) -> float:
    """Return the seconds to pause for a wrong configuration that had `pauses` before: 60, doubling to 600."""
    return min(600.0, 60.0 * 2.0 ** min(pauses, 10))


class RetryPolicy:
    """Counts failures in a row, and says how long to wait before the next request.

    There are four counts, each with its own pauses: requests to be tried again, responses that say that the
    configuration is wrong, single records that were rejected, and exceptions (of the spool, for example). A
    method that counts one of them starts a pause and returns its length in seconds.

    `clock` is wall clock, `monotonic` measures pauses; `uniform(low, high)` draws the jitter.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        uniform: Callable[[float, float], float],
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._uniform = uniform
        self._not_before_s = monotonic()
        self._reason = ""
        self._retries = 0
        self._misconfigurations = 0
        self._rejections = 0
        self._errors = 0

    @property
    def wait_s(self) -> float:
        """Seconds until the next request may be sent; 0 or less: it may be sent now."""
        return self._not_before_s - self._monotonic()

    @property
    def paused_until_s(self) -> float:
        """Wall clock at which the pause ends, in seconds since the epoch; 0: there is no pause."""
        wait_s = self.wait_s
        return self._clock() + wait_s if wait_s > 0 else 0.0

    @property
    def reason(self) -> str:
        """Why there is a pause; empty where there is none."""
        return self._reason if self.wait_s > 0 else ""

    @property
    def failures(self) -> int:
        """Failures in a row of any kind but rejections."""
        return self._retries + self._misconfigurations + self._errors

    @property
    def is_retrying(self) -> bool:
        """Whether the last request has to be tried again."""
        return self._retries > 0

    @property
    def rejections(self) -> int:
        """Single records rejected in a row, with nothing delivered between them."""
        return self._rejections

    def pause(self, wait_s: float, reason: str) -> None:
        """Allow no request for `wait_s` seconds from now."""
        self._not_before_s = self._monotonic() + wait_s
        self._reason = reason

    def failed(self, reason: str, retry_after_s: float | None = None) -> float:
        """Count a request that is to be tried again, no sooner than after `retry_after_s` seconds."""
        wait_s = backoff_s(self._retries, self._uniform(1.0, 5.0), retry_after_s)
        self._retries += 1
        self.pause(wait_s, reason)
        return wait_s

    def misconfigured(self, reason: str) -> float:
        """Count a response that says that the configuration is wrong."""
        wait_s = pause_s(self._misconfigurations)
        self._misconfigurations += 1
        self.pause(wait_s, reason)
        return wait_s

    def rejected(self) -> float:
        """Count a single record that Mixpanel has rejected; the pause is 0 s for the first ten in a row."""
        self._rejections += 1
        if self._rejections <= MAX_CONSECUTIVE_REJECTIONS:
            return 0.0
        wait_s = pause_s(self._rejections - MAX_CONSECUTIVE_REJECTIONS - 1)
        self.pause(wait_s, "one record after the other is refused")
        return wait_s

    def raised(self, reason: str) -> float:
        """Count an exception."""
        wait_s = min(ERROR_WAIT_MAX_S, 2.0 ** min(self._errors, 10))
        self._errors += 1
        self.pause(wait_s, reason)
        return wait_s

    def completed(self) -> None:
        """Reset the count of exceptions: a round has ended without one."""
        self._errors = 0

    def delivered(self) -> None:
        """Reset the count of rejections: Mixpanel has taken a record."""
        self._rejections = 0

    def answered(self) -> bool:
        """Reset the other counts: Mixpanel has processed a request. Return whether any was not 0."""
        had_failures = self.failures > self._errors
        self._retries = self._misconfigurations = 0
        return had_failures
