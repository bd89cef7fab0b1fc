"""Sender: delivers the spool to Mixpanel, in a thread of its own or, at exit, in the calling one.

Each round over the endpoints is one `step`, and a lock keeps two threads from a round at the same time. The
thread starts with `start`, and does not exist in a forked child.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, cast

from mixpanel_visitor.observability.rate_limited_log import RateLimitedLog, place_of
from mixpanel_visitor.process import fork, threads
from mixpanel_visitor.process.imports import importing
from mixpanel_visitor.process.reentry import Guarded, guarded, owned
from mixpanel_visitor.records import ENDPOINTS

from .notifications import Notifications
from .stats import SenderStats

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mixpanel_visitor.delivery.spool import CrashTrackingSpool, Spool
    from mixpanel_visitor.records import Endpoint

    from .endpoint_worker import EndpointWorker
    from .reporter import LogFunction
    from .stats import SenderFigures
    from .transport import Post, PostWithin

THREAD_NAME = "mixpanel-visitor-sender"

MAX_IDLE_S = 10.0
"""While all endpoints pause, the thread still syncs and renews its leadership at this interval."""

SUSPENDED_AFTER_S = 120.0
"""A process that was suspended for so long may not be the leader any more: it releases its claims first."""

_RANDOM = random.SystemRandom()
"""Not the global generator, which the application may have seeded; nor one that a fork copies."""


class Sender:
    """Delivers the records of `spool` through `post`; `step`, `drain` and the thread never run at once.

    `sync` makes stored records survive a power failure; the thread calls it after each round, and without
    `endpoints` it does nothing else. `retry_ambiguous`: see the setting `on_ambiguous`. `crash_tracking` is
    the spool if it remembers what is being sent; `revision` returns the count of withdrawals.

    `post_within` is the same with a time-out in seconds, for `drain`: without it a server that hangs can
    delay `drain` beyond its deadline by the duration of one `post`.

    After the first `notify` the thread waits `linger_s` seconds, so that records put at about the same time
    are sent together; it looks for records of other processes every `poll_s` seconds. `max_bytes` is the
    first limit for a request (None: as Mixpanel documents it). Clock, random source and waiting are arguments
    for the tests.
    """

    _run_of_thread: _ThreadRun
    _state: _State
    _start_lock: threading.Lock
    _locks_stale: bool
    _last_step_s: float

    def __init__(
        self,
        spool: Spool,
        post: Post,
        *,
        post_within: PostWithin | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = _RANDOM.uniform,
        wait: Callable[[float], object] | None = None,
        linger_s: float = 1.0,
        poll_s: float = 0.5,
        max_bytes: int | None = None,
        endpoints: Sequence[Endpoint] = ENDPOINTS,
        sync: Callable[[], None] | None = None,
        log: LogFunction | None = None,
        retry_ambiguous: bool = False,
        crash_tracking: CrashTrackingSpool | None = None,
        revision: Callable[[], int] | None = None,
    ) -> None:
        self._monotonic = monotonic
        self._poll_s = poll_s
        self._sync = None if sync is None else guarded(sync)
        self._log = log
        self._make_notifications = partial(Notifications, monotonic=monotonic, wait=wait, linger_s=linger_s)
        guarded_tracking = cast("CrashTrackingSpool", Guarded(crash_tracking)) if crash_tracking else None
        count_opt_outs = None if revision is None else guarded(revision)

        def make_workers() -> list[EndpointWorker]:
            # Late, in the sender's thread, so that no start of a process and no request waits for them.
            with importing:
                from .endpoint_worker import EndpointWorker  # noqa: PLC0415
                from .transport import Transport  # noqa: PLC0415

            transport = Transport(post, post_within=post_within, crash_tracking=guarded_tracking, clock=clock)
            return [
                EndpointWorker(
                    endpoint,
                    spool=cast("Spool", Guarded(spool)),
                    transport=transport,
                    clock=clock,
                    monotonic=monotonic,
                    uniform=uniform,
                    poll_s=poll_s,
                    max_bytes=max_bytes,
                    log=self._log_safely,
                    stats=self._stats,
                    retry_ambiguous=retry_ambiguous,
                    has_opt_outs=_ChangeDetector(count_opt_outs),
                )
                for endpoint in endpoints
            ]

        self._make_workers = make_workers
        self._reset_after_fork()
        fork.call_after_fork(self._reset_after_fork)

    def step(self) -> float:
        """Send at most one request to each endpoint; return the seconds until the next call is of use."""
        self._check_fork()
        return self._step(self._state)

    def is_mine(self) -> bool:
        """Return whether the calling thread is in a round of the sender, for which it cannot wait."""
        return owned(self._state.lock)

    def _step(self, state: _State) -> float:
        with state.lock:
            workers = self._workers(state)
            self._release_after_suspension(workers)
            return min((worker.step() for worker in workers), default=self._poll_s)

    def _workers(self, state: _State) -> list[EndpointWorker]:
        """Return the workers, which the first round makes; the caller must hold `lock`."""
        if state.workers is None:
            state.workers = self._make_workers()
        return state.workers

    def start(self) -> bool:
        """Start the thread unless it runs; return False where none can be started (then call `drain`)."""
        self._check_fork()
        if self._run_of_thread.is_outdated():
            self._replace_thread()
        if self._run_of_thread.is_alive() and not self._run_of_thread.stopping:
            return True
        if self._locks_stale:
            # Only now: gunicorn's gevent worker patches the standard library after the fork, and an older
            # native lock or queue would stop all its greenlets.
            self._locks_stale = False
            self._start_lock = threading.Lock()
            self._state = _State(self._state.notifications, self._state.workers)
            self._state.notifications.renew()
        # Another thread starts it already; not to wait for that is safe in signal handlers.
        if not self._start_lock.acquire(blocking=False):
            return True
        try:
            run = _ThreadRun(threads.primitives())
            run.thread = threads.start(THREAD_NAME, self._run, run)
            if run.thread is None:
                return False
            self._run_of_thread = run
            return True
        finally:
            self._start_lock.release()

    def notify(self, records: int = 1) -> None:
        """Wake the thread for records that were put. Cheap, never waits, safe in any thread or handler."""
        self._check_fork()
        if self._state.notifications.add(records) and self._run_of_thread.is_outdated():
            self.start()

    def request_flush(self) -> None:
        """Have waiting records sent without lingering; return at once."""
        self._check_fork()
        self._state.notifications.request_flush()

    def drain(self, deadline_s: float) -> bool:
        """Deliver in the calling thread for at most `deadline_s` seconds from now.

        True: this process has nothing more to send. False: time is up, or the rest has to wait longer than
        that (a pause, an outage). It needs no thread, so it works at exit.
        """
        self._check_fork()
        ends_s = self._monotonic() + deadline_s
        while (remaining_s := ends_s - self._monotonic()) > 0:
            state = self._state
            if owned(state.lock) or not state.lock.acquire(timeout=min(remaining_s, threading.TIMEOUT_MAX)):
                return False
            try:
                waits_s = []
                for worker in self._workers(state):
                    if self._monotonic() >= ends_s:
                        return False
                    wait_s = worker.step(ends_s)
                    if not worker.idle:
                        waits_s.append(wait_s)
            finally:
                state.lock.release()
            if not waits_s:
                return True
            if min(waits_s) >= ends_s - self._monotonic():
                return False
            if min(waits_s) > 0:
                state.notifications.wait(min(waits_s))
        return False

    def stop(self, timeout_s: float) -> bool:
        """End the thread and release its claims; return False where it is busy after `timeout_s` seconds.

        `start` may be called again.
        """
        self._check_fork()
        ends_s = self._monotonic() + timeout_s
        run, state = self._run_of_thread, self._state
        run.stopping = True
        state.notifications.wake()
        if run.thread is not None and run.thread is not threading.current_thread():
            run.thread.join(max(0.0, timeout_s))
            if run.thread.is_alive():
                return False
        run.thread = None
        if owned(state.lock) or not state.lock.acquire(timeout=max(0.0, ends_s - self._monotonic())):
            return False
        try:
            self._release(state.workers or [])
        finally:
            state.lock.release()
        return True

    def retire(self, may_end: Callable[[], bool], on_end: Callable[[], None]) -> None:
        """Have the thread end once `may_end` returns true, after at least one more round; then call `on_end`.

        For a sender that is not used any more. Returns at once, so a finalizer may call it.
        """
        self._run_of_thread.retired = (may_end, on_end)
        self._state.notifications.wake()

    def has_run(self) -> bool:
        """Return whether the thread has run: in some processes it is started and never does."""
        return self._run_of_thread.running

    def stats(self) -> SenderFigures:
        """Return counts, the state of each endpoint, and whether the thread runs."""
        self._check_fork()
        workers = self._state.workers or self._make_workers()  # before the first round: new ones
        return self._stats.figures(
            endpoints={worker.endpoint: worker.stats().figures() for worker in workers},
            running=self._run_of_thread.is_alive() and self._run_of_thread.running,
        )

    def _release(self, workers: list[EndpointWorker]) -> None:
        for worker in workers:
            try:
                worker.release()
            except Exception as error:
                # Nothing is lost: the next process claims these records again.
                message = "The spool did not take back records of /%s (%s: %s)."
                args = (worker.endpoint, type(error).__name__, error)
                self._log_safely(logging.WARNING, f"release {worker.endpoint}", message, *args)

    def _release_after_suspension(self, workers: list[EndpointWorker]) -> None:
        now_s = self._monotonic()
        idle_s, self._last_step_s = now_s - self._last_step_s, now_s
        if idle_s >= SUSPENDED_AFTER_S:
            for worker in workers:
                worker.release()

    def _check_fork(self) -> None:
        # os.register_at_fork does not see every fork: uWSGI calls its hooks only if it is configured so.
        if self._pid != os.getpid():
            self._reset_after_fork()

    def _reset_after_fork(self) -> None:
        # In a child, the claims are the parent's, and a lock may be held by a thread that does not exist.
        self._start_lock = threading.Lock()
        self._locks_stale = True
        self._run_of_thread = _ThreadRun()
        self._last_step_s = self._monotonic()
        self._quiet_log: LogFunction = self._log or RateLimitedLog(self._monotonic)
        self._stats = SenderStats()
        self._state = self._make_state()
        self._pid = os.getpid()

    def _replace_thread(self) -> None:
        # gevent or eventlet has replaced what the thread uses. With them a native thread can stop the whole
        # process, so it ends after its next wait; its successor does not wait for it, and shares no lock with
        # it. Its claims are released at its end, or with the process.
        self._run_of_thread.stopping = self._run_of_thread.outdated = True
        self._state.notifications.wake()
        self._start_lock = threading.Lock()
        self._run_of_thread = _ThreadRun()
        self._state = self._make_state()

    def _make_state(self) -> _State:
        return _State(self._make_notifications())

    def _run(self, run: _ThreadRun) -> None:
        run.running = True
        state = self._state  # its own: `_replace_thread` makes another for its successor
        while not run.is_over():
            try:
                state.notifications.linger(lambda: run.retired is not None or run.is_over())
                wait_s = 0.0
                while wait_s <= 0 and not run.is_over():
                    wait_s = self._step(state)
                if self._sync is not None:
                    # While Mixpanel is unreachable nothing is claimed, but new records must reach the disk.
                    self._sync()
                if run.retired is not None and run.retired[0]():
                    break
            except Exception as error:
                if sys.is_finalizing():
                    return  # modules are being removed; the records are safe in the spool
                wait_s = 1.0
                message = "The sender met an error of its own (%s at %s: %s) and goes on."
                self._log_safely(logging.ERROR, "loop", message, type(error).__name__, place_of(error), error)
            if not run.is_over():
                state.notifications.wait(min(wait_s, MAX_IDLE_S))
        if state.workers is not self._state.workers or run.retired is not None:
            with state.lock:
                self._release(state.workers or [])
        if run.retired is not None:
            run.stopping = True
            run.retired[1]()
        if run.outdated:
            state.notifications.park()

    def _log_safely(self, level: int, kind: str, message: str, *args: object) -> None:
        # Log handlers and filters of the application may raise; that must not end the thread.
        with contextlib.suppress(Exception):
            self._quiet_log(level, kind, message, *args)


class _State:
    """The state of the thread, shared with threads that drain; only the one that holds `lock` uses it."""

    def __init__(self, notifications: Notifications, workers: list[EndpointWorker] | None = None) -> None:
        self.notifications = notifications
        self.workers = workers
        self.lock = threading.RLock()


class _ChangeDetector:
    """Returns whether a count has changed since the last call; without a count never."""

    def __init__(self, count: Callable[[], int] | None) -> None:
        self._count = count
        self._last = 0

    def __call__(self) -> bool:
        last = self._last
        if self._count is not None:
            self._last = self._count()
        return self._last != last


class _ThreadRun:
    """One run of the thread: whether it runs, has to stop, or is `retired`, for it is not used any more."""

    def __init__(self, primitives: tuple[object, ...] = ()) -> None:
        self.primitives = primitives
        self.thread: threading.Thread | None = None
        self.stopping = self.running = self.outdated = False
        self.retired: tuple[Callable[[], bool], Callable[[], None]] | None = None

    def is_alive(self) -> bool:
        """Return whether the thread has been started and has not ended."""
        return self.thread is not None and self.thread.is_alive()

    def is_over(self) -> bool:
        """Return whether the thread has to end."""
        return self.stopping or self.is_outdated()

    def is_outdated(self) -> bool:
        """Return whether gevent or eventlet has replaced what this thread was started with."""
        if self.primitives and self.primitives != threads.primitives():
            self.outdated = True
        return self.outdated
