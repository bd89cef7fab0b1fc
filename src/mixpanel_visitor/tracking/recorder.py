"""Recorder: while a test looks on, records go to it, and to no spool or network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mixpanel_visitor.records import Record


class Catcher(Protocol):
    """Takes what would be stored."""

    def catch(self, records: Sequence[Record]) -> None:
        """Take these."""
        ...


class Source(Protocol):
    """A tracker, from here."""

    def store_unfinished(self) -> None:
        """Store, or have caught, what open requests and jobs hold."""
        ...


_catchers: list[Catcher] = []
_sources: WeakValueDictionary[int, Source] = WeakValueDictionary()


def join(source: Source) -> None:
    """Ask this one, as long as it lives, for what it holds."""
    _sources[id(source)] = source


def collect() -> None:
    """Have all trackers of this process store what they hold: it goes where it would go by itself, now."""
    for reference in _sources.valuerefs():
        source = reference()
        if source is not None:
            source.store_unfinished()


def active() -> Catcher | None:
    """Return the catcher of this moment, for all trackers of this process; None: nobody looks on."""
    return _catchers[-1] if _catchers else None


def begin(catcher: Catcher) -> None:
    """Let this one catch from now on; what was tracked before is none of its business."""
    collect()
    _catchers.append(catcher)


def end(catcher: Catcher) -> None:
    """Let it go, with all that was tracked until now; who caught before goes on."""
    collect()
    _catchers.remove(catcher)
