"""ForkGuard: calls objects around `os.fork`, without keeping them alive."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


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


def watch(member: ForkAware) -> None:
    """Call this object around each fork from now on, for as long as it lives."""
    key = id(member)
    _members[key] = weakref.ref(member, lambda _: _members.pop(key, None))


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
    for member in _living():
        member.after_fork_in_child()


os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
