"""Threads of this package: none starts while the interpreter ends, and gevent may replace their functions.

A thread that is started while the interpreter finalizes never runs; before Python 3.12 `Thread.start` then
waits for ever.
"""

from __future__ import annotations

import _thread
import socket
import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import queue
    from collections.abc import Callable

_ending = False


def end() -> None:
    """Start no more threads: this process is ending."""
    global _ending
    _ending = True


def begin() -> None:
    """Allow threads again: for a forked child."""
    global _ending
    _ending = False


def start(name: str, target: Callable[..., object], *args: object) -> threading.Thread | None:
    """Start a daemon thread; None where none can be started (no threads here, or the process is ending)."""
    if _ending or sys.is_finalizing():
        return None
    thread = threading.Thread(target=target, args=args, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return None
    return thread


def park(wake: queue.SimpleQueue[None]) -> None:
    """Wait for ever: a native thread that ends after gevent has patched `threading` fails in there.

    The queue is not patched, and the thread is a daemon, so that the process ends without it.
    """
    while True:
        wake.get()


def primitives() -> tuple[object, ...]:
    """Return functions that gevent and eventlet replace; an older thread must not use the new ones."""
    return (time.sleep, socket.socket, _thread.start_new_thread)
