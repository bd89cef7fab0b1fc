"""Capture: while a test looks on, records go to it instead of to a spool, and nothing goes to the network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .records import Record


class Catcher(Protocol):
    """Takes what would be stored."""

    def catch(self, records: Sequence[Record]) -> None:
        """Take these."""
        ...


_catchers: list[Catcher] = []


def active() -> Catcher | None:
    """Give the catcher of this moment, for all trackers of this process; None: nobody looks on."""
    return _catchers[-1] if _catchers else None


def begin(catcher: Catcher) -> None:
    """Let this one catch from now on."""
    _catchers.append(catcher)


def end(catcher: Catcher) -> None:
    """Let it go; who caught before goes on."""
    _catchers.remove(catcher)
