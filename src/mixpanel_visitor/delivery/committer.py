"""Committer: writes what finished requests have queued, in a thread of its own, many requests at a time.

An event loop must not wait for a disk, so ASGI hands its records over here. Nothing depends on the thread:
until it has proven that it runs (uWSGI without threads starts some that never do), when it cannot be
started, and when it falls behind, `submit` commits in the calling thread instead.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from mixpanel_visitor.delivery.fork_guard import birthmark

if TYPE_CHECKING:
    from collections.abc import Callable

    from mixpanel_visitor.records import Record

LINGER_S = 0.002
"""Waking a thread costs more than all else that an event needs: under load one wake serves many requests."""

MAX_WAITING = 1000
"""So many requests' records may wait for the thread before the caller commits its own."""


def _linger() -> None:
    time.sleep(LINGER_S)


class Committer:
    """Calls `commit(records)` soon, in order, from one thread; `commit` must not raise.

    `linger` is called between the first request's records and the commit, so that others come along.
    """

    def __init__(
        self, commit: Callable[[list[Record]], None], linger: Callable[[], object] = _linger
    ) -> None:
        self._commit = commit
        self._linger = linger
        self._reset()

    def _reset(self) -> None:
        self._mark = birthmark()
        self._waiting: deque[list[Record]] = deque()
        self._busy = threading.Lock()
        self._starting = threading.Lock()
        self._turn: _Turn | None = None

    def submit(self, records: list[Record]) -> None:
        """Take records for a commit that happens soon; returns at once."""
        if not self._mark[0]:
            self._reset()  # a fork: the thread and what waited for it are the parent's
        turn = self._turn
        if turn is None or not turn.running or len(self._waiting) >= MAX_WAITING:
            self._commit(records)
            if turn is None:
                self._start()
            return
        self._waiting.append(records)
        if not turn.wake.is_set():
            turn.wake.set()
        if turn.stopping:
            self._commit_waiting()  # the thread may have had its last look before the append

    def drain(self, timeout_s: float) -> bool:
        """Commit in the calling thread what still waits; False where the thread kept us from it."""
        if not self._mark[0]:
            self._reset()
        if not self._busy.acquire(timeout=max(0.0, timeout_s)):
            return False
        try:
            self._commit_waiting()
        finally:
            self._busy.release()
        return True

    def stop(self, timeout_s: float) -> bool:
        """Let the thread end and commit what waits; a later `submit` starts another."""
        if not self._mark[0]:
            self._reset()  # first: the parent may have held the lock inside of the event when it forked
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.stopping = True
            turn.wake.set()
        return self.drain(timeout_s)

    def _start(self) -> None:
        if not self._starting.acquire(blocking=False):
            return  # another thread is at it
        try:
            if self._turn is None:
                self._start_turn()
        finally:
            self._starting.release()

    def _start_turn(self) -> None:
        turn = self._turn = _Turn()
        thread = threading.Thread(
            target=self._run, args=(turn,), name="mixpanel-visitor-committer", daemon=True
        )
        # Refused where there are no threads, or the interpreter is on its way out: then callers commit.
        with contextlib.suppress(RuntimeError):
            thread.start()

    def _run(self, turn: _Turn) -> None:
        turn.running = True
        while not turn.stopping:
            turn.wake.wait()
            if not turn.stopping:
                self._linger()
            turn.wake.clear()  # before the look into the queue: whoever appends later sets it again
            with self._busy:
                self._commit_waiting()

    def _commit_waiting(self) -> None:
        while self._waiting:
            together: list[Record] = []
            with contextlib.suppress(IndexError):  # another thread was faster
                while len(together) < MAX_WAITING:
                    together.extend(self._waiting.popleft())
            if together:
                self._commit(together)


class _Turn:
    """One life of the thread: seen to run, told to stop."""

    def __init__(self) -> None:
        self.wake = threading.Event()
        self.running = False
        self.stopping = False
