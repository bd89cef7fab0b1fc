"""Timed read: reads a request's body, and gives up after a while, whatever server it comes from.

WSGI has no time-out: `read` returns when all is there. So a thread reads, and its caller waits as long as it
likes. A thread whose client never ends stays until the server closes the connection; there may be a few.
"""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING

from . import threads

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_READERS = 16
"""So many threads may wait for slow bodies at a time; then only bodies that are short are read."""

_readers: set[object] = set()


def read_within(read: Callable[[int], bytes], size: int, *, timeout_s: float) -> bytes | None:
    """Return what `read(size)` returns, and raise what it raises; None: not within `timeout_s`.

    None as well where too many others are waited for. Where no thread can be started, it just reads.
    """
    if len(_readers) >= MAX_READERS:
        return None
    results: queue.SimpleQueue[bytes | BaseException] = queue.SimpleQueue()
    reader = object()

    def run() -> None:
        try:
            results.put(read(size))
        except BaseException as error:  # whatever it is, the caller is to have it
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
