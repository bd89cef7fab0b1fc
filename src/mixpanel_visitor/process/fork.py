"""Fork: calls objects before and after `os.fork`, and detects forks.

C code may fork without Python's hooks (uWSGI does), so that shared objects have to detect that themselves.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
import weakref
from typing import TYPE_CHECKING, Protocol

from . import reentry, threads

if TYPE_CHECKING:
    from collections.abc import Callable


class ForkAware(Protocol):
    """An object with locks or files that a forked child must not share."""

    def before_fork(self) -> None:
        """Reach a state that can be copied; must not wait for long."""
        ...

    def after_fork_in_parent(self) -> None:
        """Undo `before_fork`."""
        ...

    def after_fork_in_child(self) -> None:
        """Drop the parent's locks, files and threads."""
        ...


# A hook cannot be unregistered: so there is one for the process, with weak references to its objects.
_members: dict[int, weakref.ref[ForkAware]] = {}
_child_methods: dict[int, tuple[weakref.ref[object], str]] = {}


def watch(member: ForkAware) -> None:
    """Call this object before and after each fork, as long as it lives."""
    key = id(member)
    _members[key] = weakref.ref(member, lambda _: _members.pop(key, None))


def call_after_fork(method: Callable[[], None]) -> None:
    """Call a bound method in every forked child, as long as its object lives."""
    # No WeakMethod: its callback fails with a traceback at the end of the interpreter.
    owner = method.__self__  # type: ignore[attr-defined]
    key = id(owner)
    _child_methods[key] = weakref.ref(owner, lambda _: _child_methods.pop(key, None)), method.__name__


def _living_members() -> list[ForkAware]:
    # The copy is one step for the interpreter; a garbage collection would break a loop over the dict itself.
    return [member for reference in _members.copy().values() if (member := reference()) is not None]


def _call_before() -> None:
    for member in _living_members():
        member.before_fork()


def _call_in_parent() -> None:
    for member in _living_members():
        member.after_fork_in_parent()


def _call_in_child() -> None:
    threads.begin()
    reentry.late.clear()
    for member in _living_members():
        member.after_fork_in_child()
    for reference, name in _child_methods.copy().values():
        owner = reference()
        if owner is not None:
            getattr(owner, name)()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_call_before, after_in_parent=_call_in_parent, after_in_child=_call_in_child)


_MADV_WIPEONFORK = 18
"""From Linux 4.14 on (madvise(2)): in a forked child such a page has zeros, whatever code forked it."""

_MADV_UNKNOWN = -1


class ForkDetector(Protocol):
    """Its first item is 1 in the process that made it, and 0 in a child forked from that."""

    def __getitem__(self, index: int, /) -> int:
        """Return 1 or 0; the index is always 0."""
        ...


def fork_detector() -> ForkDetector:
    """Return a detector for this process, which needs no system call if the kernel has such pages."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, ValueError):
            page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            page.madvise(_MADV_WIPEONFORK)
            if _refuses(page, _MADV_UNKNOWN):  # else any advice has no effect, as in emulators
                page[0] = 1
                return page
    return _ProcessId()


def _refuses(page: mmap.mmap, advice: int) -> bool:
    try:
        page.madvise(advice)
    except (OSError, ValueError):
        return True
    return False


class _ProcessId:
    """A detector for systems without such pages."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    def __getitem__(self, _index: int, /) -> int:
        return int(self._pid == os.getpid())
