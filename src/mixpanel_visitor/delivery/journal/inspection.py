"""Inspection: reads the status of a journal and claims, changes and locks nothing."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from mixpanel_visitor.observability.rate_limited_log import RateLimitedLog

from .corruption import CorruptionStats
from .dead_letters import DeadLetters
from .file_locks import fcntl
from .offsets import CommittedOffsets
from .segment_reader import SegmentReader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SCAN_BYTES = 4 * 2**20


@dataclass(slots=True, kw_only=True)
class ProjectStatus:
    """The status of one project's journal. `waiting` counts the records that a new leader would send.

    `bytes` are those of all segments, `oldest_age_s` is None where nothing waits. Damage is counted in what
    still waits. `notes` are messages about what could not be read.
    """

    path: Path
    waiting: int = 0
    bytes: int = 0
    oldest_age_s: float | None = None
    segments: int = 0
    dead_letters: int = 0
    torn_tails: int = 0
    corrupt_bytes: int = 0
    led: bool = False
    free_bytes: int = 0
    volume_bytes: int = 0
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the same as JSON values."""
        return {**asdict(self), "path": str(self.path), "project": self.path.name}


class _CollectedLog(RateLimitedLog):
    """Collects what the journal's parts would log, for the command to show."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def __call__(self, level: int, kind: str, message: str, *args: object, exc_info: bool = False) -> None:  # noqa: ARG002
        self.lines.append(message % args)


def inspect(
    path: Path, sizes: dict[str, int], on_progress: Callable[[int], object] = lambda _bytes: None
) -> ProjectStatus:
    """Read the segments of a journal, `sizes` in bytes by name; `on_progress` gets the number of bytes read.

    Raise OSError where the journal cannot be read.
    """
    log = _CollectedLog()
    corruption = CorruptionStats(_CollectedLog())  # the counts are shown instead
    offsets = CommittedOffsets(path / "acks.json", log)
    offsets.load()
    status = ProjectStatus(path=path, led=is_locked(path / "leader.lock"))
    times_ms: list[int] = []
    for name, size in sizes.items():
        reader = SegmentReader(path / name, corruption, offsets.segments.get(name))
        reader.size = size
        # If it was delivered and deleted meanwhile, nothing of it waits.
        with contextlib.suppress(FileNotFoundError):
            while reader.unread_bytes:
                on_progress(reader.scan(SCAN_BYTES))
            if reader.has_partial_frame or not reader.unsettled:
                reader.try_to_end()
            status.segments += 1
            status.bytes += reader.size
            status.waiting += reader.unsettled
            time_ms = reader.oldest_ms() if reader.unsettled else None
            times_ms += [] if time_ms is None else [time_ms]
            if reader.is_newer:
                log.lines.append(f"{name} was written by a later version of mixpanel-visitor.")
    if times_ms:
        status.oldest_age_s = max(0.0, time.time() - min(times_ms) / 1000)
    status.torn_tails, status.corrupt_bytes = corruption.torn_tails, corruption.corrupt_bytes
    status.dead_letters = DeadLetters(path / "dead").count()
    volume = os.statvfs(path)
    status.free_bytes = volume.f_bavail * volume.f_frsize
    status.volume_bytes = volume.f_blocks * volume.f_frsize
    status.notes = log.lines
    return status


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock on this file.

    It takes a shared lock and releases it at once: a process that tries to lead at that moment tries again
    a second later, and no process loses its lock.
    """
    try:
        fd = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
