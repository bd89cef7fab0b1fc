"""LeaderLock: of all processes that share a directory, one at a time delivers their records."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING

from .directory import fix_for
from .file_locks import fcntl
from .segments import NO_LINKS, FileId, close_inherited, create_temporary

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mixpanel_visitor.observability.rate_limited_log import RateLimitedLog

TRY_EVERY_S = 1.0
RENEW_EVERY_S = 10.0
STALLED_AFTER_S = 300.0
"""A leader that has not touched its file for so long is stopped or stuck, though it holds its lock."""


class LeaderLock:
    """A lock on `leader.lock`, which the kernel frees when its holder dies: no lease, no wall clock.

    A leader touches the file. If it has not for five minutes, another process replaces the file and leads;
    the old leader notices before it claims again. Until then both may send the same records, which Mixpanel
    deduplicates. `term` counts how often this object has become leader.
    """

    def __init__(self, path: Path, *, monotonic: Callable[[], float], log: RateLimitedLog) -> None:
        self.term = 0
        self._path = path
        self._monotonic = monotonic
        self._log = log
        self._fd = -1
        self._file_id = FileId(0, 0)
        self._check_again_s = monotonic()
        self._renew_again_s = float("-inf")
        self._last_stamp: tuple[FileId, int] | None = None
        self._last_stamp_s = 0.0

    @property
    def held(self) -> bool:
        """True where this process led at its last check."""
        return self._fd >= 0

    def claim(self) -> bool:
        """Become leader if no process is, or remain it; check the disk at most once a second."""
        now_s = self._monotonic()
        if now_s < self._check_again_s:
            return self.held
        if not self.held and not os.path.isdir(self._path.parent):  # noqa: PTH112  # which never raises
            return False  # nothing was put yet; the first put must not wait for the next check
        self._check_again_s = now_s + TRY_EVERY_S
        if self.held:
            # The directory may have been removed, and another process may lead in the new one.
            if self._is_in_place():
                self.renew()
                return True
            self.release()
        try:
            self._try_to_lock()
            if not self.held and self._has_stalled(now_s):
                self._take_over()
        except OSError as error:
            message = "%s cannot be locked (%s): this process does not deliver what waits in the spool. %s"
            self._log(logging.WARNING, f"leader {self._path}", message, self._path, error, fix_for(error))
        return self.held

    def renew(self) -> None:
        """Show that the leader is well; touch the file at most every `RENEW_EVERY_S`."""
        now_s = self._monotonic()
        if self.held and now_s >= self._renew_again_s:
            self._renew_again_s = now_s + RENEW_EVERY_S
            with contextlib.suppress(OSError):
                os.utime(self._fd)

    def _has_stalled(self, now_s: float) -> bool:
        # By our own monotonic clock: the stamp must have changed, its value does not matter.
        status = self._path.stat()
        stamp = (FileId(status.st_dev, status.st_ino), status.st_mtime_ns)
        if stamp != self._last_stamp:
            self._last_stamp, self._last_stamp_s = stamp, now_s
        return now_s - self._last_stamp_s >= STALLED_AFTER_S

    def _take_over(self) -> None:
        fd, temporary = create_temporary(self._path)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._file_id = FileId.of_descriptor(fd)
            temporary.replace(self._path)
            self._fd, fd = fd, -1
            self.term += 1
        except BlockingIOError:
            pass
        finally:
            if fd >= 0:
                os.close(fd)
        if self.held:
            message = (
                "The process that delivers what waits in %s has been still for %.0f s (stopped, or its disk "
                "hangs): this one goes on in its place. See what holds it up."
            )
            self._log(logging.WARNING, f"stalled {self._path}", message, self._path.parent, STALLED_AFTER_S)

    def release(self) -> None:
        """Let another process lead."""
        fd, self._fd = self._fd, -1
        self._check_again_s = self._monotonic()
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)

    def close_inherited(self) -> None:
        """Close the copy that a forked child has inherited; the parent still leads."""
        fd, self._fd = self._fd, -1
        close_inherited(fd, self._file_id)

    def _try_to_lock(self) -> None:
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | NO_LINKS, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._file_id = FileId.of_descriptor(fd)
            # The file may have been removed and created anew before we locked it.
            if FileId.of_path(self._path) == self._file_id:
                self._fd, fd = fd, -1
                self.term += 1
        except (BlockingIOError, FileNotFoundError):
            pass
        finally:
            if fd >= 0:
                os.close(fd)

    def _is_in_place(self) -> bool:
        try:
            return FileId.of_path(self._path) == self._file_id
        except FileNotFoundError:
            return False
        except OSError:
            return True

    def __del__(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)
