"""PendingRecords: the records of an exchange, queued until it is known whether the browser stores its ID.

A fresh device ID is only useful if the response takes it to the browser. If it cannot, events under the ID
would be a new person each time. They are sent without a visitor then: with an empty distinct ID Mixpanel
counts an event and creates no user for it ("Server-side events with no user").
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
    """A queue for several threads; `refuse` counts records that need a visitor, such as profile updates."""

    __slots__ = ("_fresh_ids", "_refuse", "_remembered", "_waiting", "size_bytes")

    def __init__(self, refuse: Callable[[str, int], None]) -> None:
        self._refuse = refuse
        self._waiting: deque[Record] = deque()
        self._fresh_ids: frozenset[str] = frozenset()
        self._remembered: bool | None = None
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_held(self) -> bool:
        """Whether the records wait until the response decides about a fresh device ID."""
        return bool(self._fresh_ids) and self._remembered is None

    @property
    def may_leave(self) -> bool:
        """Whether there are records, and they need not wait for the response."""
        return bool(self._waiting) and not (self._fresh_ids and self._remembered is None)

    def add_fresh_device(self, device_id: str) -> None:
        """Add a device ID that was made in this exchange."""
        self._fresh_ids |= {device_id}
        if self._remembered:
            self._remembered = False  # the response that has taken the others has started

    def decide(self, *, remembered: bool) -> None:
        """Decide for the fresh device IDs: `remembered` if the response takes them to the browser."""
        if not self._fresh_ids:
            return
        self._remembered = remembered
        if not remembered:
            # In place: another thread may be adding to this very queue.
            self.size_bytes = 0
            for _ in range(len(self._waiting)):
                self.add(self._waiting.popleft())

    def add(self, record: Record) -> int:
        """Queue a record. Return the number of records that wait."""
        if self._fresh_ids and self._remembered is False:
            stripped = without_devices(record, self._fresh_ids)
            if stripped is None:
                self._refuse("no_visitor", 1)
                return len(self._waiting)
            record = stripped
        self._waiting.append(record)
        self.size_bytes += len(record.body)
        return len(self._waiting)

    def clear(self) -> int:
        """Drop the waiting records; return their number."""
        self.size_bytes = 0
        return len(self._take_all())

    def _take_all(self) -> list[Record]:
        """Return and remove all waiting records, held or not."""
        records: list[Record] = []
        while self._waiting:
            try:
                records.append(self._waiting.popleft())
            except IndexError:
                break  # another thread was faster
        return records

    def forget(self) -> None:
        """Drop the waiting records: in a forked child they are the parent's."""
        self._waiting.clear()
        self.size_bytes = 0

    def take(self) -> list[Record]:
        """Return and remove the records that may leave."""
        if not self.may_leave:
            return []
        self.size_bytes = 0
        return self._take_all()


class HoldsRecords:
    """An owner of pending records."""

    pending: PendingRecords | None
    """The queue; None: nothing has been tracked yet."""

    @property
    def has_records(self) -> bool:
        """Whether a `take` would return anything."""
        return self.pending is not None and self.pending.may_leave

    @property
    def holds_back(self) -> bool:
        """Whether records are queued that wait for the response's head."""
        return self.pending is not None and bool(self.pending) and self.pending.is_held

    def take(self) -> list[Record]:
        """Return and remove the queued records that may leave."""
        return [] if self.pending is None else self.pending.take()

    def forget(self) -> None:
        """Drop the queued records unsent: in a forked child they are the parent's."""
        if self.pending is not None:
            self.pending.forget()


def without_devices(record: Record, device_ids: frozenset[str]) -> Record | None:
    """Return a record without these device IDs; None: Mixpanel could not use the rest."""
    if not any(device_id.encode() in record.body for device_id in device_ids):
        return record
    message: dict[str, Any] = orjson.loads(record.body)
    anonymous = {DEVICE_PREFIX + device_id for device_id in device_ids}
    if record.endpoint != "import":
        return None if message.get("$distinct_id") in anonymous else record
    properties: dict[str, Any] = message["properties"]
    if properties.get("$anon_id") in anonymous:
        return None  # a merge with an ID that has no history
    if properties.get("$device_id") in device_ids:
        del properties["$device_id"]
    if properties.get("distinct_id") in anonymous:
        properties["distinct_id"] = NOBODY
    return Record(record.endpoint, orjson.dumps(message))
