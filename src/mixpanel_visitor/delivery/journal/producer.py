"""JournalProducer: the writing side of a journal. Each `put` is one write, to a segment of this process."""

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
from .directory import check_private, fix_for
from .offsets import CommittedOffsets
from .producer_stats import OwnSegment, ProducerStats
from .quota import DiskQuota
from .segments import NO_LINKS, FileId, SegmentWriter, list_segments, new_writer_id, segment_name, sync_path

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mixpanel_visitor.observability.rate_limited_log import RateLimitedLog
    from mixpanel_visitor.records import Record

    from .consumer import StoreStatus
    from .producer_stats import Totals

VERSION = b"1\n"
CHECK_EVERY_S = 1.0
RECONCILE_EVERY = 256
LOCK_TIMEOUT_S = 5.0
"""How long a thread waits for another's write: a disk that hangs must not hang every request for ever."""


class JournalProducer:
    """Writes frames, rolls segments, and notices when these are removed.

    Many threads may use it. `writer_id` is the process's ID in the names of its segments. Every put sets
    `has_new_records`, which the reader in the same process clears.
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
        self.writer_id = new_writer_id()
        self.lock = threading.RLock()
        self._directory = directory
        self._clock = clock
        self._monotonic = monotonic
        self._segment_bytes = segment_bytes
        self._segment_age_s = segment_age_s
        self._log = DeferredLog(log)
        self._sync_path = sync_path
        self._quota = DiskQuota(directory, max_bytes)
        self._stats = ProducerStats()
        self._writer: SegmentWriter | None = None
        self._segment = OwnSegment(name="")
        self._opened_count = 0
        self._opened_ms = -1
        self._reconcile_at_count = RECONCILE_EVERY
        self._unsynced: list[Path] = []
        self._version_file: FileId | None = None
        self._check_again_s = float("-inf")
        self._maintained_s = float("-inf")

    def put(self, records: Sequence[Record]) -> None:
        """Write all of `records`, or none and raise `SpoolError`."""
        data = frames.encode(records, int(self._clock() * 1000))
        if not data:
            return
        now_s = self._monotonic()
        if owned(self.lock):
            raise SpoolUnavailableError(
                f"The spool {self._directory} is busy: this thread has interrupted its own write."
            )
        try:
            if not self.acquire(LOCK_TIMEOUT_S):
                raise SpoolUnavailableError(
                    f"The spool {self._directory} is busy: another thread's write has not come back for "
                    f"{LOCK_TIMEOUT_S:.0f} s. Check the disk."
                )
            if now_s >= self._check_again_s or self._version_file is None:
                self._check_directory(now_s)
            self._quota.reserve(len(data), now_s)
            self._append(data, len(records), now_s)
        except OSError as error:
            raise SpoolUnavailableError(
                f"The spool {self._directory} did not take records: {error}. {fix_for(error)}"
            ) from error
        finally:
            # First, and by no call of ours: a signal handler that raises may run at each of those.
            try:  # noqa: SIM105  # for the same reason
                self.lock.release()
            except RuntimeError:
                pass  # it was not acquired
        if self._log.lines:
            self._log.flush()
        self.has_new_records = True

    def fill(self) -> float:
        """Return the used share of what the spool may hold; 1.0 where another thread's write hangs."""
        if not self.acquire(LOCK_TIMEOUT_S):
            return 1.0
        try:
            return self._quota.fill(self._monotonic())
        finally:
            self.release()

    def maintain(self, *, every_s: float = 0.0) -> None:
        """Sync, seal an old segment, notice removed files; not within `every_s` seconds of the last call.

        It raises nothing: a file that cannot be synced is logged and tried again at the next call.
        """
        now_s = self._monotonic()
        if now_s < self._maintained_s + every_s:
            return
        self._maintained_s = now_s
        if not self.acquire(LOCK_TIMEOUT_S):
            return
        try:
            self._detect_removal()
            # Once sealed it can be deleted when it is delivered, also if nothing is put any more.
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
        if self.acquire(LOCK_TIMEOUT_S):
            try:
                self._seal()
                self._check_again_s = float("-inf")
            finally:
                self.release()
        self.maintain()

    def names(self) -> list[str]:
        """Return the names of the segments that may still change."""
        if self.acquire(LOCK_TIMEOUT_S):
            try:
                self._detect_removal()
                return self._stats.names()
            finally:
                self.release()
        return []

    def reconcile(self, names: list[str], store_status: StoreStatus) -> Totals:
        """Return what became of all records written here; `names` are from before the `store_status`."""
        if not self.acquire(LOCK_TIMEOUT_S):
            return self._stats.totals()
        try:
            if store_status.names is not None:
                existing = store_status.names
                if self._writer is not None:
                    existing = existing | {self._writer.path.name}
                self._stats.reconcile(names, existing, store_status.segment_counts)
            return self._stats.totals()
        finally:
            self.release()

    def close_inherited(self) -> None:
        """Close a forked child's copy of the parent's segment."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close_inherited()

    def acquire(self, timeout_s: float) -> bool:
        """Take the lock; return False after `timeout_s`, or at once where this thread holds it."""
        return not owned(self.lock) and (
            self.lock.acquire(blocking=False) or self.lock.acquire(timeout=timeout_s)
        )

    def release(self) -> None:
        """Release the lock, then log the deferred lines."""
        self.lock.release()
        if self._log.lines:
            self._log.flush()

    def _sync(self, paths: list[Path]) -> list[Path]:
        """Sync files and the directory, without the lock, as a disk may be slow; return those that failed."""
        failed_paths = []
        for path in dict.fromkeys(paths):
            try:
                self._sync_path(path)
            except FileNotFoundError:
                pass  # delivered and deleted meanwhile
            except OSError as error:
                failed_paths.append(path)
                message = "%s cannot be synced (%s): a power failure now would lose records. Check the disk."
                self._log(logging.ERROR, f"sync {self._directory}", message, path, error)
        self._log.flush()
        return failed_paths

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
            # The cause may be the file (a limit on its size) and not the disk.
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
        """Open another segment; where that fails, as without free descriptors, keep this one."""
        old_writer, old_segment = self._writer, self._segment
        self._writer = None
        try:
            self._open(now_s)
        except OSError:
            self._writer, self._segment = old_writer, old_segment
        else:
            self._close(old_writer)

    def _open(self, now_s: float) -> SegmentWriter:
        self._opened_count += 1
        # Names must keep their order for two in a millisecond, or a clock that was set back.
        self._opened_ms = max(int(self._clock() * 1000), self._opened_ms + 1)
        name = segment_name(time_ms=self._opened_ms, writer_id=self.writer_id, sequence=self._opened_count)
        path = self._directory / name
        try:
            writer = SegmentWriter(path, opened_s=now_s)
        except FileNotFoundError:
            self._detect_removal()
            self._make_directory()
            writer = SegmentWriter(path, opened_s=now_s)
        if len(self._stats) >= self._reconcile_at_count:
            self._reconcile_old()
        self._segment = self._stats.begin(name)
        self._writer = writer
        return writer

    def _reconcile_old(self) -> None:
        """Forget finished segments, in a process whose counts are never read."""
        names = self._stats.names()
        with contextlib.suppress(OSError):
            sizes, _ = list_segments(self._directory)
            offsets = CommittedOffsets(self._directory / "acks.json", self._log)
            offsets.load()
            self._stats.reconcile(names, set(sizes), offsets.counts())
        self._reconcile_at_count = len(self._stats) + RECONCILE_EVERY

    def _seal(self) -> None:
        writer, self._writer = self._writer, None
        self._close(writer)

    def _close(self, writer: SegmentWriter | None) -> None:
        if writer is not None:
            if writer.dirty:
                self._unsynced.append(writer.path)
            writer.close()

    def _check_directory(self, now_s: float) -> None:
        self._check_again_s = now_s + CHECK_EVERY_S
        self._detect_removal()
        if self._version_file is None:
            self._make_directory()

    def _make_directory(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        reason_not_private = check_private(self._directory)
        if reason_not_private:
            self._log(
                logging.WARNING,
                f"open {self._directory}",
                "The spool may not be private: %s. Events wait there, and whoever may write can change them. "
                "Give the application a directory of its own (chmod 700).",
                reason_not_private,
            )
        path = self._directory / "VERSION"
        with contextlib.suppress(FileExistsError):
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_LINKS, 0o600)
            try:
                os.write(fd, VERSION)
            finally:
                os.close(fd)
        self._version_file = FileId.of_path(path)
        version = path.read_bytes().strip()
        if version.isdigit() and int(version) > int(VERSION):
            self._log(
                logging.WARNING,
                f"version {self._directory}",
                "%s was made by a later version of mixpanel-visitor (format %s, here %s). Both may share it, "
                "but this process delivers only what is in its own format.",
                self._directory,
                version.decode(),
                VERSION.decode().strip(),
            )

    def _detect_removal(self) -> None:
        """If the directory was deleted, prepare for a new one and log what is lost."""
        if self._version_file is None:
            return
        in_place = self._writer is None or self._writer.is_in_place()
        if in_place and self._version_file_is_in_place():
            return
        if not in_place:
            self._seal()
        self._version_file = None
        # The leader's own deletions are in acks.json, unless that was removed too.
        offsets = CommittedOffsets(self._directory / "acks.json", self._log)
        offsets.load()
        missing = [name for name in self._stats.names() if not (self._directory / name).exists()]
        lost = self._stats.mark_removed(missing, offsets.counts())
        if lost:
            self._log(
                logging.ERROR,
                f"removed {self._directory}",
                "The spool %s was removed while this process used it: up to %s lost. "
                "It is made anew. Nothing but mixpanel-visitor should delete files in it.",
                self._directory,
                several(lost, "record that waited there is", "records that waited there are"),
            )

    def _version_file_is_in_place(self) -> bool:
        try:
            return FileId.of_path(self._directory / "VERSION") == self._version_file
        except FileNotFoundError:
            return False
        except OSError:
            return True
