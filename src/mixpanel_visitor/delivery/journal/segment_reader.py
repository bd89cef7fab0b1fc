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
        """Whether a body of this size may be taken; the first one always may, whatever its size."""
        if self.records <= 0 or (self.used and body_bytes > self.bytes):
            return False
        self.records -= 1
        self.bytes -= body_bytes
        self.used = True
        return True


@dataclass(slots=True)
class _Lane:
    """Offsets of one endpoint's records. Every one that is known is in exactly one of the four.

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
        """Offset of the first record that is not settled; None: all are."""
        heads = [*self.waiting[:1], *self.returned[:1]]
        if self.claimed:
            heads.append(min(self.claimed))
        return min(heads, default=None)


class SegmentReader:
    """A segment from its first record that is not settled to its end, which moves while its writer lives.

    `size` is the caller's to keep up to date. `ended`: no byte will be added and all are read. `removed`: the
    file was removed under us. `later`: a later version of this package has written it.
    """

    def __init__(self, path: Path, damage: CorruptionStats, progress: Progress | None = None) -> None:
        self.path = path
        self.name = path.name
        self.size = 0
        self.ended = False
        self.removed = False
        self.later = False
        self.recheck_at_s = 0.0
        self._damage = damage
        known = progress or Progress()
        self._lanes: dict[Endpoint, _Lane] = {
            endpoint: _Lane(known.marks[endpoint]) for endpoint in ENDPOINTS
        }
        self._outcomes = Counter({Outcome.DELIVERED: known.delivered, Outcome.DEAD: known.dead})
        # All before `scanned` is frames, or damage; up to `_seen` the bytes were looked at.
        self.scanned = self._seen = self._begun = min(known.marks.values())
        self.frames = 0
        self._ours = self._begun > 0
        self._suspects: list[frames.Damage] = []
        self._oldest: tuple[int, int | None] = (-1, None)

    @property
    def unread_bytes(self) -> int:
        """How much has been written that was not looked at yet."""
        return max(0, self.size - self._seen)

    @property
    def scanned_bytes(self) -> int:
        """How much was read to find `frames` records."""
        return self.scanned - self._begun

    @property
    def has_partial_frame(self) -> bool:
        """Whether it now ends in the middle of a frame."""
        return self._seen > self.scanned

    @property
    def unsettled(self) -> int:
        """Records found and not settled."""
        return sum(lane.unsettled for lane in self._lanes.values())

    @property
    def claimed(self) -> int:
        """Records out with a claim."""
        return sum(len(lane.claimed) for lane in self._lanes.values())

    def waiting(self, endpoint: Endpoint, *, returned: bool) -> bool:
        """Whether a claim would find something here."""
        lane = self._lanes[endpoint]
        return bool(lane.returned if returned else lane.waiting)

    def count(self, outcome: Outcome) -> int:
        """So many records have ended thus, here and under earlier leaders."""
        beyond = sum(list(lane.settled.values()).count(outcome) for lane in self._lanes.values())
        return self._outcomes[outcome] + beyond

    # --- finding -------------------------------------------------------------------------------

    def scan(self, budget_bytes: int) -> int:
        """Look at what has been added, about `budget_bytes` at most; return how many bytes that was."""
        fd = os.open(self.path, os.O_RDONLY)
        try:
            asked = budget_bytes
            while True:
                data = os.pread(fd, min(asked, self.size - self.scanned), self.scanned)
                found = frames.scan(data)
                # A frame larger than the budget: to see its end, more is needed.
                if found.consumed or len(data) < asked or asked > _MAX_FRAME_BYTES:
                    break
                asked *= 2
        finally:
            os.close(fd)
        if len(data) < min(asked, self.size - self.scanned):
            self.size = self.scanned + len(data)  # its writer has taken back a write that failed
        consumed = found.consumed
        if not consumed and len(data) > _MAX_FRAME_BYTES:
            # No frame is so long: whatever it is, do not read it again and again.
            consumed = len(data)
            found.damages.append(frames.Damage(0, consumed, later=False))
        base = self.scanned
        for endpoint, starts in found.starts.items():
            lane = self._lanes[endpoint]
            lane.waiting.extend([base + start for start in starts if base + start >= lane.mark])
            self.frames += len(starts)
        for damage in found.damages:
            self._suspects.append(damage._replace(start=base + damage.start, end=base + damage.end))
        if self.frames or self._ours:
            self._count_damage()
        self._seen = base + len(data)
        self.scanned = base + consumed
        return len(data)

    def try_to_end(self) -> None:
        """Find out whether the writer is gone, and then judge what it has left at the end."""
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
        self.later = not (self.frames or self._ours) and (
            any(damage.later for damage in self._suspects) or frames.is_newer_version(rest)
        )
        if not self.later:
            self._count_damage()
            if self.has_partial_frame:
                self._damage.torn(self.path)

    def _count_damage(self) -> None:
        # Kept back until a good frame shows that the segment is of our version at all.
        for damage in self._suspects:
            self._damage.corrupt(self.path, damage.start, damage.end)
        self._suspects.clear()

    # --- claiming and settling -----------------------------------------------------------------

    def take(self, endpoint: Endpoint, allowance: ClaimBudget, *, returned: bool) -> list[tuple[int, bytes]]:
        """Claim the first records that were `returned`, or else of those never claimed: offsets and bodies.

        OSError where the file cannot be read; then nothing is claimed.
        """
        lane = self._lanes[endpoint]
        queue = lane.returned if returned else lane.waiting
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
                    self._damage.corrupt(self.path, offset, offset + block.find(b"\n") + 1)
                    lost.append(offset)
                    continue
                body = block[offset - base + frames.HEADER_BYTES : end - 1]
                if not allowance.take(len(body)):
                    break
                taken.append((offset, body))
        finally:
            os.close(fd)
        del queue[: len(taken) + len(lost)]
        lane.claimed.update(offset for offset, _ in taken)
        lane.settled.update(dict.fromkeys(lost, Outcome.LOST))
        return taken

    def holds(self, endpoint: Endpoint, offset: int) -> bool:
        """Whether this record is out with a claim."""
        return offset in self._lanes[endpoint].claimed

    def settle(self, endpoint: Endpoint, offsets: Iterable[int], outcome: Outcome) -> None:
        """Claimed records have come to their end; those that are not claimed are left alone."""
        lane = self._lanes[endpoint]
        ended = lane.claimed.intersection(offsets)
        lane.claimed -= ended
        lane.settled.update(dict.fromkeys(ended, outcome))

    def give_back(self, endpoint: Endpoint, offsets: Iterable[int]) -> None:
        """Claimed records are to be claimed again, in their order and before all others."""
        lane = self._lanes[endpoint]
        back = lane.claimed.intersection(offsets)
        lane.claimed -= back
        if self.removed:
            lane.settled.update(dict.fromkeys(back, Outcome.LOST))
        else:
            lane.returned = sorted([*lane.returned, *back])

    def mark_removed(self) -> int:
        """The file was removed: return how many records are lost with it. Those claimed may still arrive."""
        self.removed = True
        self.size = self._seen
        lost = 0
        for lane in self._lanes.values():
            offsets = [*lane.waiting, *lane.returned]
            lost += len(offsets)
            lane.settled.update(dict.fromkeys(offsets, Outcome.LOST))
            del lane.waiting[:]
            lane.returned.clear()
        return lost

    def progress(self) -> Progress:
        """How far the segment has been dealt with; a later leader goes on from there."""
        for lane in self._lanes.values():
            oldest = lane.oldest()
            lane.mark = max(lane.mark, self.scanned if oldest is None else oldest)
            ended = [offset for offset in lane.settled if offset < lane.mark]
            self._outcomes.update([lane.settled.pop(offset) for offset in ended])
        return Progress(
            marks={endpoint: self._lanes[endpoint].mark for endpoint in ENDPOINTS},
            delivered=self._outcomes[Outcome.DELIVERED],
            dead=self._outcomes[Outcome.DEAD],
        )

    def oldest_ms(self) -> int | None:
        """When the oldest record that is not settled was put, in milliseconds; None: there is none."""
        offsets = [oldest for lane in self._lanes.values() if (oldest := lane.oldest()) is not None]
        if self.unread_bytes:
            offsets.append(self.scanned)
        if not offsets or self.removed:
            return None
        offset = min(offsets)
        if offset != self._oldest[0]:
            self._oldest = (offset, read_time_ms(self.path, offset))
        return self._oldest[1]


def read_time_ms(path: Path, offset: int) -> int | None:
    """When the frame at `offset` of this segment was put, in milliseconds; None where that is unreadable."""
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
