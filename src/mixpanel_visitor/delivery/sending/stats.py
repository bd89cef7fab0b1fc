"""Stats: what the sender has counted, for health checks, metrics and the status command."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, TypedDict, cast

from .responses import server_time_s

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


@dataclass(slots=True, kw_only=True)
class SenderStats:
    """Counts since this sender was made in this process.

    `http` counts answers by status (0: none came), `retried` requests to be sent again by class of trouble.
    `shortfall` counts records that Mixpanel acknowledged without importing; `duplicates_possible` records
    sent again though Mixpanel may have them, `ambiguous` those buried instead; `errors` exceptions, of the
    spool for example.
    `clock_offset_s` is Mixpanel's clock minus ours, `last_error_at_s` is wall clock.
    """

    batches: int = 0
    delivered: int = 0
    dead: int = 0
    http: Counter[int] = field(default_factory=Counter)
    retried: Counter[str] = field(default_factory=Counter)
    shortfall: int = 0
    duplicates_possible: int = 0
    ambiguous: int = 0
    errors: int = 0
    last_error: str = ""
    last_error_at_s: float = 0.0
    clock_offset_s: float | None = None

    @property
    def clock_is_wrong(self) -> bool:
        """True where the clocks are further apart than a Date header can be imprecise."""
        return self.clock_offset_s is not None and abs(self.clock_offset_s) > CLOCK_OFFSET_MAX_S

    def record(
        self, response: Response, verdict: Verdict, count: int, *, now_s: float, doubted: bool = False
    ) -> None:
        """Count one request with `count` records; `doubted`: they are not sent again, but buried."""
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
        server_s = server_time_s(response.headers)
        if server_s is not None:
            self.clock_offset_s = server_s - now_s

    def figures(self, *, lanes: dict[Endpoint, EndpointFigures], running: bool) -> SenderFigures:
        """Return the counts of now, with what the sender knows besides."""
        # No `asdict`, which loops over the counters: the sender's thread may count on meanwhile.
        counts = {each.name: getattr(self, each.name) for each in fields(self)}
        counts |= {"http": dict(self.http), "retried": dict(self.retried)}
        return cast("SenderFigures", {**counts, "lanes": lanes, "running": running})

    def failed(self, message: str, *, now_s: float) -> None:
        """Remember what went wrong last."""
        self.last_error, self.last_error_at_s = message, now_s


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointStats:
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
        return cast("EndpointFigures", asdict(self))
