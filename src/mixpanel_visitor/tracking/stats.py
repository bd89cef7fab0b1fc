"""Stats: what became of every event of this process; the numbers always add up."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from .context import refused_outside

if TYPE_CHECKING:
    from mixpanel_visitor.delivery.flags.refresher import FlagFigures
    from mixpanel_visitor.delivery.sending.stats import SenderFigures
    from mixpanel_visitor.delivery.spool import SpoolCounts
    from mixpanel_visitor.observability.counters import EventCounters


class SpoolFigures(TypedDict):
    """The whole spool, with what earlier and other processes left there."""

    pending: int
    dead_lettered: int
    bytes: int
    oldest_age_s: float
    corrupt_bytes: int
    torn_tails: int
    leader: bool


class Stats(TypedDict):
    """What `Tracker.stats()` returns: what became of the events of this process.

    `accepted == delivered + pending + dead_lettered + sum(refused.values())`, always; `pending` are those in
    open requests (`buffered`) and those that wait in the spool (`spooled`). `flags` is None where they are
    off.
    """

    accepted: int
    delivered: int
    pending: int
    dead_lettered: int
    refused: dict[str, int]
    buffered: int
    spooled: int
    refused_outside_request: int
    notes: dict[str, int]
    spool: SpoolFigures
    sender: SenderFigures
    flags: FlagFigures | None


def build_stats(
    counters: EventCounters, counts: SpoolCounts, sender: SenderFigures, flags: FlagFigures | None = None
) -> Stats:
    """Join the counters of events, spool, sender and flags; `Tracker.stats` describes the result."""
    events = counters.snapshot()
    refused = dict(events["refused"])
    if counts.lost:
        refused["spool_removed"] = counts.lost
    settled = counts.delivered + counts.dead_lettered + sum(refused.values())
    return {
        "accepted": events["accepted"],
        "delivered": counts.delivered,
        "pending": events["accepted"] - settled,
        "dead_lettered": counts.dead_lettered,
        "refused": refused,
        "buffered": events["buffered"],
        "spooled": counts.pending,
        "refused_outside_request": refused_outside(),
        "notes": events["notes"],
        "spool": {
            "pending": counts.store_pending,
            "dead_lettered": counts.store_dead,
            "bytes": counts.store_bytes,
            "oldest_age_s": counts.oldest_age_s,
            "corrupt_bytes": counts.corrupt_bytes,
            "torn_tails": counts.torn_tails,
            "leader": counts.leader,
        },
        "sender": sender,
        "flags": flags,
    }
