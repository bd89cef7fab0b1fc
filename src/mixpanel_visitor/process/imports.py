"""Imports that are made late, when something is first used: no process forks in the middle of them.

A child that is forked while another thread imports a module waits for ever when it imports that one too:
the module's lock is held by a thread that the child does not have.
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
"""A fork waits for at most so long for imports of other threads."""


class Importing:
    """Held around imports: `with importing: ...`; forks of other threads wait until it is over."""

    def __init__(self) -> None:
        self._begin()
        fork.watch(self)

    def _begin(self) -> None:
        # Reentrant: a signal handler may interrupt an import with another.
        self._lock = threading.RLock()
        self._forked_by = 0

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lock.release()

    def before_fork(self) -> None:
        """Wait for imports in progress; forking goes on in any case."""
        if self._lock.acquire(timeout=FORK_TIMEOUT_S):
            self._forked_by = threading.get_ident()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if self._forked_by == threading.get_ident():
            self._forked_by = 0
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Begin anew: whichever thread held the lock is the parent's."""
        self._begin()


importing = Importing()


def import_at_exit(load: Callable[[], object]) -> None:
    """Have `load` import what has not been needed yet, when the process ends; asked again, once.

    A finalizer that runs while the interpreter ends cannot import any more, not even what is loaded, and it
    may track the first event: so `load` keeps what it has imported.
    """
    atexit.unregister(load)
    atexit.register(load)
