"""BackgroundWriter: writes what finished requests have queued, in its own thread, many requests at a time.

An event loop must not wait for a disk, so ASGI leaves its records here. Nothing depends on the thread:
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
        self._fork_detector = fork_detector()
        self._waiting: deque[list[Record]] = deque()
        self._busy = threading.RLock()  # a signal handler in the middle of a drain may drain
        self._starting = threading.Lock()
        self._run_of_thread: _ThreadRun | None = None

    @property
    def waiting(self) -> bool:
        """True while records wait for the thread."""
        return bool(self._waiting)

    def submit(self, records: list[Record]) -> None:
        """Take records for a commit that happens soon; returns at once."""
        if not self._fork_detector[0]:
            self._reset()  # a fork: the thread and what waited for it are the parent's
        run = self._run_of_thread
        if run is None or not run.running or len(self._waiting) >= MAX_WAITING:
            self._commit(records)
            if run is None:
                self._start()
            return
        self._waiting.append(records)
        if not run.is_woken:
            run.is_woken = True
            if run.primitives != threads.primitives():
                # gevent or eventlet has replaced what the thread stands on: the next request begins another.
                self._run_of_thread = None
                self._busy, self._starting = threading.RLock(), threading.Lock()
                run.stopping = True
            run.wake.put(None)
        if run.stopping:
            self._commit_waiting()  # the thread may have had its last look before the append

    def drain(self, timeout_s: float) -> bool:
        """Commit in the calling thread what still waits; False where the thread kept us from it."""
        if not self._fork_detector[0]:
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
        if not self._fork_detector[0]:
            self._reset()  # first: the parent may have held the lock inside of the event when it forked
        run, self._run_of_thread = self._run_of_thread, None
        if run is not None:
            run.stopping = True
            run.wake.put(None)
        return self.drain(timeout_s)

    def retire(self) -> None:
        """End the thread once nothing waits, for nobody submits any more; a finalizer may call it."""
        run = self._run_of_thread
        if run is not None:
            run.retired = True
            run.wake.put(None)

    def _start(self) -> None:
        if not self._starting.acquire(blocking=False):
            return  # another thread is at it
        try:
            if self._run_of_thread is None:
                self._start_run()
        finally:
            self._starting.release()

    def _start_run(self) -> None:
        run = self._run_of_thread = _ThreadRun()
        # Where none can be started, callers commit.
        threads.start("mixpanel-visitor-committer", self._run, run)

    def _run(self, run: _ThreadRun) -> None:
        busy = self._busy
        run.running = True
        while not run.stopping:
            run.wake.get()
            if not (run.stopping or run.retired) and run.primitives == threads.primitives():
                self._linger()
            run.is_woken = False  # before the look into the queue: a later append wakes it again
            with busy:
                self._commit_waiting()
            run.stopping = run.stopping or run.retired
        if run.primitives != threads.primitives():
            threads.park(run.wake)

    def _commit_waiting(self) -> None:
        while self._waiting:
            batch: list[Record] = []
            with contextlib.suppress(IndexError):  # another thread was faster
                while len(batch) < MAX_WAITING:
                    batch.extend(self._waiting.popleft())
            if batch:
                self._commit(batch)


class _ThreadRun:
    """One run of the thread: whether it was seen to run, has to stop, or has to end when nothing waits."""

    def __init__(self) -> None:
        # No Event: its `set` holds a lock, and a signal handler that comes then would wait for itself.
        self.wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.primitives = threads.primitives()
        self.is_woken = False
        self.running = False
        self.stopping = False
        self.retired = False
