"""WorkerThreads: a few threads with a bounded queue, for calls that an event loop must not wait for."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

T = TypeVar("T")


class WorkerThreads:
    """At most `max_threads`, started on demand; a forked child has its own."""

    def __init__(self, name: str, *, max_threads: int, max_waiting: int) -> None:
        self._name = name
        self._max_threads = max_threads
        self._max_calls = max_threads + max_waiting
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._free_slots = threading.BoundedSemaphore(self._max_calls)
        self._executor: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def submit(self, call: Callable[[], T]) -> Future[T] | None:
        """Have a thread make a call; None: the queue is full, or no thread can be started."""
        if self._pid != os.getpid():
            self._reset()
        free_slots = self._free_slots
        if not free_slots.acquire(blocking=False):
            return None
        try:
            future = self._get_executor().submit(call)
        except RuntimeError:  # the interpreter is ending
            free_slots.release()
            return None
        future.add_done_callback(lambda _: free_slots.release())
        return future

    def _get_executor(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self._max_threads, self._name)
            return self._executor
