"""BacklogEstimator: how much waits in a directory, estimated by a process that does not lead."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .segment_reader import read_time_ms

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from .offsets import Progress

BUDGET_BYTES = 16 * 2**20
_TYPICAL_FRAME_BYTES = 1024


@dataclass(slots=True)
class _LineCount:
    """The counted lines of a segment, and their size in bytes."""

    lines: int = 0
    bytes: int = 0


@dataclass(slots=True)
class BacklogEstimator:
    """Counts lines, and subtracts those that are settled by the leader's file.

    Exact for segments without damage once all lines are counted, which takes several calls for a large spool.
    """

    directory: Path
    pending: int = 0
    oldest_ms: int | None = None
    _line_counts: dict[str, _LineCount] = field(default_factory=dict)

    def update(self, sizes: Mapping[str, int], progress: Mapping[str, Progress]) -> None:
        """Bring `pending` and `oldest_ms` up to date; read at most `BUDGET_BYTES`."""
        self._line_counts = {name: self._line_counts.get(name, _LineCount()) for name in sizes}
        self.pending, self.oldest_ms = 0, None
        budget = BUDGET_BYTES
        for name in sorted(sizes):
            line_count = self._line_counts[name]
            with contextlib.suppress(OSError):
                budget -= self._count_lines(name, line_count, min(sizes[name] - line_count.bytes, budget))
        lines = sum(line_count.lines for line_count in self._line_counts.values())
        mean_bytes = (
            sum(line_count.bytes for line_count in self._line_counts.values()) / lines
            if lines
            else _TYPICAL_FRAME_BYTES
        )
        for name, size in sizes.items():
            line_count = self._line_counts[name]
            segment_progress = progress.get(name)
            settled = segment_progress.delivered + segment_progress.dead if segment_progress else 0
            waiting = line_count.lines + round((size - line_count.bytes) / mean_bytes) - settled
            if waiting > 0:
                self.pending += waiting
                self._update_oldest(name, min(segment_progress.marks.values()) if segment_progress else 0)

    def _count_lines(self, name: str, line_count: _LineCount, max_bytes: int) -> int:
        if max_bytes <= 0:
            return 0
        fd = os.open(self.directory / name, os.O_RDONLY)
        try:
            data = os.pread(fd, max_bytes, line_count.bytes)
        finally:
            os.close(fd)
        line_count.lines += data.count(b"\n")
        line_count.bytes += len(data)
        return len(data)

    def _update_oldest(self, name: str, mark: int) -> None:
        time_ms = read_time_ms(self.directory / name, mark)
        if time_ms is not None and (self.oldest_ms is None or time_ms < self.oldest_ms):
            self.oldest_ms = time_ms
