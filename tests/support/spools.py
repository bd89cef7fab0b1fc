"""A spool that remembers everything, for tests that look at what was stored, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from mixpanel_visitor.delivery.spool import SpoolCounts
from mixpanel_visitor.tracking.dependencies import Dependencies
from mixpanel_visitor.tracking.tracker import Tracker

from .responses import cookie_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mixpanel_visitor.delivery.spool import Claim, DeadReason
    from mixpanel_visitor.records import Endpoint, Record

SECRET_KEY = "a-key-of-some-length"
COOKIE = cookie_name("t")


class RecordingSpool:
    """Takes everything, gives nothing to send; with `trouble`, `put` raises it instead."""

    def __init__(self, trouble: Exception | None = None) -> None:
        self.records: list[Record] = []
        self.trouble = trouble

    def put(self, records: Sequence[Record]) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.records.extend(records)

    def claim(self, endpoint: Endpoint, max_records: int, max_bytes: int) -> Claim | None:
        return None

    def ack(self, claim: Claim, indexes: Iterable[int]) -> None:
        raise AssertionError("nothing was claimed")

    def release(self, claim: Claim, indexes: Iterable[int]) -> None:
        raise AssertionError("nothing was claimed")

    def bury(self, claim: Claim, reasons: Mapping[int, DeadReason]) -> None:
        raise AssertionError("nothing was claimed")

    def counts(self) -> SpoolCounts:
        return SpoolCounts(written=len(self.records), delivered=len(self.records))

    def close(self) -> None:
        pass

    @property
    def events(self) -> list[dict[str, Any]]:
        """What was stored, decoded."""
        return [orjson.loads(record.body) for record in self.records]

    @property
    def names(self) -> list[str]:
        """The names of the events that were stored, in order."""
        return [event["event"] for event in self.events]


def tracker_into(spool: RecordingSpool, **settings: Any) -> Tracker:
    """Build a tracker that stores into this spool and delivers nothing."""
    return Tracker(
        parts=Dependencies(spool=spool),
        **{"token": "t", "secret_key": SECRET_KEY, "spool": "memory:", "deliver": False, **settings},
    )
