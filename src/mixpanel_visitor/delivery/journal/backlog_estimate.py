"""BacklogEstimator: what waits in a directory, as a process that does not lead can tell it."""

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
class _Counted:
    """Lines of a segment that were counted, and how many bytes those are."""

    lines: int = 0
    bytes: int = 0


@dataclass(slots=True)
class BacklogEstimator:
    """Counts lines, and takes off those that the leader says are settled.

    Exact for segments without damage once all are counted; a large spool takes several calls until then.
    """

    directory: Path
    pending: int = 0
    oldest_ms: int | None = None
    _counted: dict[str, _Counted] = field(default_factory=dict)

    def update(self, sizes: Mapping[str, int], progress: Mapping[str, Progress]) -> None:
        """Bring `pending` and `oldest_ms` up to date; reads at most `BUDGET_BYTES`."""
        self._counted = {name: self._counted.get(name, _Counted()) for name in sizes}
        self.pending, self.oldest_ms = 0, None
        budget = BUDGET_BYTES
        for name in sorted(sizes):
            counted = self._counted[name]
            with contextlib.suppress(OSError):
                budget -= self._count(name, counted, min(sizes[name] - counted.bytes, budget))
        lines = sum(counted.lines for counted in self._counted.values())
        mean_bytes = (
            sum(counted.bytes for counted in self._counted.values()) / lines
            if lines
            else _TYPICAL_FRAME_BYTES
        )
        for name, size in sizes.items():
            counted = self._counted[name]
            known = progress.get(name)
            settled = known.delivered + known.dead if known else 0
            waiting = counted.lines + round((size - counted.bytes) / mean_bytes) - settled
            if waiting > 0:
                self.pending += waiting
                self._age(name, min(known.marks.values()) if known else 0)

    def _count(self, name: str, counted: _Counted, want_bytes: int) -> int:
        if want_bytes <= 0:
            return 0
        fd = os.open(self.directory / name, os.O_RDONLY)
        try:
            data = os.pread(fd, want_bytes, counted.bytes)
        finally:
            os.close(fd)
        counted.lines += data.count(b"\n")
        counted.bytes += len(data)
        return len(data)

    def _age(self, name: str, mark: int) -> None:
        time_ms = read_time_ms(self.directory / name, mark)
        if time_ms is not None and (self.oldest_ms is None or time_ms < self.oldest_ms):
            self.oldest_ms = time_ms
