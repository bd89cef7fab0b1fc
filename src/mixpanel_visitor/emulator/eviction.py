"""Eviction: how a table that must not grow for ever forgets, and how much of one is shown."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

_T = TypeVar("_T")


def forget_first(table: dict[Any, Any]) -> None:
    """Take out what was put in first: a tenth of the table, at least one.

    So much at once, because finding the first key of a dict that has lost its first keys takes time. An
    OrderedDict does not have that, but is slower and larger for all that is never forgotten.
    """
    for key in list(islice(table, 1 + len(table) // 10)):
        del table[key]


def last_of(items: Iterable[_T], limit: int | None) -> list[_T]:
    """Return the last ones, at most `limit`; None: all."""
    all_items = list(items)
    return all_items if limit is None else all_items[max(0, len(all_items) - limit) :]
