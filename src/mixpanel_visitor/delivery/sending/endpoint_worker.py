"""EndpointWorker: one endpoint's way from the spool to Mixpanel, with all it must remember on the way.

A lane holds what it has claimed until each record is settled, through waits and splits. It has no thread
and no lock of its own: the sender calls `step`, one call at a time.
"""

from __future__ import annotations

import logging
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Protocol

from mixpanel_visitor.delivery.spool import DeadReason
from mixpanel_visitor.observability.rate_limited_log import place_of
from mixpanel_visitor.quoting import several

from .crash_isolation import CRASH_LIMIT, separate
from .idempotency import is_repeatable, runs
from .responses import backoff_s, interpret, pause_s
from .send_queue import MAX_RECORDS, Limits, Piece, SendQueue, request_bytes
from .stats import EndpointStats

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mixpanel_visitor.delivery.spool import Claim, Handling, Spool
    from mixpanel_visitor.records import Endpoint

    from .http_client import Answer
    from .responses import StatusClass, Verdict
    from .stats import SenderStats

    Post = Callable[[Endpoint, Sequence[bytes]], Answer]
    PostWithin = Callable[[Endpoint, Sequence[bytes], float], Answer]

MAX_CONSECUTIVE_REJECTIONS = 10
"""After so many single records refused with nothing accepted between, the fault is hardly in the records."""

ONCE_NEEDS_S = 0.5
"""With less time than this for the answer, nothing is sent that must not be sent twice."""

_ADVICE: dict[StatusClass, str] = {
    "config": "Check MIXPANEL_TOKEN and MIXPANEL_REGION.",
    "internal": "Nothing is lost. Please report this line.",
    "garbage": "Look for a proxy or a captive portal between this host and Mixpanel.",
    "network": "Check that this host reaches Mixpanel: name service, firewall, proxy, certificates.",
    "rate_limited": "If this lasts, the project sends more than Mixpanel admits (30,000 events a second).",
    "server": "Nothing needs to be done here; Mixpanel's status page may tell more.",
}


class Say(Protocol):
    """Writes to the log; `RateLimitedLog` is one."""

    def __call__(self, level: int, kind: str, message: str, *args: object) -> None:
        """Log one line, at most once a minute for each `kind`."""
        ...


class EndpointWorker:
    """Claims, posts, and settles the records of one endpoint.

    Whatever fails, records stay claimed here or waiting in the spool; only an answer about them lets them go.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        spool: Spool,
        post: Post,
        post_within: PostWithin | None,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        uniform: Callable[[float, float], float],
        poll_s: float,
        say: Say,
        stats: SenderStats,
        retry_ambiguous: bool = False,
        handling: Handling | None = None,
        revision: Callable[[], int] | None = None,
    ) -> None:
        self.endpoint: Endpoint = endpoint
        self.limits = Limits()
        self.idle = False
        self._spool = spool
        self._post = post
        self._post_within = post_within
        self._clock = clock
        self._monotonic = monotonic
        self._uniform = uniform
        self._poll_s = poll_s
        self._say = say
        self._stats = stats
        self._retry_ambiguous = retry_ambiguous
        self._handling = handling
        self._revision = revision
        self._opt_out_version = 0
        self._work = SendQueue()
        self._deferred: list[tuple[float, Piece]] = []
        self._pending_settlements: deque[Callable[[], None]] = deque()
        self._not_before_s = monotonic()
        self._pause_reason = ""
        self._failures = 0  # answers in a row that ask for another try
        self._pauses = 0  # answers in a row that say the configuration is wrong
        self._consecutive_rejections = 0  # single records in a row that were refused
        self._errors = 0  # exceptions in a row, from the spool for example

    def step(self, ends_s: float | None = None) -> float:
        """Send one request if there is one to send; seconds until the lane wants the next call (0: now).

        `ends_s` (monotonic) bounds the request in time. `idle` then says whether anything is left to do.
        Never raises.
        """
        wait_s = self._not_before_s - self._monotonic()
        if wait_s > 0:
            return wait_s
        try:
            wait_s = self._advance(ends_s)
            self._errors = 0
        except Exception as error:
            self.idle = False
            wait_s = min(60.0, 2.0 ** min(self._errors, 10))
            self._errors += 1
            self._wait(wait_s, f"{type(error).__name__}: {error}")
            self._stats.errors += 1
            self._stats.failed(self._pause_reason, now_s=self._clock())
            self._say(
                logging.ERROR,
                f"error {self.endpoint}",
                "Sending to /%s met an error of its own or of the spool (%s at %s: %s). Its records are "
                "kept, the next try is in %.0f s.",
                *(self.endpoint, type(error).__name__, place_of(error), error, wait_s),
            )
        return wait_s

    def release(self) -> None:
        """Release everything that is held to the spool; raises what the spool raises."""
        self._flush_settlements()
        held = self._work.drain() + [piece for _, piece in self._deferred]
        self._deferred.clear()
        by_claim: dict[int, tuple[Claim, list[int]]] = {}
        for piece in held:
            by_claim.setdefault(id(piece.claim), (piece.claim, []))[1].extend(piece.indexes)
        for claim, indexes in by_claim.values():
            self._pending_settlements.append(partial(self._spool.release, claim, sorted(indexes)))
        self._flush_settlements()

    def stats(self) -> EndpointStats:
        """The figures of now."""
        wait_s = self._not_before_s - self._monotonic()
        return EndpointStats(
            paused_until_s=self._clock() + wait_s if wait_s > 0 else 0.0,
            why=self._pause_reason if wait_s > 0 else "",
            failures=self._failures + self._pauses + self._errors,
            limit_bytes=self.limits.max_bytes,
            held=len(self._work),
            parked=self._parked_count(),
        )

    def _advance(self, ends_s: float | None) -> float:
        self._flush_settlements()
        self._apply_opt_outs()
        self._resume_deferred()
        piece = self._work.first(self.limits.max_bytes)
        if piece is None:
            claim = self._spool.claim(self.endpoint, self.limits.max_records, self.limits.claim_bytes)
            if not claim:
                self.idle = not self._deferred
                due_s = min((due_s for due_s, _ in self._deferred), default=None)
                return (
                    self._poll_s if due_s is None else min(self._poll_s, max(0.0, due_s - self._monotonic()))
                )
            self._take_in(claim)
            piece = self._work.first(self.limits.max_bytes)
        self.idle = False
        self._flush_settlements()
        # To look into the spool takes time, too: with none left, a request would only fail.
        if piece is not None and (ends_s is None or self._monotonic() < ends_s):
            self._send(piece, ends_s)
        return max(0.0, self._not_before_s - self._monotonic())

    def _apply_opt_outs(self) -> None:
        # What is held here was claimed before: given back, it is claimed without what was withdrawn.
        revision = self._opt_out_version if self._revision is None else self._revision()
        if revision != self._opt_out_version:
            self._opt_out_version = revision
            self.release()

    def _take_in(self, claim: Claim) -> None:
        together: list[Sequence[int]] = list(runs(self.endpoint, claim.bodies))
        if claim.ambiguous and not self._retry_ambiguous:
            ambiguous = sorted(claim.ambiguous)
            self._dead_letter_ambiguous(
                Piece(claim=claim, indexes=ambiguous), "the process that sent it has died before the answer"
            )
            self._stats.ambiguous += len(ambiguous)
            self._stats.dead += len(ambiguous)
            rest = ([index for index in run if index not in claim.ambiguous] for run in together)
            together = [run for run in rest if run]
        for indexes in separate(together, claim.crash_counts, ordered=self.endpoint != "import"):
            crashes = claim.crash_counts.get(indexes[0], 0)
            if crashes < CRASH_LIMIT:
                self._work.add(Piece(claim=claim, indexes=indexes))
            else:
                self._dead_letter_crashing(claim, indexes, crashes)

    def _dead_letter_crashing(self, claim: Claim, indexes: Sequence[int], crashes: int) -> None:
        message = f"poison: the process that sends it has died {crashes} times"
        self._pending_settlements.append(
            partial(self._spool.bury, claim, dict.fromkeys(indexes, DeadReason(message=message)))
        )
        self._stats.dead += len(indexes)
        self._say(
            logging.ERROR,
            f"lethal {self.endpoint}",
            "A record for /%s is in the dead letters because the process that sends it has died %d times. "
            "Look at it with `mixpanel-visitor spool dead list` before you send it again.",
            *(self.endpoint, crashes),
        )

    def _send(self, piece: Piece, ends_s: float | None) -> None:
        once = not (
            self._retry_ambiguous or is_repeatable(self.endpoint, piece.claim.bodies[piece.indexes[0]])
        )
        if once and self._failures:
            # A try that may end in doubt: with one record, not with all of them.
            piece = self._work.cut(1)
        if once and ends_s is not None and ends_s - self._monotonic() < ONCE_NEEDS_S:
            # At exit: a request that time cuts off would leave it in doubt; the next process has more of it.
            self._wait(ONCE_NEEDS_S, "there is too little time to be sure of the answer")
            return
        bodies = piece.bodies
        if self._handling is not None:
            self._handling.begin(piece.claim, piece.indexes, once=once)
        try:
            if ends_s is None or self._post_within is None:
                answer = self._post(self.endpoint, bodies)
            else:
                answer = self._post_within(self.endpoint, bodies, ends_s - self._monotonic())
        finally:
            if self._handling is not None:
                self._handling.end()
        now_s = self._clock()
        verdict = interpret(self.endpoint, answer, bodies, now_s=now_s)
        doubted = once and verdict.unknown
        self._count(answer, verdict, len(bodies), now_s, doubted=doubted)
        if verdict.kind not in ("retry", "pause"):
            self._recovered()
        match verdict.kind:
            case "delivered" | "partial":
                self.limits.accepted(request_bytes(bodies))
                self._settle(piece, verdict)
            case "split":
                self.limits.too_large(request_bytes(bodies), verdict.limit_bytes)
                self._work.shrink(self.limits.max_bytes)
            case "bisect":
                self._work.bisect()
            case "retry":
                wait_s = backoff_s(self._failures, self._uniform(1.0, 5.0), verdict.wait_s)
                self._failures += 1
                if doubted:
                    self._mark_ambiguous(piece, verdict, answer.status)
                self._trouble(logging.WARNING, verdict, wait_s)
            case "pause":
                wait_s = pause_s(self._pauses)
                self._pauses += 1
                self._trouble(logging.ERROR, verdict, wait_s)
        if once and self._handling is not None:
            self._handling.settled()

    def _settle(self, piece: Piece, verdict: Verdict) -> None:
        delivered = [piece.indexes[index] for index in verdict.delivered(len(piece.indexes))]
        dead = {piece.indexes[index]: reason for index, reason in verdict.dead.items()}
        self._work.done(whole=verdict.kind == "delivered")
        if delivered:
            self._pending_settlements.append(partial(self._spool.ack, piece.claim, delivered))
        if dead:
            self._pending_settlements.append(partial(self._spool.bury, piece.claim, dead))
        if verdict.retry:
            later = Piece(claim=piece.claim, indexes=[piece.indexes[index] for index in verdict.retry])
            self._defer(later, verdict.wait_s or 0.0)
        if dead or verdict.retry:
            self._say(
                logging.WARNING,
                f"refused {self.endpoint}",
                "Mixpanel did not take everything sent to /%s: %s. Refused records are in the dead letters, "
                "with Mixpanel's reasons; correct the code that makes them.",
                *(self.endpoint, verdict.message),
            )
        if delivered:
            self._consecutive_rejections = 0
        elif verdict.status_class == "poison":
            self._count_rejection()
        self._flush_settlements()

    def _mark_ambiguous(self, piece: Piece, verdict: Verdict, status: int) -> None:
        self._work.done(whole=False)
        self._dead_letter_ambiguous(piece, verdict.message, status)
        self._flush_settlements()

    def _dead_letter_ambiguous(self, piece: Piece, message: str, status: int = 0) -> None:
        reason = DeadReason(
            message=f"ambiguous: Mixpanel may have applied it, and must not twice ({message})",
            status=status,
        )
        self._pending_settlements.append(
            partial(self._spool.bury, piece.claim, dict.fromkeys(piece.indexes, reason))
        )
        self._say(
            logging.WARNING,
            f"ambiguous {self.endpoint}",
            "Nobody knows whether Mixpanel has applied %s with $add, $append or $remove: now in the dead "
            "letters. See `mixpanel-visitor spool dead list`; send again with `... dead retry`, "
            "or have that done always with on_ambiguous='retry'.",
            several(len(piece.indexes), "update"),
        )

    def _flush_settlements(self) -> None:
        # A settlement the spool has not taken is tried again before anything else: what Mixpanel has
        # acknowledged must not be sent a second time because a disk was full for a minute.
        while self._pending_settlements:
            self._pending_settlements[0]()
            self._pending_settlements.popleft()

    def _defer(self, piece: Piece, wait_s: float) -> None:
        # Held here, not released: at the head of the spool one event with a date of next week would come
        # with every claim. Many of them mean a wrong clock, and then the lane may as well wait.
        if self._parked_count() + len(piece.indexes) <= MAX_RECORDS:
            self._deferred.append((self._monotonic() + wait_s, piece))
            return
        self._pending_settlements.append(partial(self._spool.release, piece.claim, piece.indexes))
        self._wait(wait_s, "too many records have a time in the future")

    def _resume_deferred(self) -> None:
        now_s = self._monotonic()
        for due in [parked for parked in self._deferred if parked[0] <= now_s]:
            self._deferred.remove(due)
            self._work.put_first(due[1])

    def _parked_count(self) -> int:
        return sum(len(piece.indexes) for _, piece in self._deferred)

    def _count_rejection(self) -> None:
        self._consecutive_rejections += 1
        if self._consecutive_rejections <= MAX_CONSECUTIVE_REJECTIONS:
            return
        wait_s = pause_s(self._consecutive_rejections - MAX_CONSECUTIVE_REJECTIONS - 1)
        self._wait(wait_s, "one record after the other is refused")
        self._say(
            logging.ERROR,
            f"poisons {self.endpoint}",
            "Mixpanel refused %d records in a row sent to /%s and took none between. That is more likely the "
            "configuration than the records: sending pauses for %.0f s. Check MIXPANEL_TOKEN and any proxy.",
            *(self._consecutive_rejections, self.endpoint, wait_s),
        )

    def _trouble(self, level: int, verdict: Verdict, wait_s: float) -> None:
        self._wait(wait_s, verdict.message)
        self._say(
            level,
            f"{verdict.status_class} {self.endpoint}",
            "Sending to /%s failed: %s. Events are kept in the spool and sending pauses for %.0f s. %s",
            *(self.endpoint, verdict.message, wait_s, _ADVICE.get(verdict.status_class, "")),
        )

    def _recovered(self) -> None:
        if self._failures or self._pauses:
            self._say(
                logging.INFO, f"recovered {self.endpoint}", "Sending to /%s works again.", self.endpoint
            )
        self._failures = self._pauses = 0

    def _wait(self, wait_s: float, why: str) -> None:
        self._not_before_s = self._monotonic() + wait_s
        self._pause_reason = why

    def _count(self, answer: Answer, verdict: Verdict, count: int, now_s: float, *, doubted: bool) -> None:
        clock_was_wrong = self._stats.clock_is_wrong
        self._stats.record(answer, verdict, count, now_s=now_s, doubted=doubted)
        if verdict.shortfall:
            self._say(
                logging.WARNING,
                f"shortfall {self.endpoint}",
                "Mixpanel accepted a batch for /%s but counted %d of %s less. They count as "
                "delivered here; compare with the project's own figures.",
                *(self.endpoint, verdict.shortfall, several(count, "record")),
            )
        if self._stats.clock_is_wrong and not clock_was_wrong:
            self._say(
                logging.WARNING,
                "clock",
                "This host's clock differs from Mixpanel's by %.0f s. Mixpanel rewrites times in the future, "
                "which also defeats its deduplication: synchronise the clock (NTP).",
                self._stats.clock_offset_s,
            )
