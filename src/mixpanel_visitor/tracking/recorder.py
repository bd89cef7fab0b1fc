"""Recorder: while a test captures, records go to its catcher, and to no spool or network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mixpanel_visitor.records import Record


class Catcher(Protocol):
    """Collects records instead of a spool."""

    def catch(self, records: Sequence[Record]) -> None:
        """Add records."""
        ...


class Source(Protocol):
    """A tracker, as this module sees it."""

    def store_unfinished(self) -> None:
        """Store the records of open requests and jobs, or give them to the catcher."""
        ...


_catchers: list[Catcher] = []
_sources: WeakValueDictionary[int, Source] = WeakValueDictionary()


def register(source: Source) -> None:
    """Include this tracker in `collect`, as long as it lives."""
    _sources[id(source)] = source


def collect() -> None:
    """Have all trackers of this process store their records now, in the spool or the active catcher."""
    for reference in _sources.valuerefs():
        source = reference()
        if source is not None:
            source.store_unfinished()


def active() -> Catcher | None:
    """Return the active catcher of all trackers of this process; None: no test captures."""
    return _catchers[-1] if _catchers else None


def begin(catcher: Catcher) -> None:
    """Make this the active catcher; records so far go to the one before it, or the spool."""
    collect()
    _catchers.append(catcher)


def end(catcher: Catcher) -> None:
    """Remove a catcher once it has all records so far; the one before it is active again."""
    collect()
    _catchers.remove(catcher)
