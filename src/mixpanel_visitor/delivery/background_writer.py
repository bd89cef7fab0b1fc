"""BackgroundWriter: writes the records of finished requests, many at a time, in a thread of its own.

An event loop must not wait for a disk, so ASGI queues its records here. Nothing depends on the thread: until
it has run (under uWSGI without threads it never does), when it cannot be started, and when it falls
behind, `submit` commits in the calling thread instead.
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
"""To wake a thread costs more than all other work for an event: under load one wake serves many requests."""

MAX_WAITING = 1000
"""Requests whose records may wait for the thread; with more, the caller commits its own."""


def _linger() -> None:
    time.sleep(LINGER_S)


class BackgroundWriter:
    """Calls `commit(records)` soon, in order, from one thread; `commit` must not raise.

    `linger` is called between the records of the first request and the commit, to wait for more requests.
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
        self._commit_lock = threading.RLock()  # a signal handler in the middle of a drain may drain
        self._start_lock = threading.Lock()
        self._run_of_thread: _ThreadRun | None = None

    @property
    def waiting(self) -> bool:
        """True while records wait for the thread."""
        return bool(self._waiting)

    def submit(self, records: list[Record]) -> None:
        """Queue records for a commit that happens soon; return at once."""
        if not self._fork_detector[0]:
            self._reset()  # a fork: the thread and its queue are the parent's
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
                # gevent or eventlet has replaced what the thread uses: the next request starts another.
                self._run_of_thread = None
                self._commit_lock, self._start_lock = threading.RLock(), threading.Lock()
                run.stopping = True
            run.wake.put(None)
        if run.stopping:
            self._commit_waiting()  # the thread may have emptied the queue for the last time before

    def drain(self, timeout_s: float) -> bool:
        """Commit in the calling thread what still waits; False where the thread is busy for too long."""
        if not self._fork_detector[0]:
            self._reset()
        if not self._commit_lock.acquire(timeout=max(0.0, timeout_s)):
            return False
        try:
            self._commit_waiting()
        finally:
            self._commit_lock.release()
        return True

    def stop(self, timeout_s: float) -> bool:
        """End the thread and commit what waits; a later `submit` starts another."""
        if not self._fork_detector[0]:
            self._reset()  # first: the parent may have held a lock when it forked
        run, self._run_of_thread = self._run_of_thread, None
        if run is not None:
            run.stopping = True
            run.wake.put(None)
        return self.drain(timeout_s)

    def retire(self) -> None:
        """End the thread once nothing waits, after the last `submit`; a finalizer may call it."""
        run = self._run_of_thread
        if run is not None:
            run.retired = True
            run.wake.put(None)

    def _start(self) -> None:
        if not self._start_lock.acquire(blocking=False):
            return  # another thread starts it
        try:
            if self._run_of_thread is None:
                self._start_run()
        finally:
            self._start_lock.release()

    def _start_run(self) -> None:
        run = self._run_of_thread = _ThreadRun()
        # Where none can be started, callers commit.
        threads.start("mixpanel-visitor-committer", self._run, run)

    def _run(self, run: _ThreadRun) -> None:
        commit_lock = self._commit_lock
        run.running = True
        while not run.stopping:
            run.wake.get()
            if not (run.stopping or run.retired) and run.primitives == threads.primitives():
                self._linger()
            run.is_woken = False  # before the queue is read: a later append wakes it again
            with commit_lock:
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
    """One run of the thread: whether it has run, has to stop, or has to end when nothing waits."""

    def __init__(self) -> None:
        # No Event: its `set` holds a lock, and a signal handler that comes then would wait for itself.
        self.wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.primitives = threads.primitives()
        self.is_woken = False
        self.running = False
        self.stopping = False
        self.retired = False
