"""Exit hooks: drain trackers when a process ends, in whatever way it ends.

No single hook is called everywhere: uvicorn ends without atexit, a child of `multiprocessing` has its own
finalizers and no atexit. All of them are set, and may drain more than once.
"""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from typing import Protocol

from . import threads

EXIT_TIMEOUT_S = 0.6
"""How long an ending process waits for Mixpanel; other records stay in the spool."""


class Drainable(Protocol):
    """An object that is drained at exit."""

    def drain(self, timeout_s: float) -> bool:
        """Store all records, and deliver those that it can within the time-out."""
        ...


_to_drain: dict[int, weakref.ref[Drainable]] = {}
_hooked_pids: set[int] = set()


def drain_at_exit(tracker: Drainable) -> None:
    """Drain the tracker when this process ends; it is not kept alive for that."""
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
    threads.end()  # later events are only stored
    for reference in _to_drain.copy().values():
        tracker = reference()
        if tracker is not None:
            tracker.drain(EXIT_TIMEOUT_S)
