"""JournalProducer: the writing side of a journal. One write for each `put`, into its own segment."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from typing import TYPE_CHECKING

from mixpanel_visitor.errors import SpoolUnavailableError
from mixpanel_visitor.observability.rate_limited_log import DeferredLog
from mixpanel_visitor.process.reentry import owned
from mixpanel_visitor.quoting import several

from . import frames
from .directory import distrust, fix_for
from .offsets import CommittedOffsets
from .producer_stats import OwnSegment, ProducerStats
from .quota import DiskQuota
from .segments import NO_LINKS, FileId, SegmentWriter, list_segments, segment_name, sync_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mixpanel_visitor.observability.rate_limited_log import RateLimitedLog
    from mixpanel_visitor.records import Record

    from .consumer import StoreStatus
    from .producer_stats import Totals

VERSION = b"1\n"
LOOK_EVERY_S = 1.0
SETTLE_EVERY = 256
PATIENCE_S = 5.0
"""So long a thread waits for another one's write; a disk that hangs must not hang every request for ever."""


class JournalProducer:
    """Writes frames, rolls segments, and notices when somebody removes them.

    Made for many threads. `has_new_records` is set by every put, for the reader in the same process to clear.
    """

    def __init__(
        self,
        directory: Path,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        max_bytes: int | None,
        segment_bytes: int,
        segment_age_s: float,
        log: RateLimitedLog,
        sync_path: Callable[[Path], None] = sync_path,
    ) -> None:
        self.has_new_records = False
        self.lock = threading.RLock()
        self._directory = directory
        self._clock = clock
        self._monotonic = monotonic
        self._segment_bytes = segment_bytes
        self._segment_age_s = segment_age_s
        self._log = self._said = DeferredLog(log)
        self._sync_path = sync_path
        self._space = DiskQuota(directory, max_bytes)
        self._own = ProducerStats()
        self._writer: SegmentWriter | None = None
        self._segment = OwnSegment(name="")
        self._opened = 0
        self._opened_ms = -1
        self._settle_at = SETTLE_EVERY
        self._unsynced: list[Path] = []
        self._store: FileId | None = None
        self._look_again_s = float("-inf")
        self._kept_house_s = float("-inf")

    def put(self, records: Sequence[Record]) -> None:
        """Write all of `records` or none; `SpoolError` if that cannot be done."""
        data = frames.encode(records, int(self._clock() * 1000))
        if not data:
            return
        now_s = self._monotonic()
        if owned(self.lock):
            raise SpoolUnavailableError(
                f"The spool {self._directory} is busy: this thread has interrupted its own write."
            )
        try:
            if not self.acquire(PATIENCE_S):
                raise SpoolUnavailableError(
                    f"The spool {self._directory} is busy: another thread's write has not come back for "
                    f"{PATIENCE_S:.0f} s. Check the disk."
                )
            if now_s >= self._look_again_s or self._store is None:
                self._look(now_s)
            self._space.take(len(data), now_s)
            self._append(data, len(records), now_s)
        except OSError as error:
            raise SpoolUnavailableError(
                f"The spool {self._directory} did not take records: {error}. {fix_for(error)}"
            ) from error
        finally:
            # First of all, and by no call of ours: a signal handler that raises may come with each of those.
            try:  # noqa: SIM105  # for the same reason
                self.lock.release()
            except RuntimeError:
                pass  # it was not to be had
        if self._said.lines:
            self._said.flush()
        self.has_new_records = True

    def maintain(self, *, every_s: float = 0.0) -> None:
        """Sync, seal an old segment, notice what was removed; not within `every_s` of the last time.

        Raises nothing: what cannot be synced is logged and tried again the next time.
        """
        now_s = self._monotonic()
        if now_s < self._kept_house_s + every_s:
            return
        self._kept_house_s = now_s
        if not self.acquire(PATIENCE_S):
            return
        try:
            self._detect_removal()
            # Sealed, it can be deleted once it is delivered, though nothing is put any more.
            if self._writer is not None and now_s - self._writer.opened_s >= self._segment_age_s:
                self._seal()
            paths, self._unsynced = self._unsynced, []
            if self._writer is not None and self._writer.dirty:
                self._writer.dirty = False
                paths.append(self._writer.path)
        finally:
            self.release()
        if paths:
            self._unsynced.extend(self._sync([*paths, self._directory]))

    def seal(self) -> None:
        """Close the segment and sync; the next put begins another."""
        if self.acquire(PATIENCE_S):
            try:
                self._seal()
                self._look_again_s = float("-inf")
            finally:
                self.release()
        self.maintain()

    def names(self) -> list[str]:
        """Names of the segments whose end is not known yet."""
        if self.acquire(PATIENCE_S):
            try:
                self._detect_removal()
                return self._own.names()
            finally:
                self.release()
        return []

    def reconcile(self, names: list[str], store_status: StoreStatus) -> Totals:
        """Add up what became of all that was written here; `names` are from before the survey."""
        if not self.acquire(PATIENCE_S):
            return self._own.totals()
        try:
            if store_status.names is not None:
                there = store_status.names
                if self._writer is not None:
                    there = there | {self._writer.path.name}
                self._own.reconcile(names, there, store_status.known)
            return self._own.totals()
        finally:
            self.release()

    def close_inherited(self) -> None:
        """In a forked child: close the copy of the parent's segment."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close_inherited()

    def acquire(self, timeout_s: float) -> bool:
        """Take the lock; False where that takes too long, or this very thread was interrupted holding it."""
        return not owned(self.lock) and (
            self.lock.acquire(blocking=False) or self.lock.acquire(timeout=timeout_s)
        )

    def release(self) -> None:
        """Let go of the lock, then say what there was to say."""
        self.lock.release()
        if self._said.lines:
            self._said.flush()

    def _sync(self, paths: list[Path]) -> list[Path]:
        """Sync files and the directory, without the lock, for a disk may be slow; give those that failed."""
        failed = []
        for path in dict.fromkeys(paths):
            try:
                self._sync_path(path)
            except FileNotFoundError:
                pass  # delivered and deleted meanwhile
            except OSError as error:
                failed.append(path)
                message = "%s cannot be synced (%s): a power failure now would lose records. Check the disk."
                self._log(logging.ERROR, f"sync {self._directory}", message, path, error)
        self._said.flush()
        return failed

    # --- inside; all with the lock held --------------------------------------------------------

    def _append(self, data: bytes, count: int, now_s: float) -> None:
        writer = self._writer
        if writer is not None and (
            (writer.size and writer.size + len(data) > self._segment_bytes)
            or now_s - writer.opened_s >= self._segment_age_s
        ):
            self._roll(now_s)
        try:
            self._write(data, count, now_s)
        except OSError:
            # The file may be the matter (a limit on its size), and not the disk.
            self._write(data, count, now_s)

    def _write(self, data: bytes, count: int, now_s: float) -> None:
        writer = self._writer or self._open(now_s)
        try:
            writer.append(data)
        except OSError:
            self._seal()
            raise
        self._segment.written += count

    def _roll(self, now_s: float) -> None:
        """Begin another segment; where none can be had for now (descriptors), go on in this one."""
        sealed, segment = self._writer, self._segment
        self._writer = None
        try:
            self._open(now_s)
        except OSError:
            self._writer, self._segment = sealed, segment
        else:
            self._close(sealed)

    def _open(self, now_s: float) -> SegmentWriter:
        self._opened += 1
        # Two in one millisecond, or a clock that was set back, must not change the order.
        self._opened_ms = max(int(self._clock() * 1000), self._opened_ms + 1)
        name = segment_name(time_ms=self._opened_ms, number=self._opened)
        path = self._directory / name
        try:
            writer = SegmentWriter(path, opened_s=now_s)
        except FileNotFoundError:
            self._detect_removal()
            self._make_directory()
            writer = SegmentWriter(path, opened_s=now_s)
        if len(self._own) >= self._settle_at:
            self._reconcile_old()
        self._segment = self._own.begin(name)
        self._writer = writer
        return writer

    def _reconcile_old(self) -> None:
        """For a process that nobody asks for its counts: do not remember every segment for ever."""
        names = self._own.names()
        with contextlib.suppress(OSError):
            sizes, _ = list_segments(self._directory)
            acks = CommittedOffsets(self._directory / "acks.json", self._log)
            acks.load()
            self._own.reconcile(names, set(sizes), acks.figures())
        self._settle_at = len(self._own) + SETTLE_EVERY

    def _seal(self) -> None:
        writer, self._writer = self._writer, None
        self._close(writer)

    def _close(self, writer: SegmentWriter | None) -> None:
        if writer is not None:
            if writer.dirty:
                self._unsynced.append(writer.path)
            writer.close()

    def _look(self, now_s: float) -> None:
        self._look_again_s = now_s + LOOK_EVERY_S
        self._detect_removal()
        if self._store is None:
            self._make_directory()

    def _make_directory(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        ambiguous = distrust(self._directory)
        if ambiguous:
            self._log(
                logging.WARNING,
                f"open {self._directory}",
                "The spool may not be private: %s. Events wait there, and whoever may write can change them. "
                "Give the application a directory of its own (chmod 700).",
                ambiguous,
            )
        path = self._directory / "VERSION"
        with contextlib.suppress(FileExistsError):
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_LINKS, 0o600)
            try:
                os.write(fd, VERSION)
            finally:
                os.close(fd)
        self._store = FileId.of_path(path)
        found = path.read_bytes().strip()
        if found.isdigit() and int(found) > int(VERSION):
            self._log(
                logging.WARNING,
                f"version {self._directory}",
                "%s was made by a later version of mixpanel-visitor (format %s, here %s). Both may share it, "
                "but this process delivers only what is in its own format.",
                self._directory,
                found.decode(),
                VERSION.decode().strip(),
            )

    def _detect_removal(self) -> None:
        """Somebody may delete the directory of a running process: go on in a new one and say what is lost."""
        if self._store is None:
            return
        in_place = self._writer is None or self._writer.is_in_place()
        if in_place and self._store_is_same():
            return
        if not in_place:
            self._seal()
        self._store = None
        # What the leader has deleted still stands in acks.json, unless that was removed as well.
        acks = CommittedOffsets(self._directory / "acks.json", self._log)
        acks.load()
        missing = [name for name in self._own.names() if not (self._directory / name).exists()]
        lost = self._own.mark_removed(missing, acks.figures())
        if lost:
            self._log(
                logging.ERROR,
                f"removed {self._directory}",
                "The spool %s was removed while this process used it: up to %s lost. "
                "It is made anew. Nothing but mixpanel-visitor should delete files in it.",
                self._directory,
                several(lost, "record that waited there is", "records that waited there are"),
            )

    def _store_is_same(self) -> bool:
        try:
            return FileId.of_path(self._directory / "VERSION") == self._store
        except FileNotFoundError:
            return False
        except OSError:
            return True
