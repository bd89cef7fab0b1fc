"""Parts: clock, chance and the collaborators of a tracker; tests and embedders replace some of them."""

from __future__ import annotations

import mmap
import os
import sys
import time
import uuid
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .delivery.mixpanel_api import Answer
    from .delivery.spool import Spool
    from .records import Endpoint


def _sleep(seconds: float) -> None:
    time.sleep(seconds)  # looked up at the call: gevent may replace it after this module was imported


def _fresh_id() -> str:
    return str(uuid.uuid4())


_MADV_WIPEONFORK = 18
"""Of Linux 4.14 (madvise(2)): a forked child finds zeros in such a page, by whatever code it was forked."""


class Birthmark(Protocol):
    """Its first item is 1 in the process that made it, and 0 in a child forked from that."""

    def __getitem__(self, index: int, /) -> int:
        """Tell which of the two this is; 0 is asked for."""
        ...


def birthmark() -> Birthmark:
    """Make one for this process."""
    if sys.platform == "linux":
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        try:
            page.madvise(_MADV_WIPEONFORK)
        except (OSError, ValueError):
            page.close()  # an older kernel
        else:
            page[0] = 1
            return page
    return _ProcessId()


class _ProcessId:
    """A birthmark where there are no such pages: a system call for each look at it."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    def __getitem__(self, _index: int, /) -> int:
        return int(self._pid == os.getpid())


class InsertIds:
    """Gives `$insert_id`s: 16 hex digits of this process, drawn once, and 16 that count up.

    Drawing each one anew costs a system call, and so does asking for the process's ID.
    """

    _state: tuple[Birthmark, Iterator[str]]

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> Iterator[str]:
        numbers = count(int.from_bytes(os.urandom(7)))
        ids = map(f"{os.urandom(8).hex()}%016x".__mod__, numbers)
        # In one go, for threads may come here together; and the mark of the parent's stays as it is.
        self._state = (birthmark(), ids)
        return ids

    def __call__(self) -> str:
        """Give the next one; a forked child draws its own."""
        mark, ids = self._state
        if not mark[0]:
            ids = self._begin()
        return next(ids)


_insert_id = InsertIds().__call__  # bound: an instance is called more slowly


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a tracker is built from besides its settings; tests and embedders replace some of it."""

    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    wait: Callable[[float], None] = _sleep
    fresh_id: Callable[[], str] = _fresh_id
    insert_id: Callable[[], str] = _insert_id
    spool: Spool | None = None
    post: Callable[[Endpoint, Sequence[bytes]], Answer] | None = None
