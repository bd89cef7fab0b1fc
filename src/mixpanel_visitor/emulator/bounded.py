"""Bounded: how a table that must not grow for ever forgets."""

from __future__ import annotations

from itertools import islice
from typing import Any


def forget_first(table: dict[Any, Any]) -> None:
    """Take out what was put in first: a tenth of the table, at least one.

    So much at once, because finding the first key of a dict that has lost its first keys takes time. An
    OrderedDict does not have that, but is slower and larger for all that is never forgotten.
    """
    for key in list(islice(table, 1 + len(table) // 10)):
        del table[key]
