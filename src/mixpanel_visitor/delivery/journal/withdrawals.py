"""Withdrawals: people who have opted out while records of theirs wait; an empty file for each in `withdrawn`.

Any process adds one, the leader heeds it: the name says until when, and of whom the digest is. It goes when
no record is left that is so old.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from typing import TYPE_CHECKING

from mixpanel_visitor.delivery.journal.segments import NO_LINKS
from mixpanel_visitor.delivery.whose import owners

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

MAX_FILES = 10_000
"""So many people may opt out while records wait that are as old; more are an attack, and not heeded."""

SETTLED_NS = 1_000_000_000
_NAME = re.compile(r"([0-9]{16})-([0-9a-f]{32})")


class Withdrawals:
    """The files of a directory; `revision` counts how often they were found changed, `news` has the last."""

    def __init__(self, directory: Path) -> None:
        self.revision = 0
        self._directory = directory
        self._changed_ns = 0
        self._names: frozenset[str] = frozenset()
        self._until_ms: dict[str, int] = {}
        self.news: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._until_ms)

    def add(self, people: Iterable[str], *, until_ms: int) -> None:
        """Withdraw what was put until then of these people, given as digests; raises OSError."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if len(os.listdir(self._directory)) >= MAX_FILES:  # noqa: PTH208  # names are enough
            raise OSError(f"there are {MAX_FILES:,} in {self._directory} already, and no more are taken")
        for person in people:
            os.close(
                os.open(
                    self._directory / f"{until_ms:016d}-{person}", os.O_WRONLY | os.O_CREAT | NO_LINKS, 0o600
                )
            )

    def refresh(self) -> bool:
        """See what was added; True: there is something new."""
        names: frozenset[str] = frozenset()
        with contextlib.suppress(FileNotFoundError):
            changed_ns = self._directory.stat().st_mtime_ns
            # Two changes may have one stamp; so a fresh one says nothing. The clock is the file system's.
            if changed_ns == self._changed_ns and time.time_ns() - changed_ns > SETTLED_NS:
                return False
            self._changed_ns = changed_ns
            names = frozenset(os.listdir(self._directory))  # noqa: PTH208
        if names == self._names:
            return False
        added = bool(new := names - self._names)
        self.news = {match[2] for name in new if (match := _NAME.fullmatch(name))}
        self._names = names
        self._until_ms = {}
        for name in names:
            match = _NAME.fullmatch(name)
            if match is not None:
                self._until_ms[match[2]] = max(int(match[1]), self._until_ms.get(match[2], 0))
        # Of a person's several only the last one says anything.
        self._remove(lambda until_ms, person: until_ms < self._until_ms[person])
        self.revision += added
        return added

    def covers(self, body: bytes, put_ms: Callable[[], int | None]) -> bool:
        """Whether a record that was put then is withdrawn; the time is only asked for where it matters."""
        until_ms = max((self._until_ms.get(owner, -1) for owner in owners(body)), default=-1)
        if until_ms < 0:
            return False
        time_ms = put_ms()
        return time_ms is not None and time_ms <= until_ms

    def prune(self, before_ms: int) -> None:
        """Forget those that end before the oldest record that is left."""
        self._remove(lambda until_ms, _person: until_ms < before_ms)

    def _remove(self, is_over: Callable[[int, str], bool]) -> None:
        for name in self._names:
            match = _NAME.fullmatch(name)
            if match is not None and is_over(int(match[1]), match[2]):
                with contextlib.suppress(OSError):
                    (self._directory / name).unlink()
