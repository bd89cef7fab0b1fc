"""Fork: what is to be called around `os.fork`, and whether there was one.

C code forks without telling Python (uWSGI may), so objects that are shared then look for themselves.
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
    """An object that has locks or files which a forked child must not share."""

    def before_fork(self) -> None:
        """Come to a state that can be copied; must not wait for long."""
        ...

    def after_fork_in_parent(self) -> None:
        """Go on."""
        ...

    def after_fork_in_child(self) -> None:
        """Drop what is the parent's."""
        ...


# A hook can never be unregistered; so there is one for the process, and it knows its objects weakly.
_members: dict[int, weakref.ref[ForkAware]] = {}
_in_children: dict[int, tuple[weakref.ref[object], str]] = {}


def watch(member: ForkAware) -> None:
    """Call this object around each fork from now on, for as long as it lives."""
    key = id(member)
    _members[key] = weakref.ref(member, lambda _: _members.pop(key, None))


def call_after_fork(forget: Callable[[], None]) -> None:
    """Call a bound method in every forked child, for as long as its object lives."""
    # No WeakMethod: its callback fails with a traceback where the interpreter ends.
    owner = forget.__self__  # type: ignore[attr-defined]
    key = id(owner)
    _in_children[key] = weakref.ref(owner, lambda _: _in_children.pop(key, None)), forget.__name__


def _living() -> list[ForkAware]:
    # The copy is one step for the interpreter; a loop over the dict itself would not survive a collection.
    return [member for reference in _members.copy().values() if (member := reference()) is not None]


def _before() -> None:
    for member in _living():
        member.before_fork()


def _after_in_parent() -> None:
    for member in _living():
        member.after_fork_in_parent()


def _after_in_child() -> None:
    threads.begin()
    reentry.late.clear()
    for member in _living():
        member.after_fork_in_child()
    for reference, name in _in_children.copy().values():
        owner = reference()
        if owner is not None:
            getattr(owner, name)()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)


_MADV_WIPEONFORK = 18
"""Of Linux 4.14 (madvise(2)): a forked child finds zeros in such a page, by whatever code it was forked."""

_MADV_UNKNOWN = -1


class ForkDetector(Protocol):
    """Its first item is 1 in the process that made it, and 0 in a child forked from that."""

    def __getitem__(self, index: int, /) -> int:
        """Return which of the two this is; 0 is asked for."""
        ...


def fork_detector() -> ForkDetector:
    """Make one for this process; to look at it takes no system call where the kernel can do that."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, ValueError):
            page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            page.madvise(_MADV_WIPEONFORK)
            if _refuses(page, _MADV_UNKNOWN):  # else it takes any advice and heeds none, as emulators do
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
    """A birthmark where there are no such pages."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    def __getitem__(self, _index: int, /) -> int:
        return int(self._pid == os.getpid())
