"""Threads of this package: never started while the interpreter ends, and what may be replaced under them.

A thread that is started while the interpreter finalizes never runs; before Python 3.12 `Thread.start` then
waits for it for ever.
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
    """Start no thread any more: this process is ending."""
    global _ending  # a state of the process
    _ending = True


def begin() -> None:
    """Return to the state of a process that goes on: for a forked child."""
    global _ending  # a state of the process
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

    Its queue is of C, and of before; it is a daemon, and the process ends without it.
    """
    while True:
        wake.get()


def primitives() -> tuple[object, ...]:
    """Return what gevent and eventlet replace; a thread of before must not use what has come in its place."""
    return (time.sleep, socket.socket, _thread.start_new_thread)
