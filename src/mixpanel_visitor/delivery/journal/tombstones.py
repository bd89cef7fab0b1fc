"""OptOutTombstones: people who opted out while records of theirs wait, in small files in `withdrawn`.

Any process adds to the newest file, under its lock; the leader applies them. An entry has 16 bytes: until
when (milliseconds), and the first half of the digest of whom. A file goes when no record is left that is as
old as the newest of its entries. Files of older versions are empty, and have both in their name.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import struct
import time
from typing import TYPE_CHECKING

from mixpanel_visitor.delivery.subject_digest import owners

from .digest_table import DigestTable, mark_of
from .file_locks import fcntl
from .segments import NO_LINKS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

MAX_BYTES = 16 * 2**20
"""A million people may opt out while records wait that are as old; more are an attack, and refused."""

MAX_FILES = 10_000
FILE_PEOPLE = 1024
FILE_MS = 600_000
"""A file takes no more after so long, so that it can go when the records of that time have gone."""

SETTLED_NS = 1_000_000_000
_ENTRY = struct.Struct(">QQ")
_NAME = re.compile(r"([0-9]{16})-[0-9a-f]{8}\.log")
_OLD_NAME = re.compile(r"([0-9]{16})-([0-9a-f]{32})")
_MOST_FILE_BYTES = 2**20
"""Ours are smaller by far; of somebody else's no more is read."""


class OptOutTombstones:
    """The files of a directory; `revision` counts how often they were found changed."""

    def __init__(
        self,
        directory: Path,
        *,
        max_bytes: int = MAX_BYTES,
        max_files: int = MAX_FILES,
        file_people: int = FILE_PEOPLE,
    ) -> None:
        self.revision = 0
        self.newly_added: set[str] = set()
        self._directory = directory
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._file_people = file_people
        self._changed_ns = 0
        self._files: dict[str, tuple[int, int]] = {}
        self._newest_ms: dict[str, int] = {}
        self._until_ms = DigestTable()

    def __bool__(self) -> bool:
        return bool(self._until_ms)

    def add(self, people: Iterable[str], *, until_ms: int) -> None:
        """Withdraw what was put until `until_ms` of these people, given as digests; raises OSError."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        wanted = {mark_of(person): until_ms for person in people}
        names = filter(_NAME.fullmatch, os.listdir(self._directory))  # noqa: PTH208  # names are enough
        young = [name for name in names if int(name[:16]) <= until_ms < int(name[:16]) + FILE_MS]
        if young:
            with contextlib.suppress(OSError):  # it has gone, or is somebody else's: a new one will do
                wanted = self._write(max(young), wanted, os.O_RDWR)
        while wanted:
            self._check_room()
            wanted = self._write(
                f"{until_ms:016d}-{secrets.token_hex(4)}.log", wanted, os.O_RDWR | os.O_CREAT
            )
        # The leader looks at the directory only, which a change of a file in it does not change.
        os.utime(self._directory)

    def refresh(self) -> bool:
        """Read what was added; return whether there was anything."""
        status: dict[str, tuple[int, int]] = {}
        now_ns = time.time_ns()
        with contextlib.suppress(FileNotFoundError):
            changed_ns = self._directory.stat().st_mtime_ns
            # Two changes may have one stamp; so a fresh one says nothing. The clock is the file system's.
            if changed_ns == self._changed_ns and now_ns - changed_ns > SETTLED_NS:
                return False
            self._changed_ns = changed_ns
            status = self._status()
        newly_added: set[str] = set()
        for name, stamp in status.items():
            if self._files.get(name) == stamp and now_ns - stamp[0] > SETTLED_NS:
                continue
            entries = self._read(name)
            self._newest_ms[name] = max(entries.values(), default=-1)
            raised = (mark for mark, until_ms in entries.items() if self._until_ms.raise_to(mark, until_ms))
            newly_added |= {f"{mark:016x}" for mark in raised}
        self._files = status
        self._newest_ms = {name: self._newest_ms[name] for name in status}
        if newly_added:
            self.newly_added = newly_added
            self.revision += 1
        return bool(newly_added)

    def covers(self, body: bytes, put_ms: Callable[[], int | None]) -> bool:
        """Return whether a record is withdrawn; `put_ms` is only called where the time matters."""
        until_ms = self.latest_ms(owners(body))
        if until_ms < 0:
            return False
        time_ms = put_ms()
        return time_ms is not None and time_ms <= until_ms

    def latest_ms(self, people: Iterable[str]) -> int:
        """Return when the last of these people, given as digests, has opted out; -1: nobody has."""
        return max((self._until_ms.get(mark_of(person)) for person in people), default=-1)

    def prune(self, before_ms: int) -> None:
        """Forget those that end before the oldest record that is left."""
        for name, newest_ms in self._newest_ms.items():
            if newest_ms < before_ms:
                with contextlib.suppress(OSError):
                    self._remove(name, before_ms)
        self._until_ms.drop_below(before_ms)

    def _remove(self, name: str, before_ms: int) -> None:
        path = self._directory / name
        if _OLD_NAME.fullmatch(name):
            path.unlink()
            return
        with _locked(path, os.O_RDWR) as fd:
            # Somebody may have added to it since it was read.
            if fd is not None and max(_entries(_whole(fd)).values(), default=-1) < before_ms:
                path.unlink()

    def _check_room(self) -> None:
        status = self._status()
        if len(status) >= self._max_files or sum(size for _, size in status.values()) >= self._max_bytes:
            raise OSError(f"there are too many in {self._directory} already, and no more are taken")

    def _write(self, name: str, people: Mapping[int, int], flags: int) -> dict[int, int]:
        """Write those for whom there is room in this file; return the others."""
        remaining = dict(people)
        with _locked(self._directory / name, flags) as fd:
            if fd is None:
                return remaining
            data = _whole(fd)
            size = len(data) - len(data) % _ENTRY.size  # what was torn off is written over
            # Of a person only the last one says anything: who opts out again and again adds nothing.
            for position, (before_ms, mark) in enumerate(_ENTRY.iter_unpack(data[:size])):
                if mark in remaining:
                    entry = _ENTRY.pack(max(before_ms, remaining.pop(mark)), mark)
                    os.pwrite(fd, entry, position * _ENTRY.size)
            room = max(0, self._file_people - size // _ENTRY.size)
            new = list(remaining)[:room]
            taken = set(new)
            text = b"".join(_ENTRY.pack(remaining[mark], mark) for mark in new)
            if text and os.pwrite(fd, text, size) < len(text):
                raise OSError(f"{self._directory / name} could not be written to the end")
            return {mark: remaining[mark] for mark in remaining if mark not in taken}

    def _status(self) -> dict[str, tuple[int, int]]:
        status = {}
        with os.scandir(self._directory) as entries:
            for each in entries:
                named = _NAME.fullmatch(each.name) or _OLD_NAME.fullmatch(each.name)
                if named and each.is_file(follow_symlinks=False):
                    with contextlib.suppress(FileNotFoundError):
                        stat = each.stat(follow_symlinks=False)
                        status[each.name] = stat.st_mtime_ns, stat.st_size
        return status

    def _read(self, name: str) -> dict[int, int]:
        if old := _OLD_NAME.fullmatch(name):
            return {mark_of(old[2]): int(old[1])}
        try:
            fd = os.open(self._directory / name, os.O_RDONLY | NO_LINKS | os.O_NONBLOCK)
        except FileNotFoundError:
            return {}
        try:
            return _entries(_whole(fd))
        finally:
            os.close(fd)


@contextlib.contextmanager
def _locked(path: Path, flags: int) -> Iterator[int | None]:
    """Open a file and lock it; yield None where another process has it, or has just removed it."""
    fd = os.open(path, flags | NO_LINKS | os.O_NONBLOCK, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None  # it may be stopped for long; nobody waits for it
        else:
            yield fd if os.fstat(fd).st_nlink else None
    finally:
        os.close(fd)


def _whole(fd: int) -> bytes:
    return os.pread(fd, _MOST_FILE_BYTES, 0)


def _entries(data: bytes) -> dict[int, int]:
    entries: dict[int, int] = {}
    for until_ms, mark in _ENTRY.iter_unpack(data[: len(data) - len(data) % _ENTRY.size]):
        entries[mark] = max(until_ms, entries.get(mark, -1))
    return entries
