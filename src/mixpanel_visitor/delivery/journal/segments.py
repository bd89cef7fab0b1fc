"""Segment: a file of frames, written by one process and never reused.

Its writer holds a lock on it while it lives; the kernel releases the lock however the process ends.
A free lock therefore means that nothing will be added.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

from .file_locks import fcntl

SUFFIX = ".seg"
TEMPORARY_SUFFIX = ".tmp"


class FileId(NamedTuple):
    """Device and inode: which file it is, whatever its name or descriptor."""

    device: int
    inode: int

    @classmethod
    def of_descriptor(cls, fd: int) -> FileId:
        """Return the identity of an open file."""
        status = os.fstat(fd)
        return cls(status.st_dev, status.st_ino)

    @classmethod
    def of_path(cls, path: Path) -> FileId:
        """Return the identity of the file that has this name now."""
        status = path.stat()
        return cls(status.st_dev, status.st_ino)


NO_LINKS = getattr(os, "O_NOFOLLOW", 0)
"""A flag of `open`: where a file is created, no symbolic link in its place is followed."""


def create_temporary(path: Path) -> tuple[int, Path]:
    """Create a file beside `path` that is to replace it; its name cannot be predicted."""
    temporary = path.with_name(f"{path.name}-{os.urandom(6).hex()}{TEMPORARY_SUFFIX}")
    return os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | NO_LINKS, 0o600), temporary


class SegmentWriter:
    """The writing end of a segment, open and locked; `size` is in bytes, `opened_s` in monotonic time."""

    def __init__(self, path: Path, *, opened_s: float) -> None:
        """Create the segment; raise OSError if that cannot be done.

        The file gets its name once it is locked: no process sees a living writer's segment unlocked.
        """
        self.path = path
        self.opened_s = opened_s
        self.size = 0
        self.dirty = False
        self._fd = -1
        temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
        self._fd = os.open(temporary, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | NO_LINKS, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._file_id = FileId.of_descriptor(self._fd)
            temporary.rename(path)
        except BaseException:
            self.close()
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise

    def append(self, frames: bytes) -> None:
        """Append `frames` with one write, or nothing and raise OSError: then write here no more."""
        write_whole(self._fd, frames, size=self.size, path=self.path)
        self.size += len(frames)
        self.dirty = True

    def is_in_place(self) -> bool:
        """Return whether the file still has its name; a failure to find out counts as yes."""
        try:
            return FileId.of_path(self.path) == self._file_id == FileId.of_descriptor(self._fd)
        except FileNotFoundError:
            return False
        except OSError as error:
            return error.errno not in (errno.ENOTDIR, errno.EBADF)

    def close(self) -> None:
        """Close the file and release its lock; delete a file in which nothing was ever written."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            if not self.size:
                with contextlib.suppress(OSError):
                    self.path.unlink()
            with contextlib.suppress(OSError):
                os.close(fd)

    def close_inherited(self) -> None:
        """Close the copy that a forked child has inherited; file and lock are the parent's."""
        fd, self._fd = self._fd, -1
        close_inherited(fd, self._file_id)

    def __del__(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                os.close(fd)


def close_inherited(fd: int, file_id: FileId) -> None:
    """Close a descriptor inherited over a fork, unless its number stands for another file now.

    It never unlocks: the lock belongs to the open file, which is the parent's too.
    """
    with contextlib.suppress(OSError):
        if fd >= 0 and FileId.of_descriptor(fd) == file_id:
            os.close(fd)


def new_writer_id() -> str:
    """Return a new ID of this process, for the names of its segments."""
    return f"{_boot_id()}-{os.getpid()}-{os.urandom(4).hex()}"


def segment_name(*, time_ms: int, writer_id: str, sequence: int) -> str:
    """Return a name that no other segment has; names sort by age."""
    return f"{max(time_ms, 0):016d}-{writer_id}-{sequence:06d}{SUFFIX}"


def writer_id_of(name: str) -> str:
    """Return the ID of the process that has written a segment.

    >>> writer_id_of("0001763934567890-6f1c2d3e-4711-0a1b2c3d-000001.seg")
    '6f1c2d3e-4711-0a1b2c3d'
    """
    return "-".join(name.split("-")[1:4])


@cache
def _boot_id() -> str:
    # Shows people who look into the directory which segments are older than the last boot.
    try:
        # As bytes: while the interpreter ends, text files cannot be opened.
        return Path("/proc/sys/kernel/random/boot_id").read_bytes()[:8].decode()
    except OSError:
        return "00000000"


def list_segments(directory: Path) -> tuple[dict[str, int], list[str]]:
    """Return names and sizes of all segments, and names of temporary files; none for a missing directory."""
    sizes: dict[str, int] = {}
    temporaries: list[str] = []
    with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.endswith(SUFFIX):
                # Regular files only: a link may lead anywhere, and a pipe blocks its reader.
                with contextlib.suppress(FileNotFoundError):
                    if not entry.is_file(follow_symlinks=False):
                        continue
                    sizes[entry.name] = entry.stat(follow_symlinks=False).st_size
            elif entry.name.endswith(TEMPORARY_SUFFIX):
                temporaries.append(entry.name)
    return sizes, temporaries


def is_unlocked(path: Path) -> bool:
    """Return whether no process holds the lock on this file."""
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def write_whole(fd: int, data: bytes, *, size: int, path: Path) -> None:
    """Append all of `data` with one write, or restore the file to its `size` and raise OSError."""
    written = -1
    try:
        written = os.write(fd, data)
    finally:
        if written != len(data):
            with contextlib.suppress(OSError):
                os.ftruncate(fd, size)
    if written != len(data):
        # A nearly full disk writes a part without an error; the next write would get it.
        message = f"{os.strerror(errno.ENOSPC)}: only {written} of {len(data)} bytes were written"
        raise OSError(errno.ENOSPC, message, str(path))


def sync_path(path: Path) -> None:
    """Make a file, or the names in a directory, survive a power failure; raise OSError if that fails.

    It opens its own descriptor, so that the writer's lock need not be held while the disk works.
    """
    fd = os.open(path, os.O_RDONLY)
    try:
        if sys.platform == "darwin":
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)  # on macOS fsync leaves it in the drive's cache
        elif path.is_dir():
            os.fsync(fd)
        else:
            os.fdatasync(fd)
    finally:
        os.close(fd)
