"""The one spool that tests look into: in memory, with a record of what was done to it, and faults."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import orjson

from mixpanel_visitor.delivery.memory import MemorySpool
from mixpanel_visitor.errors import SpoolUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from mixpanel_visitor.delivery.spool import Claim, DeadReason
    from mixpanel_visitor.records import Endpoint, Record

_ALL = 10**9


class RecordingSpool(MemorySpool):
    """A memory spool that remembers the `records` that were put, what was `acked`, and what is `dead`.

    With `waits`, records wait for a sender; else each counts as delivered once it is put. `trouble` is what
    `put` raises. `failing` names methods that fail for now: "ack", "bury", "release", "claim import".
    """

    def __init__(
        self,
        trouble: Exception | None = None,
        *,
        waits: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(clock=clock)
        self.trouble = trouble
        self.failing: set[str] = set()
        self.records: list[Record] = []
        self.acked: list[bytes] = []
        self.dead: dict[bytes, DeadReason] = {}
        self._waits = waits
        self._claimed = 0

    def put(self, records: Sequence[Record]) -> None:
        if self.trouble is not None:
            raise self.trouble
        super().put(records)
        self.records.extend(records)
        if not self._waits:
            for endpoint in {record.endpoint for record in records}:
                while claim := self.claim(endpoint, _ALL, _ALL):
                    self.ack(claim, range(len(claim)))

    def claim(self, endpoint: Endpoint, max_records: int, max_bytes: int) -> Claim | None:
        self._check(f"claim {endpoint}")
        claim = super().claim(endpoint, max_records, max_bytes)
        self._claimed += len(claim or ())
        return claim

    def ack(self, claim: Claim, indexes: Iterable[int]) -> None:
        self._check("ack")
        indexes = list(indexes)
        super().ack(claim, indexes)
        self._claimed -= len(indexes)
        self.acked += [claim.bodies[index] for index in indexes]

    def release(self, claim: Claim, indexes: Iterable[int]) -> None:
        self._check("release")
        indexes = list(indexes)
        super().release(claim, indexes)
        self._claimed -= len(indexes)

    def bury(self, claim: Claim, reasons: Mapping[int, DeadReason]) -> None:
        self._check("bury")
        super().bury(claim, reasons)
        self._claimed -= len(reasons)
        self.dead |= {claim.bodies[index]: reason for index, reason in reasons.items()}

    def _check(self, method: str) -> None:
        if method in self.failing:
            raise SpoolUnavailableError("the disk is full")

    @property
    def unclaimed(self) -> int:
        """Records that the next claims would take."""
        return self.counts().pending - self._claimed

    def messages(self, endpoint: Endpoint) -> list[dict[str, Any]]:
        """What was put for an endpoint, decoded."""
        return [orjson.loads(record.body) for record in self.records if record.endpoint == endpoint]

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events that were put, decoded."""
        return self.messages("import")

    @property
    def names(self) -> list[str]:
        """The names of the events that were put, in order."""
        return [event["event"] for event in self.events]
