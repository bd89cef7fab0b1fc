"""Reentry: calls of signal handlers or finalizers that interrupt their own thread inside of a spool.

Such a call cannot wait for the lock that its thread holds, and the spool is not in a state to be used. So it
is deferred: this thread makes it as soon as it has left the spool, or another thread does before.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


class _ThreadState(threading.local):
    """Whether this thread is inside of a spool, and whether it makes deferred calls."""

    inside = False
    catching_up = False


here = _ThreadState()
late: deque[Callable[[], object]] = deque()


def catch_up() -> None:
    """Make the deferred calls, unless this thread is inside of a spool, or makes them already."""
    if here.inside or here.catching_up:
        return
    here.catching_up = True
    try:
        while late:
            try:
                call = late.popleft()
            except IndexError:
                return  # another thread was faster
            call()
    finally:
        here.catching_up = False


def guarded(call: Callable[P, T]) -> Callable[P, T]:
    """Return a function that marks its thread as inside of a spool during `call`."""

    def marked(*args: P.args, **kwargs: P.kwargs) -> T:
        if here.inside:
            return call(*args, **kwargs)
        # A plain assignment: no exception of a signal handler can come between it and `try`.
        here.inside = True
        try:
            return call(*args, **kwargs)
        finally:
            here.inside = False
            if late:
                catch_up()

    return marked


class Guarded:
    """A spool whose methods mark their thread."""

    def __init__(self, target: object) -> None:
        self._target = target

    def __getattr__(self, name: str) -> Any:
        return guarded(getattr(self._target, name))


def owned(lock: Any) -> bool:
    """Return whether the calling thread holds a reentrant lock; other ways to ask have a race."""
    return bool(lock._is_owned())  # noqa: SLF001  # what `threading.Condition` uses
