"""Reentry: calls that come while their own thread is inside of a spool, from signal handlers or finalizers.

Such a call cannot wait for the lock that its thread holds, and the spool is not in a state to be used. So it
is put off: the thread makes it up as soon as it has left the spool, and so does any other that comes by.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")


class _Here(threading.local):
    """Whether this thread is inside of a spool, and whether it makes up what was put off."""

    inside = False
    catching_up = False


here = _Here()
late: deque[Callable[[], object]] = deque()


def catch_up() -> None:
    """Make the calls that were put off, unless this thread is inside of a spool, or at it already."""
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
    """Return a call that marks its thread as being inside of a spool."""

    def inside(*args: P.args, **named: P.kwargs) -> T:
        if here.inside:
            return call(*args, **named)
        # Plain assignments: no exception of a signal handler can come between them and `try`.
        here.inside = True
        try:
            return call(*args, **named)
        finally:
            here.inside = False
            if late:
                catch_up()

    return inside


class Guarded:
    """A spool, each of whose methods marks its thread."""

    def __init__(self, target: object) -> None:
        self._target = target

    def __getattr__(self, name: str) -> Any:
        return guarded(getattr(self._target, name))


def owned(lock: Any) -> bool:
    """Whether this very thread holds a reentrant lock; no other way to ask is free of a gap."""
    return bool(lock._is_owned())  # noqa: SLF001  # what `threading.Condition` uses
