"""EndpointWorker: claims the records of one endpoint, sends them, and settles each by Mixpanel's response.

Its `RetryPolicy` decides when to send, its `SendQueue` what; its `Settlements` have what the spool has not
taken yet. It has no thread and no lock: the sender calls `step`, one call at a time.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from mixpanel_visitor.delivery.spool import DeadReason

from .crash_isolation import CRASH_LIMIT, separate
from .idempotency import is_repeatable, runs
from .reporter import Reporter
from .retry_policy import RetryPolicy
from .send_queue import MAX_RECORDS, Batch, Limits, SendQueue, request_bytes
from .settlements import Settlements
from .stats import EndpointStats

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mixpanel_visitor.delivery.spool import Claim, Spool
    from mixpanel_visitor.records import Endpoint

    from .reporter import LogFunction
    from .responses import Verdict
    from .stats import SenderStats
    from .transport import Transport

ONCE_NEEDS_S = 0.5
"""With less time than this for the response, nothing is sent that must not be sent twice."""


class EndpointWorker:
    """Claims, posts, and settles the records of one endpoint.

    Whatever fails, records stay claimed here or waiting in the spool; only a response settles them.
    `has_opt_outs` returns whether there are opt-outs since its last call. `idle`, after a `step`: nothing
    waits.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        spool: Spool,
        transport: Transport,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        uniform: Callable[[float, float], float],
        poll_s: float,
        max_bytes: int | None,
        log: LogFunction,
        stats: SenderStats,
        retry_ambiguous: bool,
        has_opt_outs: Callable[[], bool],
    ) -> None:
        self.endpoint: Endpoint = endpoint
        self.idle = False
        self._spool = spool
        self._transport = transport
        self._monotonic = monotonic
        self._poll_s = poll_s
        self._retry_ambiguous = retry_ambiguous
        self._has_opt_outs = has_opt_outs
        self._limits = Limits() if max_bytes is None else Limits(max_bytes=max_bytes)
        self._queue = SendQueue()
        self._settlements = Settlements(spool)
        self._retries = RetryPolicy(clock=clock, monotonic=monotonic, uniform=uniform)
        self._reporter = Reporter(endpoint, stats=stats, log=log, clock=clock)

    def step(self, ends_s: float | None = None) -> float:
        """Send one request if there is one; return the seconds until the next call is of use (0: now).

        The request ends at `ends_s` (monotonic) at the latest. Never raises.
        """
        wait_s = self._retries.wait_s
        if wait_s > 0:
            return wait_s
        try:
            wait_s = self._advance(ends_s)
            self._retries.completed()
        except Exception as error:
            self.idle = False
            reason = f"{type(error).__name__}: {error}"
            wait_s = self._retries.raised(reason)
            self._reporter.raised(error, reason, wait_s)
        return wait_s

    def release(self) -> None:
        """Release all claimed records to the spool; raise what the spool raises."""
        self._settlements.flush()
        by_claim: dict[int, tuple[Claim, list[int]]] = {}
        for batch in self._queue.drain():
            by_claim.setdefault(id(batch.claim), (batch.claim, []))[1].extend(batch.indexes)
        for claim, indexes in by_claim.values():
            self._settlements.release(claim, sorted(indexes))
        self._settlements.flush()

    def stats(self) -> EndpointStats:
        """Return the current state of this endpoint."""
        return EndpointStats(
            paused_until_s=self._retries.paused_until_s,
            why=self._retries.reason,
            failures=self._retries.failures,
            limit_bytes=self._limits.max_bytes,
            held=len(self._queue),
            parked=self._queue.deferred,
        )

    def _advance(self, ends_s: float | None) -> float:
        self._settlements.flush()
        if self._has_opt_outs():
            # The records here were claimed before: after a release, `claim` leaves out withdrawn ones.
            self.release()
        self._queue.resume(self._monotonic())
        batch = self._queue.first(self._limits.max_bytes)
        if batch is None:
            claim = self._spool.claim(self.endpoint, self._limits.max_records, self._limits.claim_bytes)
            if not claim:
                due_s = self._queue.due_s
                self.idle = due_s is None
                return (
                    self._poll_s if due_s is None else min(self._poll_s, max(0.0, due_s - self._monotonic()))
                )
            self._enqueue(claim)
            batch = self._queue.first(self._limits.max_bytes)
        self.idle = False
        self._settlements.flush()
        # A claim takes time, too: with none left, a request would only fail.
        if batch is not None and (ends_s is None or self._monotonic() < ends_s):
            self._send(batch, ends_s)
        return max(0.0, self._retries.wait_s)

    def _enqueue(self, claim: Claim) -> None:
        parts: list[Sequence[int]] = list(runs(self.endpoint, claim.bodies))
        if claim.ambiguous and not self._retry_ambiguous:
            ambiguous = sorted(claim.ambiguous)
            self._dead_letter_ambiguous(
                claim, ambiguous, "the process that sent it has died before the answer"
            )
            self._reporter.inherited_ambiguous(len(ambiguous))
            unambiguous = ([index for index in run if index not in claim.ambiguous] for run in parts)
            parts = [run for run in unambiguous if run]
        for indexes in separate(parts, claim.crash_counts, ordered=self.endpoint != "import"):
            crashes = claim.crash_counts.get(indexes[0], 0)
            if crashes < CRASH_LIMIT:
                self._queue.add(Batch(claim=claim, indexes=indexes))
            else:
                message = f"poison: the process that sends it has died {crashes} times"
                self._settlements.dead_letter(claim, dict.fromkeys(indexes, DeadReason(message=message)))
                self._reporter.crashing(len(indexes), crashes)

    def _send(self, batch: Batch, ends_s: float | None) -> None:
        once = not (
            self._retry_ambiguous or is_repeatable(self.endpoint, batch.claim.bodies[batch.indexes[0]])
        )
        if once and self._retries.is_retrying:
            # The outcome of a retry may be unknown again: with one record, not with all of them.
            batch = self._queue.cut(1)
        timeout_s = None if ends_s is None else ends_s - self._monotonic()
        if once and timeout_s is not None and timeout_s < ONCE_NEEDS_S:
            # At exit: if time cuts the request off, its outcome is unknown; the next process has more time.
            self._retries.pause(ONCE_NEEDS_S, "there is too little time to be sure of the answer")
            return
        outcome = self._transport.send(batch, once=once, timeout_s=timeout_s)
        self._reporter.answered(outcome)
        verdict = outcome.verdict
        if verdict.kind not in ("retry", "pause") and self._retries.answered():
            self._reporter.recovered()
        match verdict.kind:
            case "delivered" | "partial":
                self._limits.accepted(request_bytes(batch.bodies))
                self._settle(batch, verdict)
            case "split":
                self._limits.too_large(request_bytes(batch.bodies), verdict.limit_bytes)
                self._queue.shrink(self._limits.max_bytes)
            case "bisect":
                self._queue.bisect()
            case "retry":
                wait_s = self._retries.failed(verdict.message, verdict.wait_s)
                if outcome.ambiguous:
                    self._queue.done(whole=False)
                    self._dead_letter_ambiguous(
                        batch.claim, batch.indexes, verdict.message, outcome.response.status
                    )
                    self._reporter.ambiguous(len(batch.indexes))
                    self._settlements.flush()
                self._reporter.failed(logging.WARNING, verdict, wait_s)
            case "pause":
                wait_s = self._retries.misconfigured(verdict.message)
                self._reporter.failed(logging.ERROR, verdict, wait_s)
        if once:
            self._transport.settled()

    def _settle(self, batch: Batch, verdict: Verdict) -> None:
        delivered = [batch.indexes[index] for index in verdict.delivered(len(batch.indexes))]
        dead = {batch.indexes[index]: reason for index, reason in verdict.dead.items()}
        self._queue.done(whole=verdict.kind == "delivered")
        if delivered:
            self._settlements.ack(batch.claim, delivered)
        if dead:
            self._settlements.dead_letter(batch.claim, dead)
        if verdict.retry:
            deferred = Batch(claim=batch.claim, indexes=[batch.indexes[index] for index in verdict.retry])
            self._defer(deferred, verdict.wait_s or 0.0)
        if dead or verdict.retry:
            self._reporter.refused(verdict)
        if delivered:
            self._retries.delivered()
        elif verdict.status_class == "poison":
            wait_s = self._retries.rejected()
            if wait_s > 0:
                self._reporter.rejections(self._retries.rejections, wait_s)
        self._settlements.flush()

    def _dead_letter_ambiguous(
        self, claim: Claim, indexes: Sequence[int], message: str, status: int = 0
    ) -> None:
        reason = DeadReason(
            message=f"ambiguous: Mixpanel may have applied it, and must not twice ({message})",
            status=status,
        )
        self._settlements.dead_letter(claim, dict.fromkeys(indexes, reason))

    def _defer(self, batch: Batch, wait_s: float) -> None:
        # Kept here, not released: at the head of the spool an event with a date of next week would be in
        # every claim. Many of them mean a wrong clock, and then all may as well wait.
        if self._queue.deferred + len(batch.indexes) <= MAX_RECORDS:
            self._queue.defer(batch, self._monotonic() + wait_s)
            return
        self._settlements.release(batch.claim, batch.indexes)
        self._retries.pause(wait_s, "too many records have a time in the future")
