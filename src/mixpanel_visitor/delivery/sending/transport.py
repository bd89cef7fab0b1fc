"""Transport: sends one request, and has the spool remember its records meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .responses import interpret

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mixpanel_visitor.delivery.spool import CrashTrackingSpool
    from mixpanel_visitor.records import Endpoint

    from .http_client import Response
    from .responses import Verdict
    from .send_queue import Batch

    Post = Callable[[Endpoint, Sequence[bytes]], Response]
    PostWithin = Callable[[Endpoint, Sequence[bytes], float], Response]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The response to a request of `count` records, its meaning, and when it came (wall clock, seconds).

    `ambiguous`: Mixpanel may have applied the records, and they must not be sent a second time.
    """

    response: Response
    verdict: Verdict
    count: int
    at_s: float
    ambiguous: bool


class Transport:
    """Sends requests through `post`; those with a time-out through `post_within`, where there is one.

    `crash_tracking` is the spool, if it can note which records are being sent. All endpoints share one
    transport: it has no state of its own.
    """

    def __init__(
        self,
        post: Post,
        *,
        post_within: PostWithin | None,
        crash_tracking: CrashTrackingSpool | None,
        clock: Callable[[], float],
    ) -> None:
        self._post = post
        self._post_within = post_within
        self._crash_tracking = crash_tracking
        self._clock = clock

    def send(self, batch: Batch, *, once: bool, timeout_s: float | None) -> Outcome:
        """Send the records of `batch` and return the outcome; `once`: they must not be sent twice.

        Raise what `post` raises.
        """
        endpoint, bodies = batch.claim.endpoint, batch.bodies
        if self._crash_tracking is not None:
            self._crash_tracking.note_sending(batch.claim, batch.indexes, once=once)
        try:
            if timeout_s is None or self._post_within is None:
                response = self._post(endpoint, bodies)
            else:
                response = self._post_within(endpoint, bodies, timeout_s)
        finally:
            if self._crash_tracking is not None:
                self._crash_tracking.note_sent()
        now_s = self._clock()
        verdict = interpret(endpoint, response, bodies, now_s=now_s)
        return Outcome(
            response=response,
            verdict=verdict,
            count=len(bodies),
            at_s=now_s,
            ambiguous=once and verdict.unknown,
        )

    def settled(self) -> None:
        """Have the spool forget a request that was sent with `once`: its outcome is noted."""
        if self._crash_tracking is not None:
            self._crash_tracking.note_settled()
