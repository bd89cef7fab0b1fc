"""SegmentReader: one segment as the leader sees it, and what became of each of its records.

In memory a waiting record is eight bytes, its offset. Bodies stay on disk until they are claimed.
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
    """How much a claim may still take."""

    records: int
    bytes: int
    used: bool = False

    def take(self, body_bytes: int) -> bool:
        """Return whether a body of this size may be taken; the first one always may, whatever its size."""
        if self.records <= 0 or (self.used and body_bytes > self.bytes):
            return False
        self.records -= 1
        self.bytes -= body_bytes
        self.used = True
        return True


@dataclass(slots=True)
class _Records:
    """Offsets of one endpoint's records, each in exactly one of four collections.

    `mark`: all that start below it are settled, and counted; `settled` are those beyond it.
    """

    mark: int
    waiting: array[int] = field(default_factory=lambda: array("Q"))
    returned: list[int] = field(default_factory=list)
    claimed: set[int] = field(default_factory=set)
    settled: dict[int, Outcome] = field(default_factory=dict)

    @property
    def unsettled(self) -> int:
        return len(self.waiting) + len(self.returned) + len(self.claimed)

    def oldest(self) -> int | None:
        """Return the offset of the first record that is not settled; None: all are."""
        heads = [*self.waiting[:1], *self.returned[:1]]
        if self.claimed:
            heads.append(min(self.claimed))
        return min(heads, default=None)


class SegmentReader:
    """A segment from its first record that is not settled to its end, which moves while its writer lives.

    `size` is the caller's to keep up to date. `ended`: no byte will be added and all are read. `removed`: the
    file was removed under us. `is_newer`: a later version of this package has written it.
    """

    def __init__(self, path: Path, damage: CorruptionStats, progress: Progress | None = None) -> None:
        self.path = path
        self.name = path.name
        self.size = 0
        self.ended = False
        self.removed = False
        self.is_newer = False
        self.recheck_at_s = 0.0
        self._corruption = damage
        saved = progress or Progress()
        self._records: dict[Endpoint, _Records] = {
            endpoint: _Records(saved.marks[endpoint]) for endpoint in ENDPOINTS
        }
        self._outcomes = Counter({Outcome.DELIVERED: saved.delivered, Outcome.DEAD: saved.dead})
        # All before `scanned` is frames, or damage; up to `_seen` the bytes were looked at.
        self.scanned = self._seen = self._begun = min(saved.marks.values())
        self.frames = 0
        self._is_our_version = self._begun > 0
        self._unreported: list[frames.Damage] = []
        self._oldest: tuple[int, int | None] = (-1, None)

    @property
    def unread_bytes(self) -> int:
        """Bytes that have been written and not read yet."""
        return max(0, self.size - self._seen)

    @property
    def scanned_bytes(self) -> int:
        """Bytes that were read to find `frames` records."""
        return self.scanned - self._begun

    @property
    def has_partial_frame(self) -> bool:
        """True while it ends in the middle of a frame."""
        return self._seen > self.scanned

    @property
    def unsettled(self) -> int:
        """Records found and not settled."""
        return sum(records.unsettled for records in self._records.values())

    @property
    def claimed(self) -> int:
        """Records that are claimed."""
        return sum(len(records.claimed) for records in self._records.values())

    def has_waiting(self, endpoint: Endpoint, *, returned: bool) -> bool:
        """Return whether a claim would find something here."""
        records = self._records[endpoint]
        return bool(records.returned if returned else records.waiting)

    def count(self, outcome: Outcome) -> int:
        """Return how many records have had this outcome, here and under earlier leaders."""
        beyond = sum(list(records.settled.values()).count(outcome) for records in self._records.values())
        return self._outcomes[outcome] + beyond

    # --- finding -------------------------------------------------------------------------------

    def scan(self, budget_bytes: int) -> int:
        """Read what has been added, about `budget_bytes` at most; return how many bytes were read."""
        fd = os.open(self.path, os.O_RDONLY)
        try:
            asked = budget_bytes
            while True:
                data = os.pread(fd, min(asked, self.size - self.scanned), self.scanned)
                scanned = frames.scan(data)
                # A frame larger than the budget: to see its end, more is needed.
                if scanned.consumed or len(data) < asked or asked > _MAX_FRAME_BYTES:
                    break
                asked *= 2
        finally:
            os.close(fd)
        if len(data) < min(asked, self.size - self.scanned):
            self.size = self.scanned + len(data)  # its writer has taken back a write that failed
        consumed = scanned.consumed
        if not consumed and len(data) > _MAX_FRAME_BYTES:
            # No frame is so long: whatever it is, do not read it again and again.
            consumed = len(data)
            scanned.damages.append(frames.Damage(0, consumed, is_newer=False))
        base = self.scanned
        for endpoint, starts in scanned.starts.items():
            records = self._records[endpoint]
            records.waiting.extend([base + start for start in starts if base + start >= records.mark])
            self.frames += len(starts)
        for damage in scanned.damages:
            self._unreported.append(damage._replace(start=base + damage.start, end=base + damage.end))
        if self.frames or self._is_our_version:
            self._count_damage()
        self._seen = base + len(data)
        self.scanned = base + consumed
        return len(data)

    def try_to_end(self) -> None:
        """Find out whether the writer is gone; if so, judge what it has left at the end."""
        fd = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Only now, behind the lock, is the size the last word.
            self.size = os.fstat(fd).st_size
            self._seen = min(self._seen, self.size)
            rest = os.pread(fd, BLOCK_BYTES, self.scanned)
        except BlockingIOError:
            return
        finally:
            os.close(fd)
        if self.unread_bytes:
            return
        self.ended = True
        self.is_newer = not (self.frames or self._is_our_version) and (
            any(damage.is_newer for damage in self._unreported) or frames.is_newer_version(rest)
        )
        if not self.is_newer:
            self._count_damage()
            if self.has_partial_frame:
                self._corruption.torn(self.path)

    def _count_damage(self) -> None:
        # Kept back until a good frame shows that the segment is of our version at all.
        for damage in self._unreported:
            self._corruption.corrupt(self.path, damage.start, damage.end)
        self._unreported.clear()

    # --- claiming and settling -----------------------------------------------------------------

    def take(self, endpoint: Endpoint, budget: ClaimBudget, *, returned: bool) -> list[tuple[int, bytes]]:
        """Claim the first records that were `returned`, or of those never claimed; return offsets and bodies.

        OSError where the file cannot be read; then nothing is claimed.
        """
        records = self._records[endpoint]
        queue = records.returned if returned else records.waiting
        taken: list[tuple[int, bytes]] = []
        lost: list[int] = []
        fd = os.open(self.path, os.O_RDONLY)
        try:
            block, base, view = b"", 0, None
            for offset in queue:
                end = 0
                if base <= offset < base + len(block):
                    end = frames.frame_end(block, offset - base, view)
                if not end:
                    base, block = offset, os.pread(fd, BLOCK_BYTES, offset)
                    length = frames.declared_end(block, 0)
                    if length > len(block):
                        block = os.pread(fd, length, offset)
                    view = memoryview(block)
                    end = frames.frame_end(block, 0, view)
                if not end:
                    # Damaged since it was found, or a failed write that its writer has taken back.
                    self._corruption.corrupt(self.path, offset, offset + block.find(b"\n") + 1)
                    lost.append(offset)
                    continue
                body = block[offset - base + frames.HEADER_BYTES : end - 1]
                if not budget.take(len(body)):
                    break
                taken.append((offset, body))
        finally:
            os.close(fd)
        del queue[: len(taken) + len(lost)]
        records.claimed.update(offset for offset, _ in taken)
        records.settled.update(dict.fromkeys(lost, Outcome.LOST))
        return taken

    def is_claimed(self, endpoint: Endpoint, offset: int) -> bool:
        """Return whether this record is claimed."""
        return offset in self._records[endpoint].claimed

    def settle(self, endpoint: Endpoint, offsets: Iterable[int], outcome: Outcome) -> None:
        """Settle claimed records as `outcome`; those that are not claimed are left alone."""
        records = self._records[endpoint]
        ended = records.claimed.intersection(offsets)
        records.claimed -= ended
        records.settled.update(dict.fromkeys(ended, outcome))

    def release(self, endpoint: Endpoint, offsets: Iterable[int]) -> None:
        """Let claimed records be claimed again, in their order and before all others."""
        records = self._records[endpoint]
        back = records.claimed.intersection(offsets)
        records.claimed -= back
        if self.removed:
            records.settled.update(dict.fromkeys(back, Outcome.LOST))
        else:
            records.returned = sorted([*records.returned, *back])

    def mark_removed(self) -> int:
        """Note that the file was removed; return how many records are lost. Claimed ones may still arrive."""
        self.removed = True
        self.size = self._seen
        lost = 0
        for records in self._records.values():
            offsets = [*records.waiting, *records.returned]
            lost += len(offsets)
            records.settled.update(dict.fromkeys(offsets, Outcome.LOST))
            del records.waiting[:]
            records.returned.clear()
        return lost

    def progress(self) -> Progress:
        """Return how far the segment is settled; a later leader goes on from there."""
        for records in self._records.values():
            oldest = records.oldest()
            records.mark = max(records.mark, self.scanned if oldest is None else oldest)
            ended = [offset for offset in records.settled if offset < records.mark]
            self._outcomes.update([records.settled.pop(offset) for offset in ended])
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
        if offset != self._oldest[0]:
            self._oldest = (offset, read_time_ms(self.path, offset))
        return self._oldest[1]


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
