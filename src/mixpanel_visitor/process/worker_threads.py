"""WorkerThreads: a few threads for what an event loop must not wait for, with a bounded line before them."""

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
    """At most `max_threads`, started when they are needed; a forked child has its own."""

    def __init__(self, name: str, *, max_threads: int, max_waiting: int) -> None:
        self._name = name
        self._max_threads = max_threads
        self._slots = max_threads + max_waiting
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._free = threading.BoundedSemaphore(self._slots)
        self._executor: ThreadPoolExecutor | None = None
        self._making = threading.Lock()

    def submit(self, call: Callable[[], T]) -> Future[T] | None:
        """Have a thread make a call; None: as many as allowed wait already, or no thread can be started."""
        if self._pid != os.getpid():
            self._begin()
        free = self._free
        if not free.acquire(blocking=False):
            return None
        try:
            future = self._running().submit(call)
        except RuntimeError:  # the interpreter is ending
            free.release()
            return None
        future.add_done_callback(lambda _: free.release())
        return future

    def _running(self) -> ThreadPoolExecutor:
        with self._making:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self._max_threads, self._name)
            return self._executor
