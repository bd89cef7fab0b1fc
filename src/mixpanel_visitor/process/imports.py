"""Late imports, made when something is first used: no process forks in the middle of them.

A child that is forked while another thread imports a module waits for ever when it imports the same module: a
thread that the child does not have holds the lock of the module.
"""

from __future__ import annotations

import atexit
import threading
from typing import TYPE_CHECKING

from . import fork

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

FORK_TIMEOUT_S = 0.5
"""How long a fork waits for imports of other threads."""


class Importing:
    """A lock around imports, `with importing: ...`, for which forks of other threads wait."""

    def __init__(self) -> None:
        self._reset()
        fork.watch(self)

    def _reset(self) -> None:
        # Reentrant: a signal handler may interrupt an import with another.
        self._lock = threading.RLock()
        self._held_by = 0

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lock.release()

    def before_fork(self) -> None:
        """Wait for imports in progress, but not for ever."""
        if self._lock.acquire(timeout=FORK_TIMEOUT_S):
            self._held_by = threading.get_ident()

    def after_fork_in_parent(self) -> None:
        """Release the lock."""
        if self._held_by == threading.get_ident():
            self._held_by = 0
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Make a new lock: a thread of the parent may have held this one."""
        self._reset()


importing = Importing()


def import_at_exit(load: Callable[[], object]) -> None:
    """Call `load` when the process ends, to import what was not needed yet; once, even if asked again.

    A finalizer that runs while the interpreter ends cannot import, not even loaded modules, and may track the
    first event: so `load` keeps what it has imported.
    """
    atexit.unregister(load)
    atexit.register(load)
