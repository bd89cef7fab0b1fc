"""JSON values: lists and objects that are JSON already, read level by level.

Functions in C read each level: thousands of lists in a list cost little more than their encoding.
"""

from __future__ import annotations

from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

FLAT_TYPES = frozenset((str, int, float, bool, type(None)))
"""The types of values that contain no others."""

MANY = 16
"""From this many values on, reading them level by level is faster."""

_PLAIN_TYPES = FLAT_TYPES | {list, dict}


class Level:
    """All lists and objects of a value that are equally deep in it."""

    def __init__(self, values: Sequence[Any]) -> None:
        kinds = set(map(type, values))
        self.is_plain = kinds <= _PLAIN_TYPES
        self.lists: list[list[Any]] = []
        self.objects: list[dict[Any, Any]] = []
        if list in kinds:
            self.lists = [value for value in values if type(value) is list]
        if dict in kinds:
            self.objects = [value for value in values if type(value) is dict]

    @cached_property
    def values(self) -> list[Any]:
        """The values in them; check `size` first."""
        return [
            *chain.from_iterable(self.lists),
            *chain.from_iterable(map(dict.values, self.objects)),
        ]

    @property
    def size(self) -> int:
        """The number of values in them."""
        return sum(map(len, self.lists)) + sum(map(len, self.objects))

    @property
    def longest_list(self) -> int:
        """The number of items in the longest list."""
        return max(map(len, self.lists), default=0)

    @property
    def largest_object(self) -> int:
        """The number of names in the largest object."""
        return max(map(len, self.objects), default=0)

    @property
    def names(self) -> list[Any]:
        """The names in the objects."""
        return list(chain.from_iterable(self.objects))


def levels(value: Any) -> Iterator[Level]:
    """Yield the levels of a list or object from the outside in.

    A value that contains itself has no last level: the caller has to stop. After a level that is not plain
    there is no further one.
    """
    level = Level([value])
    while level.lists or level.objects or not level.is_plain:
        yield level
        if not level.is_plain:
            return
        level = Level(level.values)


def is_part_of_itself(read_levels: Iterable[Level], path: Iterable[int]) -> bool:
    """Return whether a value in these levels is also in a level above, or in the path that leads to them.

    Also True for a value that two levels share.
    """
    seen = set(path)
    for level in read_levels:
        ids = {*map(id, level.lists), *map(id, level.objects)}
        if not seen.isdisjoint(ids):
            return True
        seen |= ids
    return False


def chars(values: Sequence[Any]) -> int:
    """Return the length of all strings among these values."""
    kinds = set(map(type, values))
    if str not in kinds:
        return 0
    return sum(map(len, values if len(kinds) == 1 else [value for value in values if type(value) is str]))
