"""Stats: the counts of the sender, for health checks, metrics and the status command."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, TypedDict, cast

if TYPE_CHECKING:
    from mixpanel_visitor.records import Endpoint

    from .http_client import Response
    from .responses import Verdict

CLOCK_OFFSET_MAX_S = 5.0
"""Mixpanel's Date header has whole seconds and is late; with a larger offset a clock is wrong."""


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

    `lanes` is by endpoint; `running`: the sender's thread runs.
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

    `http` counts responses by status (0: there was none), `retried` requests to be sent again by class of
    failure. `shortfall` counts records that Mixpanel acknowledged without importing; `duplicates_possible`
    records sent again though Mixpanel may have them, `ambiguous` those set aside instead; `errors`
    exceptions, of the spool for example.
    `clock_offset_s` is Mixpanel's clock minus this host's, `last_error_at_s` is wall clock.
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
        """True where the clocks differ by more than the imprecision of a Date header."""
        return self.clock_offset_s is not None and abs(self.clock_offset_s) > CLOCK_OFFSET_MAX_S

    def record(
        self,
        response: Response,
        verdict: Verdict,
        count: int,
        *,
        now_s: float,
        server_s: float | None,
        ambiguous: bool = False,
    ) -> None:
        """Count one request with `count` records; `ambiguous`: they are set aside, not sent again.

        `now_s` is the wall clock of this host, `server_s` that of the server, if known.
        """
        self.batches += 1
        self.http[response.status] += 1
        self.delivered += len(verdict.delivered(count))
        self.dead += len(verdict.dead)
        self.shortfall += verdict.shortfall
        if verdict.kind not in ("delivered", "partial"):
            self.retried[verdict.status_class] += 1
            self.failed(verdict.message, now_s=now_s)
        if ambiguous:
            self.ambiguous += count
            self.dead += count
        elif verdict.unknown:
            self.duplicates_possible += count
        if server_s is not None:
            self.clock_offset_s = server_s - now_s

    def figures(self, *, endpoints: dict[Endpoint, EndpointFigures], running: bool) -> SenderFigures:
        """Return the current counts, with the states of the endpoints."""
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
        """Remember the last error."""
        self.last_error, self.last_error_at_s = message, now_s


class EndpointStats(NamedTuple):
    """The state of one endpoint.

    It is paused until `paused_until_s` (wall clock, 0: not paused); `why` is the reason. `held` records are
    claimed and not settled, `parked` ones have a time in the future; `failures` are those in a row.
    """

    paused_until_s: float
    why: str
    failures: int
    limit_bytes: int
    held: int
    parked: int

    def figures(self) -> EndpointFigures:
        """Return the state as a dictionary."""
        return cast("EndpointFigures", self._asdict())
