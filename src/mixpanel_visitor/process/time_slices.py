"""TimeSlices: long work in small pieces, between which other threads of the process get their turn.

A thread that computes keeps the interpreter's lock for 5 ms before another one gets it
(`sys.getswitchinterval`), and a request that an event loop answers asks for it many times.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

SLICE_S = 0.0005
PAUSE_S = 0.0001
"""Sleep, not only release: the lock goes back to the thread that releases it before another one is awake."""

T = TypeVar("T")


class TimeSlices(threading.local):
    """Pauses for `pause_s` whenever the calling thread has computed for `slice_s`; each counts for itself."""

    def __init__(
        self,
        *,
        slice_s: float = SLICE_S,
        pause_s: float = PAUSE_S,
        cpu_time: Callable[[], float] = time.thread_time,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        # Called anew in each thread that uses the object.
        self._slice_s = slice_s
        self._pause_s = pause_s
        self._cpu_time = cpu_time
        self._sleep = sleep
        self._since_s = cpu_time()

    def pause(self) -> None:
        """Sleep if this thread has computed for long enough since it last slept here."""
        if self._cpu_time() - self._since_s >= self._slice_s:
            self._sleep(self._pause_s)
            self._since_s = self._cpu_time()

    def over(self, items: Iterable[T]) -> Iterator[T]:
        """Yield the items, with a pause before any at which one is due."""
        for item in items:
            self.pause()
            yield item
