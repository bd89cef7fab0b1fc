"""OptOutTombstones: people who opted out while records of theirs wait, in small files in `withdrawn`.

Any process adds to the newest file, under its lock; the leader applies them. An entry has 16 bytes: a time
in milliseconds, and the first half of the digest of the person whose records until then are withdrawn. A file
is deleted once all records are younger than its newest entry. Older versions put the entry into its name.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import struct
import time
from itertools import islice
from typing import TYPE_CHECKING

from mixpanel_visitor.delivery.subject_digest import owners

from .digest_table import DigestTable, prefix_of
from .file_locks import fcntl
from .segments import NO_LINKS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

MAX_BYTES = 16 * 2**20
"""Room for a million people who opt out while records of theirs wait; more are an attack, and refused."""

MAX_FILES = 10_000
FILE_PEOPLE = 1024
FILE_MS = 600_000
"""The time for which a file takes entries, so that it can be deleted with the records of that time."""

FRESH_NS = 1_000_000_000
_ENTRY = struct.Struct(">QQ")
_NAME = re.compile(r"([0-9]{16})-[0-9a-f]{8}\.log")
_OLD_NAME = re.compile(r"([0-9]{16})-([0-9a-f]{32})")
_MAX_FILE_BYTES = 2**20
"""Our files are far smaller; of a foreign file no more is read."""


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
        self._directory_changed_ns = 0
        self._files: dict[str, tuple[int, int]] = {}
        self._newest_ms: dict[str, int] = {}
        self._until_ms = DigestTable()

    def __bool__(self) -> bool:
        return bool(self._until_ms)

    def add(self, people: Iterable[str], *, until_ms: int) -> None:
        """Withdraw what was put until `until_ms` of these people, given as digests; raise OSError."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        unwritten = {prefix_of(person): until_ms for person in people}
        names = filter(_NAME.fullmatch, os.listdir(self._directory))  # noqa: PTH208  # names are enough
        recent_names = [name for name in names if int(name[:16]) <= until_ms < int(name[:16]) + FILE_MS]
        if recent_names:
            with contextlib.suppress(OSError):  # it is deleted, or another user's: a new one will do
                unwritten = self._write(max(recent_names), unwritten, os.O_RDWR)
        while unwritten:
            self._check_room()
            unwritten = self._write(
                f"{until_ms:016d}-{secrets.token_hex(4)}.log", unwritten, os.O_RDWR | os.O_CREAT
            )
        # The leader checks the directory's time, which a change of a file in it does not set.
        os.utime(self._directory)

    def refresh(self) -> bool:
        """Read what was added; return whether there was anything."""
        stamps: dict[str, tuple[int, int]] = {}
        now_ns = time.time_ns()
        with contextlib.suppress(FileNotFoundError):
            changed_ns = self._directory.stat().st_mtime_ns
            # Two changes may have the same time, so a fresh one proves nothing. Both clocks are the system's.
            if changed_ns == self._directory_changed_ns and now_ns - changed_ns > FRESH_NS:
                return False
            self._directory_changed_ns = changed_ns
            stamps = self._stamps()
        newly_added: set[str] = set()
        for name, stamp in stamps.items():
            if self._files.get(name) == stamp and now_ns - stamp[0] > FRESH_NS:
                continue
            entries = self._read(name)
            self._newest_ms[name] = max(entries.values(), default=-1)
            raised = (
                prefix for prefix, time_ms in entries.items() if self._until_ms.raise_to(prefix, time_ms)
            )
            newly_added |= {f"{prefix:016x}" for prefix in raised}
        self._files = stamps
        self._newest_ms = {name: self._newest_ms[name] for name in stamps}
        if newly_added:
            self.newly_added = newly_added
            self.revision += 1
        return bool(newly_added)

    def covers(self, body: bytes, read_put_ms: Callable[[], int | None]) -> bool:
        """Return whether a record is withdrawn; `read_put_ms` is called only where the time matters."""
        until_ms = self.latest_ms(owners(body))
        if until_ms < 0:
            return False
        time_ms = read_put_ms()
        return time_ms is not None and time_ms <= until_ms

    def latest_ms(self, people: Iterable[str]) -> int:
        """Return when the last of these people, given as digests, has opted out; -1: nobody has."""
        return max((self._until_ms.get(prefix_of(person)) for person in people), default=-1)

    def prune(self, before_ms: int) -> None:
        """Forget entries whose time is before that of the oldest record, `before_ms`."""
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
            # Another process may have added to it since it was read.
            if fd is not None and max(_decode(_contents(fd)).values(), default=-1) < before_ms:
                path.unlink()

    def _check_room(self) -> None:
        stamps = self._stamps()
        if len(stamps) >= self._max_files or sum(size for _, size in stamps.values()) >= self._max_bytes:
            raise OSError(f"there are too many in {self._directory} already, and no more are taken")

    def _write(self, name: str, people: Mapping[int, int], flags: int) -> dict[int, int]:
        """Write as many as there is room for in this file; return the others."""
        remaining = dict(people)
        with _locked(self._directory / name, flags) as fd:
            if fd is None:
                return remaining
            data = _contents(fd)
            size = len(data) - len(data) % _ENTRY.size  # an incomplete entry is overwritten
            # Of each person only the last entry counts: opting out again adds none.
            for position, (before_ms, prefix) in enumerate(_ENTRY.iter_unpack(data[:size])):
                if prefix in remaining:
                    entry = _ENTRY.pack(max(before_ms, remaining.pop(prefix)), prefix)
                    os.pwrite(fd, entry, position * _ENTRY.size)
            room = max(0, self._file_people - size // _ENTRY.size)
            added = [_ENTRY.pack(until_ms, prefix) for prefix, until_ms in islice(remaining.items(), room)]
            if added and os.pwrite(fd, b"".join(added), size) < len(added) * _ENTRY.size:
                raise OSError(f"{self._directory / name} could not be written to the end")
            return dict(islice(remaining.items(), room, None))

    def _stamps(self) -> dict[str, tuple[int, int]]:
        stamps = {}
        with os.scandir(self._directory) as entries:
            for entry in entries:
                is_tombstones = _NAME.fullmatch(entry.name) or _OLD_NAME.fullmatch(entry.name)
                if is_tombstones and entry.is_file(follow_symlinks=False):
                    with contextlib.suppress(FileNotFoundError):
                        stat = entry.stat(follow_symlinks=False)
                        stamps[entry.name] = stat.st_mtime_ns, stat.st_size
        return stamps

    def _read(self, name: str) -> dict[int, int]:
        if old_name := _OLD_NAME.fullmatch(name):
            return {prefix_of(old_name[2]): int(old_name[1])}
        try:
            fd = os.open(self._directory / name, os.O_RDONLY | NO_LINKS | os.O_NONBLOCK)
        except FileNotFoundError:
            return {}
        try:
            return _decode(_contents(fd))
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
            yield None  # that process may be stopped: do not wait for it
        else:
            yield fd if os.fstat(fd).st_nlink else None
    finally:
        os.close(fd)


def _contents(fd: int) -> bytes:
    return os.pread(fd, _MAX_FILE_BYTES, 0)


def _decode(data: bytes) -> dict[int, int]:
    entries: dict[int, int] = {}
    for until_ms, prefix in _ENTRY.iter_unpack(data[: len(data) - len(data) % _ENTRY.size]):
        entries[prefix] = max(until_ms, entries.get(prefix, -1))
    return entries
