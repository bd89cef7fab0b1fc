"""Timed read: reads the body of a request with a time-out, on any server.

WSGI has no time-out: `read` returns when all has come. So a thread reads, and the caller waits with a
time-out. If the client never ends, the thread stays until the server closes the connection.
"""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING

from . import threads

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_READERS = 16
"""Threads that may wait for slow bodies at a time; beyond that bodies are not read here."""

_readers: set[object] = set()


def read_within(read: Callable[[int], bytes], size: int, *, timeout_s: float) -> bytes | None:
    """Return what `read(size)` returns, or raise what it raises; None: not within `timeout_s`.

    None too where too many threads wait. Where no thread can be started, it reads in the calling one.
    """
    if len(_readers) >= MAX_READERS:
        return None
    results: queue.SimpleQueue[bytes | BaseException] = queue.SimpleQueue()
    reader = object()

    def run() -> None:
        try:
            results.put(read(size))
        except BaseException as error:  # for the caller, of whatever kind
            results.put(error)
        finally:
            _readers.discard(reader)

    _readers.add(reader)
    if threads.start("mixpanel-visitor-body", run) is None:
        _readers.discard(reader)
        return read(size)
    try:
        result = results.get(timeout=timeout_s)
    except queue.Empty:
        return None
    if isinstance(result, BaseException):
        raise result
    return result
