"""Committer: writes what finished requests have queued, in a thread of its own, many requests at a time.

An event loop must not wait for a disk, so ASGI hands its records over here. Nothing depends on the thread:
until it has proven that it runs (uWSGI without threads starts some that never do), when it cannot be
started, and when it falls behind, `submit` commits in the calling thread instead.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from mixpanel_visitor.records import Record

MAX_WAITING = 1000
"""So many requests' records may wait for the thread before the caller commits its own."""


class Committer:
    """Calls `commit(records)` soon, in order, from one thread; `commit` must not raise."""

    def __init__(self, commit: Callable[[list[Record]], None]) -> None:
        self._commit = commit
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._waiting: deque[list[Record]] = deque()
        self._wake = threading.Event()
        self._busy = threading.Lock()
        self._started = False
        self._running = False
        self._stopping = False

    def submit(self, records: list[Record]) -> None:
        """Take records for a commit that happens soon; returns at once."""
        if self._pid != os.getpid():
            self._reset()  # a fork: the thread and what waited for it are the parent's
        if not self._running or len(self._waiting) >= MAX_WAITING:
            if not self._started:
                self._start()
            self._commit(records)
            return
        self._waiting.append(records)
        if not self._wake.is_set():
            self._wake.set()
        if not self._running:
            self.drain(0.0)  # stopped between the look and the append: whoever holds the lock takes it

    def drain(self, timeout_s: float) -> bool:
        """Commit in the calling thread what still waits; False where the thread kept us from it."""
        if self._pid != os.getpid():
            self._reset()
        if not self._busy.acquire(timeout=max(0.0, timeout_s)):
            return False
        try:
            self._commit_waiting()
        finally:
            self._busy.release()
        return True

    def stop(self, timeout_s: float) -> None:
        """Commit what waits and let the thread end; a later `submit` starts another."""
        self.drain(timeout_s)
        self._stopping = True
        self._running = False
        self._wake.set()

    def _start(self) -> None:
        self._started = True
        self._stopping = False
        thread = threading.Thread(target=self._run, name="mixpanel-visitor-committer", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return  # no threads here, or the interpreter is on its way out: callers commit

    def _run(self) -> None:
        self._running = True
        wake = self._wake
        while not self._stopping:
            wake.wait()
            wake.clear()  # before the look into the queue: whoever appends later sets it again
            with self._busy:
                self._commit_waiting()
        self._started = False

    def _commit_waiting(self) -> None:
        while self._waiting:
            together: list[Record] = []
            while self._waiting and len(together) < MAX_WAITING:
                together.extend(self._waiting.popleft())
            self._commit(together)
