"""SegmentReader: one segment as the leader reads it, and the state of each of its records.

A waiting record takes eight bytes of memory, its offset. Bodies stay on disk until they are claimed.
"""

from __future__ import annotations

import enum
import os
from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mixpanel_visitor.records import ENDPOINTS

from . import frames
from .file_locks import fcntl
from .offsets import Progress

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mixpanel_visitor.records import Endpoint

    from .corruption import CorruptionStats

BLOCK_BYTES = 256 * 1024
_MAX_FRAME_BYTES = frames.HEADER_BYTES + frames.MAX_BODY_BYTES + 1


class Outcome(enum.StrEnum):
    """What became of a record."""

    DELIVERED = "delivered"
    DEAD = "dead"
    LOST = "lost"


@dataclass(slots=True)
class ClaimBudget:
    """How much more a claim may take."""

    records: int
    bytes: int
    has_taken: bool = False

    def take(self, body_bytes: int) -> bool:
        """Return whether a body of this size may be taken; the first one always may, whatever its size."""
        if self.records <= 0 or (self.has_taken and body_bytes > self.bytes):
            return False
        self.records -= 1
        self.bytes -= body_bytes
        self.has_taken = True
        return True


@dataclass(slots=True)
class _Records:
    """Offsets of one endpoint's records, each in exactly one of four collections.

    All records that start below `mark` are settled and counted; `settled` has those at or above it.
    """

    mark: int
    waiting: array[int] = field(default_factory=lambda: array("Q"))
    released: list[int] = field(default_factory=list)
    claimed: set[int] = field(default_factory=set)
    settled: dict[int, Outcome] = field(default_factory=dict)

    @property
    def unsettled(self) -> int:
        return len(self.waiting) + len(self.released) + len(self.claimed)

    def oldest(self) -> int | None:
        """Return the offset of the first record that is not settled; None: all are."""
        candidates = [*self.waiting[:1], *self.released[:1]]
        if self.claimed:
            candidates.append(min(self.claimed))
        return min(candidates, default=None)


class SegmentReader:
    """A segment from its first record that is not settled to its end, which moves while its writer lives.

    The caller keeps `size` up to date. `ended`: no byte will be added and all are read. `removed`: another
    process has deleted the file. `is_newer`: a later version of this package has written it.
    """

    def __init__(self, path: Path, corruption: CorruptionStats, progress: Progress | None = None) -> None:
        self.path = path
        self.name = path.name
        self.size = 0
        self.ended = False
        self.removed = False
        self.is_newer = False
        self.recheck_at_s = 0.0
        self._corruption = corruption
        progress = progress or Progress()
        self._records: dict[Endpoint, _Records] = {
            endpoint: _Records(progress.marks[endpoint]) for endpoint in ENDPOINTS
        }
        self._outcomes = Counter({Outcome.DELIVERED: progress.delivered, Outcome.DEAD: progress.dead})
        # Up to `scanned` all bytes are frames or damage; up to `_read_end` they were read.
        self.scanned = self._read_end = self._scan_start = min(progress.marks.values())
        self.frames = 0
        self._is_our_version = self._scan_start > 0
        self._unreported: list[frames.Damage] = []
        self._oldest_cache: tuple[int, int | None] = (-1, None)

    @property
    def unread_bytes(self) -> int:
        """Bytes that have been written and not read yet."""
        return max(0, self.size - self._read_end)

    @property
    def scanned_bytes(self) -> int:
        """Bytes that were read to find `frames` records."""
        return self.scanned - self._scan_start

    @property
    def has_partial_frame(self) -> bool:
        """True while it ends in the middle of a frame."""
        return self._read_end > self.scanned

    @property
    def unsettled(self) -> int:
        """Records found and not settled."""
        return sum(records.unsettled for records in self._records.values())

    @property
    def claimed(self) -> int:
        """Records that are claimed."""
        return sum(len(records.claimed) for records in self._records.values())

    def has_waiting(self, endpoint: Endpoint, *, released: bool) -> bool:
        """Return whether a claim would get records from here."""
        records = self._records[endpoint]
        return bool(records.released if released else records.waiting)

    def count(self, outcome: Outcome) -> int:
        """Return how many records have had this outcome, here and under earlier leaders."""
        above_mark = sum(list(records.settled.values()).count(outcome) for records in self._records.values())
        return self._outcomes[outcome] + above_mark

    # --- finding -------------------------------------------------------------------------------

    def scan(self, budget_bytes: int) -> int:
        """Read what has been added, about `budget_bytes` at most; return how many bytes were read."""
        fd = os.open(self.path, os.O_RDONLY)
        try:
            wanted_bytes = budget_bytes
            while True:
                data = os.pread(fd, min(wanted_bytes, self.size - self.scanned), self.scanned)
                scan = frames.scan(data)
                # The frame is larger than the budget: its end is further on.
                if scan.consumed or len(data) < wanted_bytes or wanted_bytes > _MAX_FRAME_BYTES:
                    break
                wanted_bytes *= 2
        finally:
            os.close(fd)
        if len(data) < min(wanted_bytes, self.size - self.scanned):
            self.size = self.scanned + len(data)  # its writer has undone a write that failed
        consumed = scan.consumed
        if not consumed and len(data) > _MAX_FRAME_BYTES:
            # No frame is so long. It counts as damage, so that it is not read again and again.
            consumed = len(data)
            scan.damages.append(frames.Damage(0, consumed, is_newer=False))
        base = self.scanned
        for endpoint, starts in scan.starts.items():
            records = self._records[endpoint]
            records.waiting.extend([base + start for start in starts if base + start >= records.mark])
            self.frames += len(starts)
        for damage in scan.damages:
            self._unreported.append(damage._replace(start=base + damage.start, end=base + damage.end))
        if self.frames or self._is_our_version:
            self._count_damage()
        self._read_end = base + len(data)
        self.scanned = base + consumed
        return len(data)

    def try_to_end(self) -> None:
        """Find out whether the writer is gone; if so, classify what it has left at the end."""
        fd = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Only with the lock held is the size final.
            self.size = os.fstat(fd).st_size
            self._read_end = min(self._read_end, self.size)
            tail = os.pread(fd, BLOCK_BYTES, self.scanned)
        except BlockingIOError:
            return
        finally:
            os.close(fd)
        if self.unread_bytes:
            return
        self.ended = True
        self.is_newer = not (self.frames or self._is_our_version) and (
            any(damage.is_newer for damage in self._unreported) or frames.is_newer_version(tail)
        )
        if not self.is_newer:
            self._count_damage()
            if self.has_partial_frame:
                self._corruption.count_torn_tail(self.path)

    def _count_damage(self) -> None:
        # Only now: a good frame has shown that the segment is of our version, or there is none.
        for damage in self._unreported:
            self._corruption.count_corrupt(self.path, damage.start, damage.end)
        self._unreported.clear()

    # --- claiming and settling -----------------------------------------------------------------

    def take(self, endpoint: Endpoint, budget: ClaimBudget, *, released: bool) -> list[tuple[int, bytes]]:
        """Claim the first `released` records, or the first never claimed; return offsets and bodies.

        Raise OSError where the file cannot be read; then nothing is claimed.
        """
        records = self._records[endpoint]
        queue = records.released if released else records.waiting
        claimed: list[tuple[int, bytes]] = []
        lost: list[int] = []
        fd = os.open(self.path, os.O_RDONLY)
        try:
            block, block_start, view = b"", 0, None
            for offset in queue:
                end = 0
                if block_start <= offset < block_start + len(block):
                    end = frames.frame_end(block, offset - block_start, view)
                if not end:
                    block_start, block = offset, os.pread(fd, BLOCK_BYTES, offset)
                    length = frames.declared_end(block, 0)
                    if length > len(block):
                        block = os.pread(fd, length, offset)
                    view = memoryview(block)
                    end = frames.frame_end(block, 0, view)
                if not end:
                    # It was damaged after the scan, or its writer has undone a write that failed.
                    self._corruption.count_corrupt(self.path, offset, offset + block.find(b"\n") + 1)
                    lost.append(offset)
                    continue
                body = block[offset - block_start + frames.HEADER_BYTES : end - 1]
                if not budget.take(len(body)):
                    break
                claimed.append((offset, body))
        finally:
            os.close(fd)
        del queue[: len(claimed) + len(lost)]
        records.claimed.update(offset for offset, _ in claimed)
        records.settled.update(dict.fromkeys(lost, Outcome.LOST))
        return claimed

    def is_claimed(self, endpoint: Endpoint, offset: int) -> bool:
        """Return whether this record is claimed."""
        return offset in self._records[endpoint].claimed

    def settle(self, endpoint: Endpoint, offsets: Iterable[int], outcome: Outcome) -> None:
        """Settle claimed records as `outcome`; leave records that are not claimed as they are."""
        records = self._records[endpoint]
        settled = records.claimed.intersection(offsets)
        records.claimed -= settled
        records.settled.update(dict.fromkeys(settled, outcome))

    def release(self, endpoint: Endpoint, offsets: Iterable[int]) -> None:
        """Let claimed records be claimed again, in their order and before all others."""
        records = self._records[endpoint]
        released = records.claimed.intersection(offsets)
        records.claimed -= released
        if self.removed:
            records.settled.update(dict.fromkeys(released, Outcome.LOST))
        else:
            records.released = sorted([*records.released, *released])

    def mark_removed(self) -> int:
        """Note that the file was removed; return how many records are lost. Claimed ones may still arrive."""
        self.removed = True
        self.size = self._read_end
        lost = 0
        for records in self._records.values():
            offsets = [*records.waiting, *records.released]
            lost += len(offsets)
            records.settled.update(dict.fromkeys(offsets, Outcome.LOST))
            del records.waiting[:]
            records.released.clear()
        return lost

    def progress(self) -> Progress:
        """Return how far the segment is settled; a later leader continues from there."""
        for records in self._records.values():
            oldest = records.oldest()
            records.mark = max(records.mark, self.scanned if oldest is None else oldest)
            below_mark = [offset for offset in records.settled if offset < records.mark]
            self._outcomes.update([records.settled.pop(offset) for offset in below_mark])
        return Progress(
            marks={endpoint: self._records[endpoint].mark for endpoint in ENDPOINTS},
            delivered=self._outcomes[Outcome.DELIVERED],
            dead=self._outcomes[Outcome.DEAD],
        )

    def oldest_ms(self) -> int | None:
        """Return when the oldest record that is not settled was put, in milliseconds; None: there is none."""
        offsets = [oldest for records in self._records.values() if (oldest := records.oldest()) is not None]
        if self.unread_bytes:
            offsets.append(self.scanned)
        if not offsets or self.removed:
            return None
        offset = min(offsets)
        if offset != self._oldest_cache[0]:
            self._oldest_cache = (offset, read_time_ms(self.path, offset))
        return self._oldest_cache[1]


def read_time_ms(path: Path, offset: int) -> int | None:
    """Return when the frame at `offset` of this segment was put, in milliseconds; None: unreadable."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        return frames.time_ms_of(os.pread(fd, frames.HEADER_BYTES, offset))
    except OSError:
        return None
    finally:
        os.close(fd)
