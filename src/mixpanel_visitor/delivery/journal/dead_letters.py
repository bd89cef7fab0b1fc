"""Dead letters: records that Mixpanel has refused, with its reasons, as lines of JSON for people to read.

The leader adds to the newest file, and a command may take dead letters out of any. A process that changes a
file locks it, and then checks that the name still stands for this file: taking dead letters out replaces it.
"""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mixpanel_visitor.delivery.dead_letter import BATCH_SIZE, DeadLetter, decode, encode
from mixpanel_visitor.delivery.subject_digest import owners
from mixpanel_visitor.observability.rate_limited_log import RateLimitedLog
from mixpanel_visitor.quoting import several

from .file_locks import fcntl
from .segments import NO_LINKS, FileId, create_temporary, sync_path, write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Sequence

SUFFIX = ".jsonl"
MAX_BYTES = 64 * 2**20
FILES = 8
"""The number of files that share the bound: the more, the less is dropped with the oldest."""
_LOCK_ATTEMPTS = 100
_PREFIX_BYTES = 8
_STALE_S = 3600.0


class DeadLetters:
    """The files of dead letters in `directory`; the oldest file is dropped where they exceed `max_bytes`.

    Nothing stays open between calls. `dropped` counts the dead letters that this object has dropped.
    """

    def __init__(
        self,
        directory: Path | str,
        *,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.time,
        log: RateLimitedLog | None = None,
    ) -> None:
        self.dropped = 0
        self._directory = Path(directory)
        self._max_bytes = max_bytes
        self._clock = clock
        self._log = log or RateLimitedLog()
        self._lock = threading.Lock()
        self._line_counts: dict[str, tuple[int, int, int]] = {}
        self._subjects: dict[str, tuple[int, int, bytearray]] = {}

    def add(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Write all of `dead_letters` with one write, or none and raise OSError."""
        if not dead_letters:
            return
        data = b"".join(map(encode, dead_letters))
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        files = self._files()
        names = sorted(files)
        try:
            if not names or files[names[-1]].st_size + len(data) > self._max_bytes // FILES:
                self._append(self._new_name(names), data)
            else:
                self._append(names[-1], data)
        except BlockingIOError:
            # Another process takes dead letters out of it, and may be stopped meanwhile: do not wait.
            self._append(self._new_name(names), data)
        self._drop_oldest()

    def entries(self) -> Iterator[DeadLetter]:
        """Yield all dead letters, oldest first; lines that cannot be read are left out."""
        for name in sorted(self._files()):
            with contextlib.suppress(FileNotFoundError), (self._directory / name).open("rb") as file:
                for line in file:
                    dead_letter = decode(line)
                    if dead_letter is not None:
                        yield dead_letter

    def may_be_of(self, people: Iterable[str]) -> bool:
        """Return whether a dead letter may be of one of these people, given as (halves of) digests.

        Only what was added since the last call is read: of each file, the first eight bytes of each digest
        are kept in memory.
        """
        subjects: dict[str, tuple[int, int, bytearray]] = {}
        for name, status in self._files().items():
            inode, read_bytes, prefixes = self._subjects.get(name, (status.st_ino, 0, bytearray()))
            if inode != status.st_ino or status.st_size < read_bytes:
                read_bytes, prefixes = 0, bytearray()
            if status.st_size > read_bytes:
                with contextlib.suppress(FileNotFoundError), (self._directory / name).open("rb") as file:
                    file.seek(read_bytes)
                    for line in file:
                        if line.endswith(b"\n"):
                            read_bytes += len(line)
                            dead_letter = decode(line)
                            for owner in owners(dead_letter.body) if dead_letter else ():
                                prefixes += bytes.fromhex(owner)[:_PREFIX_BYTES]
            subjects[name] = (status.st_ino, read_bytes, prefixes)
        self._subjects = subjects
        searched = {bytes.fromhex(person)[:_PREFIX_BYTES] for person in people}
        return any(
            prefixes[start : start + _PREFIX_BYTES] in searched
            for prefixes in (bytes(prefixes) for _, _, prefixes in subjects.values())
            for start in range(0, len(prefixes), _PREFIX_BYTES)
        )

    def take(
        self,
        ids: Container[str],
        on_batch: Callable[[Sequence[DeadLetter]], None] | None = None,
        *,
        unreadable: bool = False,
    ) -> Iterator[int]:
        """Remove the dead letters with these IDs, file by file; yield how many were removed from each.

        `on_batch` is called with them first, in batches. If it raises, the work ends and this batch stays.
        If the process dies, some that `on_batch` has returned for may stay, but none is lost.
        With `unreadable`, lines that are no dead letters are removed too, and not counted.
        """
        for name in sorted(self._files()):
            removed = self._take(self._directory / name, ids, on_batch, unreadable=unreadable)
            if removed:
                yield removed

    def count(self) -> int:
        """Return how many dead letters there are; reads only what was added since the last call."""
        with self._lock:
            line_counts: dict[str, tuple[int, int, int]] = {}
            for name, status in self._files().items():
                size, inode = status.st_size, status.st_ino
                counted_inode, read_bytes, lines = self._line_counts.get(name, (inode, 0, 0))
                if size < read_bytes or inode != counted_inode:
                    read_bytes = lines = 0
                with contextlib.suppress(FileNotFoundError):
                    if size > read_bytes:
                        with (self._directory / name).open("rb") as file:
                            file.seek(read_bytes)
                            data = file.read(size - read_bytes)
                        lines += data.count(b"\n")
                        read_bytes += len(data)
                    line_counts[name] = (inode, read_bytes, lines)
            self._line_counts = line_counts
            return sum(lines for _, _, lines in line_counts.values())

    def _new_name(self, names: Sequence[str]) -> str:
        # Later than the newest, even if the clock was set back: names sort in the order of writing.
        newest_ms = int(names[-1].partition("-")[0]) if names else -1
        stamp_ms = max(int(self._clock() * 1000), newest_ms + 1, 0)
        return f"{stamp_ms:016d}-{os.urandom(4).hex()}{SUFFIX}"

    def _append(self, name: str, data: bytes) -> None:
        path = self._directory / name
        fd = _open_locked(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, wait=False)
        try:
            size = os.fstat(fd).st_size
            if size and os.pread(fd, 1, size - 1) != b"\n":
                data = b"\n" + data  # a process died while it wrote: only its line is lost
            write_whole(fd, data, size=size, path=path)
        finally:
            os.close(fd)

    def _take(
        self,
        path: Path,
        ids: Container[str],
        on_batch: Callable[[Sequence[DeadLetter]], None] | None,
        *,
        unreadable: bool,
    ) -> int:
        try:
            fd = _open_locked(path, os.O_RDWR, wait=True)
        except FileNotFoundError:
            return 0  # dropped, or emptied by another process
        try:
            lines = io.BytesIO(path.read_bytes()).readlines()  # splitlines() would split at \r too
            dead_letters = [(line, decode(line)) for line in lines]
            chosen = [
                dead_letter
                for _, dead_letter in dead_letters
                if dead_letter is not None and dead_letter.id in ids
            ]
            removed = 0
            try:
                for start in range(0, len(chosen), BATCH_SIZE):
                    batch = chosen[start : start + BATCH_SIZE]
                    if on_batch is not None:
                        on_batch(batch)
                    removed += len(batch)
            finally:
                remaining = list(_remaining_lines(dead_letters, chosen[:removed], unreadable=unreadable))
                if len(remaining) < len(lines):
                    _replace(path, b"".join(remaining))
            return removed
        finally:
            os.close(fd)

    def _drop_oldest(self) -> None:
        for temporary in self._directory.glob("*.tmp"):
            with contextlib.suppress(OSError):
                if time.time() - temporary.stat().st_mtime > _STALE_S:
                    temporary.unlink()
        sizes = {name: status.st_size for name, status in self._files().items()}
        total_bytes = sum(sizes.values())
        for name in sorted(sizes)[:-1]:
            if total_bytes <= self._max_bytes:
                return
            path = self._directory / name
            try:
                fd = _open_locked(path, os.O_RDWR, wait=False)
                try:
                    line_count = path.read_bytes().count(b"\n")
                    path.unlink()
                finally:
                    os.close(fd)
            except BlockingIOError:
                return  # another process takes dead letters out of it, which makes it smaller
            except OSError as error:
                self._log(logging.WARNING, f"bound {path}", "%s cannot be deleted (%s).", path, error)
                return
            total_bytes -= sizes[name]
            self.dropped += line_count
            self._log(
                logging.WARNING,
                f"dropped {self._directory}",
                "The dead letters in %s have reached their bound of %d bytes: the oldest %s dropped. "
                "See why Mixpanel refuses so many.",
                self._directory,
                self._max_bytes,
                several(line_count, "letter was", "letters were"),
            )

    def _files(self) -> dict[str, os.stat_result]:
        files: dict[str, os.stat_result] = {}
        with contextlib.suppress(FileNotFoundError), os.scandir(self._directory) as entries:
            for entry in entries:
                if (
                    entry.name.endswith(SUFFIX)
                    and entry.is_file(follow_symlinks=False)
                    and entry.name.partition("-")[0].isdecimal()
                ):
                    with contextlib.suppress(FileNotFoundError):
                        files[entry.name] = entry.stat(follow_symlinks=False)
        return files


def _open_locked(path: Path, flags: int, *, wait: bool) -> int:
    """Open and lock the file that has this name; raise BlockingIOError where another holds the lock."""
    for _ in range(_LOCK_ATTEMPTS):
        fd = os.open(path, flags | NO_LINKS, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            # It may have been replaced before we locked it: then nobody reads what is written there.
            if _is_in_place(fd, path):
                locked, fd = fd, -1
                return locked
        finally:
            if fd >= 0:
                os.close(fd)
    raise BlockingIOError(errno.EAGAIN, "it is replaced again and again", str(path))


def _is_in_place(fd: int, path: Path) -> bool:
    try:
        return FileId.of_path(path) == FileId.of_descriptor(fd)
    except FileNotFoundError:
        return False


def _remaining_lines(
    dead_letters: Sequence[tuple[bytes, DeadLetter | None]],
    removed: Sequence[DeadLetter],
    *,
    unreadable: bool,
) -> Iterator[bytes]:
    """Yield the lines that stay, an incomplete last line as it is."""
    removed_iterator = iter(removed)
    next_removed = next(removed_iterator, None)
    for line, dead_letter in dead_letters:
        if dead_letter is None:
            if not unreadable:
                yield line
        elif dead_letter is next_removed:
            next_removed = next(removed_iterator, None)
        else:
            yield line


def _replace(path: Path, data: bytes) -> None:
    """Replace the contents of the file, atomically and durably; without any, delete it."""
    if not data:
        path.unlink()
        return
    fd, temporary = create_temporary(path)
    try:
        with open(fd, "wb") as file:  # noqa: PTH123  # a Path cannot be opened with a mode of its own
            file.write(data)
        # Otherwise a power failure could leave an empty file under this name.
        sync_path(temporary)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
