"""SegmentIndex: all segments of a directory as the leader reads them, oldest first.

They are those of all processes, also of processes that have died.
"""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from mixpanel_visitor.quoting import several

from .directory import fix_for
from .offsets import SegmentCounts
from .segment_reader import ClaimBudget, Outcome, SegmentReader
from .segments import is_unlocked, list_segments

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from mixpanel_visitor.observability.rate_limited_log import RateLimitedLog
    from mixpanel_visitor.records import Endpoint

    from .corruption import CorruptionStats
    from .offsets import CommittedOffsets

Position = tuple[SegmentReader, int]
"""A claimed record: its segment, and the offset at which its frame starts."""

TRY_TO_END_EVERY_S = 1.0
SWEEP_EVERY_S = 60.0
STALE_TEMPORARY_S = 60.0
_LEAST_SCAN_BYTES = 64 * 1024
_TYPICAL_FRAME_BYTES = 1024


class SegmentIndex:
    """Finds, claims and settles records, and deletes segments in which all are settled.

    Only the leader has one. An error in one segment is logged and does not stop work on the others.
    """

    def __init__(
        self, directory: Path, *, offsets: CommittedOffsets, corruption: CorruptionStats, log: RateLimitedLog
    ) -> None:
        self._directory = directory
        self._offsets = offsets
        self._corruption = corruption
        self._log = log
        self._readers: dict[str, SegmentReader] = {}
        self._ordered: list[SegmentReader] = []
        self._temporaries: list[str] = []
        self._sweep_again_s = 0.0

    # --- finding -------------------------------------------------------------------------------

    def refresh(self) -> bool:
        """List the segments and their sizes; return False where that failed."""
        try:
            sizes, self._temporaries = list_segments(self._directory)
        except OSError as error:
            self._log_error("list", self._directory, error)
            return False
        readers = self._readers
        for name, size in sizes.items():
            reader = readers.get(name)
            if reader is None:
                reader = SegmentReader(
                    self._directory / name, self._corruption, self._offsets.segments.get(name)
                )
                readers[name] = reader
                self._ordered = []
            reader.size = size
        for name in readers.keys() - sizes.keys():
            self._mark_removed(readers[name])
        if len(self._ordered) != len(readers):
            self._ordered = [readers[name] for name in sorted(readers)]
        return True

    def scan(self, budget_bytes: int) -> None:
        """Scan the added bytes for records, oldest segment first, about `budget_bytes` at most.

        It reads on until it has an unsettled record: if any record waits, a claim for some endpoint gets one,
        and a drain does not mistake the spool for empty.
        """
        while self._scan(budget_bytes) and not any(reader.unsettled for reader in self._ordered):
            pass

    def _scan(self, budget_bytes: int) -> bool:
        has_read = False
        for reader in self._ordered:
            if reader.unread_bytes and not reader.removed:
                with self._logging_errors(reader):
                    read_bytes = reader.scan(max(budget_bytes, _LEAST_SCAN_BYTES))
                    has_read = has_read or read_bytes > 0
                    budget_bytes -= read_bytes
                if budget_bytes <= 0:
                    break
        return has_read

    # --- claiming and settling -----------------------------------------------------------------

    def take(
        self, endpoint: Endpoint, max_records: int, max_bytes: int
    ) -> tuple[list[bytes], list[Position]]:
        """Claim records, first those that were released, then the oldest; return bodies and positions."""
        budget = ClaimBudget(max_records, max_bytes)
        bodies: list[bytes] = []
        positions: list[Position] = []
        for released in (True, False):
            for reader in self._ordered:
                if budget.records <= 0:
                    return bodies, positions
                if reader.removed or not reader.has_waiting(endpoint, released=released):
                    continue
                records: list[tuple[int, bytes]] | None = None
                budget_before = replace(budget)
                with self._logging_errors(reader):
                    records = reader.take(endpoint, budget, released=released)
                if records is None:
                    budget = budget_before
                    continue
                for offset, body in records:
                    bodies.append(body)
                    positions.append((reader, offset))
                if reader.has_waiting(endpoint, released=released):
                    # The next record does not fit; later ones must not overtake it.
                    return bodies, positions
        return bodies, positions

    def still_claimed(self, endpoint: Endpoint, positions: Iterable[Position]) -> list[Position]:
        """Return those of `positions` that are claimed from this index and not settled."""
        return [
            (reader, offset)
            for reader, offset in positions
            if self._is_current(reader) and reader.is_claimed(endpoint, offset)
        ]

    def settle(self, endpoint: Endpoint, positions: Iterable[Position], outcome: Outcome) -> None:
        """Settle the records at these positions as `outcome`."""
        for reader, offsets in self._by_reader(positions).items():
            reader.settle(endpoint, offsets, outcome)
            self._offsets.update(reader.name, reader.progress())

    def release(self, endpoint: Endpoint, positions: Iterable[Position]) -> None:
        """Let the records at these positions be claimed again."""
        for reader, offsets in self._by_reader(positions).items():
            reader.release(endpoint, offsets)

    def _by_reader(self, positions: Iterable[Position]) -> dict[SegmentReader, list[int]]:
        grouped: dict[SegmentReader, list[int]] = {}
        for reader, offset in positions:
            grouped.setdefault(reader, []).append(offset)
        return {reader: offsets for reader, offsets in grouped.items() if self._is_current(reader)}

    def _is_current(self, reader: SegmentReader) -> bool:
        return self._readers.get(reader.name) is reader

    # --- cleaning up ---------------------------------------------------------------------------

    def collect_garbage(self, *, now_s: float, now_ms: int) -> None:
        """Delete segments that are closed, or whose writer has died, and in which all records are settled.

        This works on a full disk too, and never waits for a writer.
        """
        for reader in self._ordered:
            idle = not (reader.unread_bytes or reader.ended or reader.removed)
            if idle and (reader.has_partial_frame or not reader.unsettled) and now_s >= reader.recheck_at_s:
                reader.recheck_at_s = now_s + TRY_TO_END_EVERY_S
                with self._logging_errors(reader):
                    reader.try_to_end()
        self._delete([reader for reader in self._ordered if reader.ended and not reader.unsettled], now_ms)
        for reader in [reader for reader in self._ordered if reader.removed and not reader.claimed]:
            self._offsets.mark_deleted(reader.name, now_ms)
            self._forget(reader)
        if now_s >= self._sweep_again_s:
            self._sweep_again_s = now_s + SWEEP_EVERY_S
            self._sweep()
            self._offsets.prune(now_ms)
            for name in self._offsets.segments.keys() - self._readers.keys():
                self._offsets.mark_deleted(name, now_ms)
        self._offsets.save()

    def _delete(self, finished: list[SegmentReader], now_ms: int) -> None:
        # Saved first: a process that finds a segment deleted needs its last counts.
        for reader in finished:
            self._offsets.update(reader.name, reader.progress())
        self._offsets.save()
        for reader in finished:
            if reader.is_newer:
                self._log(
                    logging.WARNING,
                    f"later {reader.path}",
                    "%s was written by a later version of mixpanel-visitor and is left alone. "
                    "A process with that version delivers it; see that one runs.",
                    reader.path,
                )
                continue
            with self._logging_errors(reader):
                reader.path.unlink()
                self._offsets.mark_deleted(reader.name, now_ms)
                self._forget(reader)

    def _mark_removed(self, reader: SegmentReader) -> None:
        if reader.removed:
            return
        lost = reader.mark_removed()
        if lost:
            self._log(
                logging.ERROR,
                f"lost {self._directory}",
                "%s was removed from outside: at least %s lost. "
                "Nothing but mixpanel-visitor should delete files in %s.",
                reader.path,
                several(lost, "record in it is", "records in it are"),
                self._directory,
            )
        self._offsets.update(reader.name, reader.progress())

    def _forget(self, reader: SegmentReader) -> None:
        del self._readers[reader.name]
        self._ordered.remove(reader)
        self._corruption.forget(reader.path)

    def _sweep(self) -> None:
        """Delete temporary files of processes that died while they created a file."""
        for name in self._temporaries:
            path = self._directory / name
            with contextlib.suppress(OSError):
                # By the system's clock, as the file's own time is, and not by the one that tests replace.
                if time.time() - path.stat().st_mtime > STALE_TEMPORARY_S and is_unlocked(path):
                    path.unlink()

    @contextlib.contextmanager
    def _logging_errors(self, reader: SegmentReader) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            self._mark_removed(reader)
        except OSError as error:
            self._log_error("read", reader.path, error)

    def _log_error(self, action: str, path: Path, error: OSError) -> None:
        self._log(
            logging.WARNING,
            f"{action} {self._directory}",
            "Cannot %s %s (%s): what is in there has to wait. %s",
            action,
            path,
            error,
            fix_for(error),
        )

    # --- counts --------------------------------------------------------------------------------

    def names(self) -> set[str]:
        """Return the names of the segments at the last `refresh`."""
        return {reader.name for reader in self._ordered if not reader.removed}

    def counts(self) -> dict[str, SegmentCounts]:
        """Return the counts of each segment."""
        return {
            name: SegmentCounts(reader.count(Outcome.DELIVERED), reader.count(Outcome.DEAD), reader.claimed)
            for name, reader in self._readers.items()
        }

    def pending(self) -> int:
        """Return how many records are not settled; an estimate until all segments have been read."""
        unsettled = sum(reader.unsettled for reader in self._ordered)
        unread_bytes = sum(reader.unread_bytes for reader in self._ordered)
        if not unread_bytes:
            return unsettled
        frames = sum(reader.frames for reader in self._ordered)
        scanned_bytes = sum(reader.scanned_bytes for reader in self._ordered)
        mean_bytes = scanned_bytes / frames if frames else _TYPICAL_FRAME_BYTES
        return unsettled + max(1, round(unread_bytes / mean_bytes))

    def size_bytes(self) -> int:
        """Return the size of all segments together."""
        return sum(reader.size for reader in self._ordered if not reader.removed)

    def oldest_ms(self) -> int | None:
        """Return when the oldest record that is not settled was put, in milliseconds; None: there is none."""
        times_ms = [time_ms for reader in self._ordered if (time_ms := reader.oldest_ms()) is not None]
        return min(times_ms, default=None)
