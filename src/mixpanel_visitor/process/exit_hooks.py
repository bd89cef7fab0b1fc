"""Exit hooks: what has to happen when a process ends, whichever way it ends.

No single hook fires everywhere: uvicorn ends without atexit, a child of `multiprocessing` runs its own
finalizers and no atexit. All of them are set, and what they call may run more than once.
"""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from typing import Protocol

from . import threads

EXIT_TIMEOUT_S = 0.6
"""So long an ending process waits for Mixpanel; what is not delivered then stays in the spool."""


class Drainable(Protocol):
    """An object that is drained at exit."""

    def drain(self, timeout_s: float) -> bool:
        """Store and deliver what can be, within the time-out."""
        ...


_to_drain: dict[int, weakref.ref[Drainable]] = {}
_hooked_pids: set[int] = set()


def drain_at_exit(tracker: Drainable) -> None:
    """Drain the tracker when this process ends; does not keep it alive."""
    key = id(tracker)
    if key not in _to_drain:
        _to_drain[key] = weakref.ref(tracker, lambda _: _to_drain.pop(key, None))
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
    threads.end()  # what is tracked from here on is only stored
    for reference in _to_drain.copy().values():
        tracker = reference()
        if tracker is not None:
            tracker.drain(EXIT_TIMEOUT_S)
