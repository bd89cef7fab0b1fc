"""CorruptionStats: counts damage in segments, each place once, however often it is read."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from mixpanel_visitor.observability.rate_limited_log import RateLimitedLog


class CorruptionStats:
    """Counts `corrupt_bytes`, which are no frames, and `torn_tails`, last frames without an end."""

    def __init__(self, log: RateLimitedLog) -> None:
        self.corrupt_bytes = 0
        self.torn_tails = 0
        self._log = log
        self._counted_starts: dict[str, set[int]] = {}
        self._torn_names: set[str] = set()

    def count_corrupt(self, path: Path, start: int, end: int) -> None:
        """Count and log the bytes from `start` to `end` of a segment as damaged."""
        counted_starts = self._counted_starts.setdefault(path.name, set())
        if start >= end or start in counted_starts:
            return
        counted_starts.add(start)
        self.corrupt_bytes += end - start
        self._log(
            logging.ERROR,
            f"corrupt {path.parent}",
            "%d bytes of %s are damaged: the records in them are lost, all others are not. "
            "If this happens again, check the disk.",
            end - start,
            path,
        )

    def count_torn_tail(self, path: Path) -> None:
        """Count a segment whose last frame is incomplete, because its writer died."""
        if path.name not in self._torn_names:
            self._torn_names.add(path.name)
            self.torn_tails += 1

    def forget(self, path: Path) -> None:
        """Forget a segment that was deleted."""
        self._counted_starts.pop(path.name, None)
        self._torn_names.discard(path.name)
