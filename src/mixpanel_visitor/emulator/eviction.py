"""Eviction: bounded tables drop their oldest entries."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

_T = TypeVar("_T")


def forget_first(table: dict[Any, Any]) -> None:
    """Remove the oldest tenth of a table, at least one entry.

    A tenth at once, because finding the first key of a dict that has lost its first keys takes time. An
    OrderedDict does not have that problem, but is slower and larger.
    """
    for key in list(islice(table, 1 + len(table) // 10)):
        del table[key]


def last_of(items: Iterable[_T], limit: int | None) -> list[_T]:
    """Return the last items, at most `limit`; None: all.

    >>> last_of("abc", 2)
    ['b', 'c']
    """
    all_items = list(items)
    return all_items if limit is None else all_items[max(0, len(all_items) - limit) :]
