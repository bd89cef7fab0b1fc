"""Lifetime: what has to happen when a process forks or ends, whichever way it ends.

No single hook fires everywhere: uvicorn ends without atexit, a child of `multiprocessing` runs its own
finalizers and no atexit. All of them are set, and what they call may run more than once.
"""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

EXIT_TIMEOUT_S = 0.6
"""So long an ending process waits for Mixpanel; what is not delivered then stays in the spool."""


class Drains(Protocol):
    """What is drained at exit."""

    def drain(self, timeout_s: float) -> bool:
        """Store and deliver what can be, within the time-out."""
        ...


_to_drain: weakref.WeakSet[Drains] = weakref.WeakSet()
_hooked_pids: set[int] = set()


def in_children(forget: Callable[[], None]) -> None:
    """Call a bound method in every forked child; does not keep its object alive."""
    method = weakref.WeakMethod(forget)

    def call() -> None:
        alive = method()
        if alive is not None:
            alive()

    os.register_at_fork(after_in_child=call)


def drain_at_exit(tracker: Drains) -> None:
    """Drain the tracker when this process ends; does not keep it alive."""
    _to_drain.add(tracker)
    pid = os.getpid()
    if pid in _hooked_pids:
        return
    if not _hooked_pids:
        atexit.register(_drain_all)
    _hooked_pids.add(pid)
    if "multiprocessing.process" in sys.modules:
        from multiprocessing.process import parent_process  # noqa: PLC0415
        from multiprocessing.util import Finalize  # noqa: PLC0415

        if parent_process() is not None:
            Finalize(None, _drain_all, exitpriority=10)


def _drain_all() -> None:
    for tracker in list(_to_drain):
        tracker.drain(EXIT_TIMEOUT_S)
