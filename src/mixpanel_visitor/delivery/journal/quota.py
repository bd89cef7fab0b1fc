"""DiskQuota: how much a spool may still grow before new records are refused."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from mixpanel_visitor.errors import SpoolFullError

from .segments import list_segments

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 2**30
MAX_SHARE_OF_VOLUME = 0.10
MIN_FREE_SHARE_OF_VOLUME = 0.05
MEASURE_EVERY_S = 1.0


class DiskQuota:
    """Measures at most once a second; in between it counts what this process writes.

    All segments together may have `max_bytes` (None: 1 GB, or 10 % of the volume if that is less), and 5 %
    of the volume stay free. Dead letters have a bound of their own. Records are refused, never dropped.
    """

    def __init__(self, directory: Path, max_bytes: int | None) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._measure_again_s = float("-inf")
        self._room_bytes = self._limit_bytes = MAX_BYTES if max_bytes is None else max_bytes
        self._reason = "what it holds cannot be measured, and this process has written so much"

    def reserve(self, needed_bytes: int, now_s: float) -> None:
        """Reserve room for `needed_bytes` more, or raise `SpoolFullError`; `now_s` is monotonic."""
        self._measure_if_due(now_s)
        if needed_bytes > self._room_bytes:
            raise SpoolFullError(
                f"The spool {self._directory} is full: {self._reason}. New records are refused until some "
                "are delivered; what is stored is kept. Check that Mixpanel is reachable, free space on the "
                "volume, or allow the spool more."
            )
        self._room_bytes -= needed_bytes

    def fill(self, now_s: float) -> float:
        """Return the used share of what the spool may hold, from 0.0 to 1.0; `now_s` is monotonic."""
        self._measure_if_due(now_s)
        return 1.0 if self._limit_bytes <= 0 else 1.0 - max(0, self._room_bytes) / self._limit_bytes

    def _measure_if_due(self, now_s: float) -> None:
        if now_s < self._measure_again_s:
            return
        # A failed measurement is no reason to refuse: the write itself shows whether there is room.
        with contextlib.suppress(OSError):
            self._measure()
        self._measure_again_s = now_s + MEASURE_EVERY_S

    def _measure(self) -> None:
        sizes, _ = list_segments(self._directory)
        used_bytes = sum(sizes.values())
        limit_bytes = MAX_BYTES if self._max_bytes is None else self._max_bytes
        volume_room_bytes: float = float("inf")
        with contextlib.suppress(OSError):
            volume = os.statvfs(self._directory)
            total_bytes = volume.f_blocks * volume.f_frsize
            free_bytes = volume.f_bavail * volume.f_frsize
            if total_bytes:  # some file systems do not report it
                volume_room_bytes = free_bytes - total_bytes * MIN_FREE_SHARE_OF_VOLUME
                if self._max_bytes is None:
                    limit_bytes = min(limit_bytes, int(total_bytes * MAX_SHARE_OF_VOLUME))
        if volume_room_bytes < limit_bytes - used_bytes:
            self._reason = f"less than {MIN_FREE_SHARE_OF_VOLUME:.0%} of its volume would be left free"
            self._room_bytes = int(volume_room_bytes)
        else:
            self._reason = f"it may hold {limit_bytes:,} bytes and holds {used_bytes:,}"
            self._room_bytes = limit_bytes - used_bytes
        self._limit_bytes = used_bytes + self._room_bytes
