"""Dead letters: records that Mixpanel has refused, with its reasons, as lines of JSON for people to read.

The leader adds to the newest file, and a command may take dead letters out of any. A process that changes a
file holds the lock on it, and then makes sure that it is still the file of that name, for taking out puts a
new one in its place.
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
"""The bound is spread over so many files, so that dropping the oldest drops little."""
_LOCK_ATTEMPTS = 100
_MARK_BYTES = 8
_STALE_S = 3600.0


class DeadLetters:
    """The files of dead letters in `directory`; the oldest file is dropped where they exceed `max_bytes`.

    Nothing stays open between calls. `dropped` counts dead letters that this object has dropped.
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
            # Somebody takes letters out of it, and may have been stopped meanwhile: do not wait for that.
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

        What is remembered of each file are eight bytes for each ID in it, so that only what was added since
        the last call is read.
        """
        subjects: dict[str, tuple[int, int, bytearray]] = {}
        for name, status in self._files().items():
            inode, seen_bytes, marks = self._subjects.get(name, (status.st_ino, 0, bytearray()))
            if inode != status.st_ino or status.st_size < seen_bytes:
                seen_bytes, marks = 0, bytearray()
            if status.st_size > seen_bytes:
                with contextlib.suppress(FileNotFoundError), (self._directory / name).open("rb") as file:
                    file.seek(seen_bytes)
                    for line in file:
                        if line.endswith(b"\n"):
                            seen_bytes += len(line)
                            dead_letter = decode(line)
                            for owner in owners(dead_letter.body) if dead_letter else ():
                                marks += bytes.fromhex(owner)[:_MARK_BYTES]
            subjects[name] = (status.st_ino, seen_bytes, marks)
        self._subjects = subjects
        sought = {bytes.fromhex(person)[:_MARK_BYTES] for person in people}
        return any(
            marks[at : at + _MARK_BYTES] in sought
            for marks in (bytes(marks) for _, _, marks in subjects.values())
            for at in range(0, len(marks), _MARK_BYTES)
        )

    def take(
        self,
        ids: Container[str],
        on_batch: Callable[[Sequence[DeadLetter]], None] | None = None,
        *,
        unreadable: bool = False,
    ) -> Iterator[int]:
        """Remove the dead letters with these IDs, file by file; yield how many were removed from each.

        `on_batch` gets them first, some at a time; what it raises ends the work, and those that it did not
        return from stay. A process that dies in between leaves some that `on_batch` has got, and loses none.
        With `unreadable`, lines that are no letters go too, uncounted.
        """
        for name in sorted(self._files()):
            taken = self._take(self._directory / name, ids, on_batch, unreadable=unreadable)
            if taken:
                yield taken

    def count(self) -> int:
        """Return how many dead letters there are; reads only what was added since the last call."""
        with self._lock:
            counted: dict[str, tuple[int, int, int]] = {}
            for name, status in self._files().items():
                size, inode = status.st_size, status.st_ino
                seen_inode, seen_bytes, lines = self._line_counts.get(name, (inode, 0, 0))
                if size < seen_bytes or inode != seen_inode:
                    seen_bytes = lines = 0
                with contextlib.suppress(FileNotFoundError):
                    if size > seen_bytes:
                        with (self._directory / name).open("rb") as file:
                            file.seek(seen_bytes)
                            data = file.read(size - seen_bytes)
                        lines += data.count(b"\n")
                        seen_bytes += len(data)
                    counted[name] = (inode, seen_bytes, lines)
            self._line_counts = counted
            return sum(lines for _, _, lines in counted.values())

    def _new_name(self, names: Sequence[str]) -> str:
        # Later than the newest, whatever the clock says: the order of names is the order of writing.
        newest_ms = int(names[-1].partition("-")[0]) if names else -1
        stamp_ms = max(int(self._clock() * 1000), newest_ms + 1, 0)
        return f"{stamp_ms:016d}-{os.urandom(4).hex()}{SUFFIX}"

    def _append(self, name: str, data: bytes) -> None:
        path = self._directory / name
        fd = _open_locked(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, wait=False)
        try:
            size = os.fstat(fd).st_size
            if size and os.pread(fd, 1, size - 1) != b"\n":
                data = b"\n" + data  # a process died while it wrote: only its own line is lost
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
            return 0  # dropped by the bound, or by another who takes letters out
        try:
            lines = io.BytesIO(path.read_bytes()).readlines()  # splitlines would split at \r too
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
                rest = list(_remaining_lines(dead_letters, chosen[:removed], unreadable=unreadable))
                if len(rest) < len(lines):
                    _replace(path, b"".join(rest))
            return removed
        finally:
            os.close(fd)

    def _drop_oldest(self) -> None:
        for leftover in self._directory.glob("*.tmp"):
            with contextlib.suppress(OSError):
                if time.time() - leftover.stat().st_mtime > _STALE_S:
                    leftover.unlink()
        sizes = {name: status.st_size for name, status in self._files().items()}
        total = sum(sizes.values())
        for name in sorted(sizes)[:-1]:
            if total <= self._max_bytes:
                return
            path = self._directory / name
            try:
                fd = _open_locked(path, os.O_RDWR, wait=False)
                try:
                    lines = path.read_bytes().count(b"\n")
                    path.unlink()
                finally:
                    os.close(fd)
            except BlockingIOError:
                return  # somebody takes letters out of it: then it gets smaller anyway
            except OSError as error:
                self._log(logging.WARNING, f"bound {path}", "%s cannot be deleted (%s).", path, error)
                return
            total -= sizes[name]
            self.dropped += lines
            self._log(
                logging.WARNING,
                f"dropped {self._directory}",
                "The dead letters in %s have reached their bound of %d bytes: the oldest %s dropped. "
                "See why Mixpanel refuses so many.",
                self._directory,
                self._max_bytes,
                several(lines, "letter was", "letters were"),
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
            # Between our open and our lock it may have been replaced: what is written there, nobody reads.
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
    """Yield the lines that stay; a last one that was never finished stays unfinished."""
    remaining = iter(removed)
    following = next(remaining, None)
    for line, dead_letter in dead_letters:
        if dead_letter is None:
            if not unreadable:
                yield line
        elif dead_letter is following:
            following = next(remaining, None)
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
        # Without this, a power failure could leave the name on a file that is empty.
        sync_path(temporary)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
