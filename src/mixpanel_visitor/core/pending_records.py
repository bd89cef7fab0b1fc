"""PendingRecords: what an exchange has queued until it is known whether its visitor will last.

A device ID that was made in this exchange is only worth something if the response takes it to the browser.
Where it cannot, events under it would be a new person each time. They go out as nobody's then: with an empty
distinct ID Mixpanel counts an event and makes no user of it ("Server-side events with no user").
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import orjson

from mixpanel_visitor.records import Record

from .identity.identity import DEVICE_PREFIX, NOBODY

if TYPE_CHECKING:
    from collections.abc import Callable


class PendingRecords:
    """A queue that several threads may fill; `refuse` counts what nobody cannot have, such as a profile."""

    __slots__ = ("_fresh", "_refuse", "_remembered", "_waiting", "size_bytes")

    def __init__(self, refuse: Callable[[str, int], None]) -> None:
        self._refuse = refuse
        self._waiting: deque[Record] = deque()
        self._fresh: frozenset[str] = frozenset()
        self._remembered: bool | None = None
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_held(self) -> bool:
        """Whether a fresh device ID waits for its response, and nothing may leave yet."""
        return bool(self._fresh) and self._remembered is None

    @property
    def may_leave(self) -> bool:
        """Whether something waits, and not for the response."""
        return bool(self._waiting) and not (self._fresh and self._remembered is None)

    def made(self, device_id: str) -> None:
        """Note a device ID that was made in this exchange."""
        self._fresh |= {device_id}
        if self._remembered:
            self._remembered = False  # the response that took the others along has gone

    def decide(self, *, remembered: bool) -> None:
        """Say whether the response takes the fresh device IDs to the browser."""
        if not self._fresh:
            return
        self._remembered = remembered
        if not remembered:
            # In place: another thread may be adding to this very queue.
            self.size_bytes = 0
            for _ in range(len(self._waiting)):
                self.add(self._waiting.popleft())

    def add(self, record: Record) -> int:
        """Queue a record. Return how many wait."""
        if self._fresh and self._remembered is False:
            stripped = without_devices(record, self._fresh)
            if stripped is None:
                self._refuse("no_visitor", 1)
                return len(self._waiting)
            record = stripped
        self._waiting.append(record)
        self.size_bytes += len(record.body)
        return len(self._waiting)

    def clear(self) -> int:
        """Drop what waits; return how many that were."""
        self.size_bytes = 0
        return len(self._take_all())

    def _take_all(self) -> list[Record]:
        """Return what waits, held or not."""
        records: list[Record] = []
        while self._waiting:
            try:
                records.append(self._waiting.popleft())
            except IndexError:
                break  # another thread was faster
        return records

    def forget(self) -> None:
        """Drop what waits: in a forked child it is the parent's."""
        self._waiting.clear()
        self.size_bytes = 0

    def take(self) -> list[Record]:
        """Return what may leave, and forget it here."""
        if not self.may_leave:
            return []
        self.size_bytes = 0
        return self._take_all()


class HoldsRecords:
    """Has pending records: what may leave is taken, and the rest is known to be there."""

    pending: PendingRecords | None
    """What is queued; None: nothing has been tracked yet."""

    @property
    def has_records(self) -> bool:
        """Whether a `take` would return anything."""
        return self.pending is not None and self.pending.may_leave

    @property
    def holds_back(self) -> bool:
        """Whether something is queued that waits for the response's head."""
        return self.pending is not None and bool(self.pending) and self.pending.is_held

    def take(self) -> list[Record]:
        """Return the records queued since the last call and forget them here."""
        return [] if self.pending is None else self.pending.take()

    def forget(self) -> None:
        """Drop what is queued, without a word to Mixpanel: in a forked child it is the parent's."""
        if self.pending is not None:
            self.pending.forget()


def without_devices(record: Record, device_ids: frozenset[str]) -> Record | None:
    """Take these device IDs out of a record; None: nothing is left that Mixpanel could use."""
    if not any(each.encode() in record.body for each in device_ids):
        return record
    message: dict[str, Any] = orjson.loads(record.body)
    anonymous = {DEVICE_PREFIX + each for each in device_ids}
    if record.endpoint != "import":
        return None if message.get("$distinct_id") in anonymous else record
    properties: dict[str, Any] = message["properties"]
    if properties.get("$anon_id") in anonymous:
        return None  # it would join nobody's history to a user's
    if properties.get("$device_id") in device_ids:
        del properties["$device_id"]
    if properties.get("distinct_id") in anonymous:
        properties["distinct_id"] = NOBODY
    return Record(record.endpoint, orjson.dumps(message))
