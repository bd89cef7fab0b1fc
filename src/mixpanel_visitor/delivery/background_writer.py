"""BackgroundWriter: writes what finished requests have queued, in its own thread, many requests at a time.

An event loop must not wait for a disk, so ASGI hands its records over here. Nothing depends on the thread:
until it has proven that it runs (uWSGI without threads starts some that never do), when it cannot be
started, and when it falls behind, `submit` commits in the calling thread instead.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from mixpanel_visitor.process import threads
from mixpanel_visitor.process.fork import fork_detector

if TYPE_CHECKING:
    from collections.abc import Callable

    from mixpanel_visitor.records import Record

LINGER_S = 0.002
"""Waking a thread costs more than all else that an event needs: under load one wake serves many requests."""

MAX_WAITING = 1000
"""So many requests' records may wait for the thread before the caller commits its own."""


def _linger() -> None:
    time.sleep(LINGER_S)


class BackgroundWriter:
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
        self._mark = fork_detector()
        self._waiting: deque[list[Record]] = deque()
        self._busy = threading.RLock()  # a signal handler in the middle of a drain may drain
        self._starting = threading.Lock()
        self._turn: _Turn | None = None

    @property
    def waiting(self) -> bool:
        """Whether records wait for the thread."""
        return bool(self._waiting)

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
        if not turn.roused:
            turn.roused = True
            if turn.primitives != threads.primitives():
                # gevent or eventlet has replaced what the thread stands on: the next request begins another.
                self._turn = None
                self._busy, self._starting = threading.RLock(), threading.Lock()
                turn.stopping = True
            turn.wake.put(None)
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
            turn.wake.put(None)
        return self.drain(timeout_s)

    def retire(self) -> None:
        """End the thread once nothing waits, for nobody submits any more; a finalizer may call it."""
        turn = self._turn
        if turn is not None:
            turn.retired = True
            turn.wake.put(None)

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
        # Where none can be started, callers commit.
        threads.start("mixpanel-visitor-committer", self._run, turn)

    def _run(self, turn: _Turn) -> None:
        busy = self._busy
        turn.running = True
        while not turn.stopping:
            turn.wake.get()
            if not (turn.stopping or turn.retired) and turn.primitives == threads.primitives():
                self._linger()
            turn.roused = False  # before the look into the queue: whoever appends later wakes it again
            with busy:
                self._commit_waiting()
            turn.stopping = turn.stopping or turn.retired
        if turn.primitives != threads.primitives():
            threads.park(turn.wake)

    def _commit_waiting(self) -> None:
        while self._waiting:
            together: list[Record] = []
            with contextlib.suppress(IndexError):  # another thread was faster
                while len(together) < MAX_WAITING:
                    together.extend(self._waiting.popleft())
            if together:
                self._commit(together)


class _Turn:
    """One life of the thread: seen to run, told to stop, or to end when nothing waits."""

    def __init__(self) -> None:
        # No Event: its `set` holds a lock, and a signal handler that comes then would wait for itself.
        self.wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.primitives = threads.primitives()
        self.roused = False
        self.running = False
        self.stopping = False
        self.retired = False
