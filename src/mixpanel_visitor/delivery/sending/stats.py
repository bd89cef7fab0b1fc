"""Stats: what the sender has counted, for health checks, metrics and the status command."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, TypedDict, cast

if TYPE_CHECKING:
    from mixpanel_visitor.records import Endpoint

    from .http_client import Response
    from .responses import Verdict

CLOCK_OFFSET_MAX_S = 5.0
"""Mixpanel's Date header has whole seconds and travels; more than this is a clock that is wrong."""


class EndpointFigures(TypedDict):
    """The state of one endpoint; `EndpointStats` explains it."""

    paused_until_s: float
    why: str
    failures: int
    limit_bytes: int
    held: int
    parked: int


class SenderFigures(TypedDict):
    """The sender's part of `Tracker.stats()`; `SenderStats` explains its counts.

    `lanes` by endpoint; `running`: the sender's thread has been seen to run.
    """

    batches: int
    delivered: int
    dead: int
    http: dict[int, int]
    retried: dict[str, int]
    shortfall: int
    duplicates_possible: int
    ambiguous: int
    errors: int
    last_error: str
    last_error_at_s: float
    clock_offset_s: float | None
    lanes: dict[Endpoint, EndpointFigures]
    running: bool


class SenderStats:
    """Counts since this sender was made in this process.

    `http` counts answers by status (0: none came), `retried` requests to be sent again by class of trouble.
    `shortfall` counts records that Mixpanel acknowledged without importing; `duplicates_possible` records
    sent again though Mixpanel may have them, `ambiguous` those buried instead; `errors` exceptions, of the
    spool for example.
    `clock_offset_s` is Mixpanel's clock minus ours, `last_error_at_s` is wall clock.
    """

    def __init__(self) -> None:
        self.batches = 0
        self.delivered = 0
        self.dead = 0
        self.http: Counter[int] = Counter()
        self.retried: Counter[str] = Counter()
        self.shortfall = 0
        self.duplicates_possible = 0
        self.ambiguous = 0
        self.errors = 0
        self.last_error = ""
        self.last_error_at_s = 0.0
        self.clock_offset_s: float | None = None

    @property
    def clock_is_wrong(self) -> bool:
        """True where the clocks are further apart than a Date header can be imprecise."""
        return self.clock_offset_s is not None and abs(self.clock_offset_s) > CLOCK_OFFSET_MAX_S

    def record(
        self,
        response: Response,
        verdict: Verdict,
        count: int,
        *,
        now_s: float,
        server_s: float | None,
        doubted: bool = False,
    ) -> None:
        """Count one request with `count` records; `doubted`: they are not sent again, but buried.

        `now_s` is our wall clock, `server_s` the server's, if it has said what that is.
        """
        self.batches += 1
        self.http[response.status] += 1
        self.delivered += len(verdict.delivered(count))
        self.dead += len(verdict.dead)
        self.shortfall += verdict.shortfall
        if verdict.kind not in ("delivered", "partial"):
            self.retried[verdict.status_class] += 1
            self.failed(verdict.message, now_s=now_s)
        if doubted:
            self.ambiguous += count
            self.dead += count
        elif verdict.unknown:
            self.duplicates_possible += count
        if server_s is not None:
            self.clock_offset_s = server_s - now_s

    def figures(self, *, endpoints: dict[Endpoint, EndpointFigures], running: bool) -> SenderFigures:
        """Return the counts of now, with what the sender knows besides."""
        return {
            "batches": self.batches,
            "delivered": self.delivered,
            "dead": self.dead,
            # Copies in one step: the sender's thread may count on meanwhile.
            "http": dict(self.http),
            "retried": dict(self.retried),
            "shortfall": self.shortfall,
            "duplicates_possible": self.duplicates_possible,
            "ambiguous": self.ambiguous,
            "errors": self.errors,
            "last_error": self.last_error,
            "last_error_at_s": self.last_error_at_s,
            "clock_offset_s": self.clock_offset_s,
            "lanes": endpoints,
            "running": running,
        }

    def failed(self, message: str, *, now_s: float) -> None:
        """Remember what went wrong last."""
        self.last_error, self.last_error_at_s = message, now_s


class EndpointStats(NamedTuple):
    """The state of one endpoint.

    Until `paused_until_s` (wall clock, 0: not paused) it waits, and `why`. `held` records are claimed and
    not settled, `parked` ones wait until their time is no longer in the future; `failures` in a row.
    """

    paused_until_s: float
    why: str
    failures: int
    limit_bytes: int
    held: int
    parked: int

    def figures(self) -> EndpointFigures:
        """Return it as a dictionary."""
        return cast("EndpointFigures", self._asdict())
