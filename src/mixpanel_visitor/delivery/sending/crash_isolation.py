"""Crash isolation: how records are sent in whose company a leader has died before.

Pure. One death may have any reason. After two, the search begins: ever fewer of them go into one request, so
that a next death tells more, and they go behind all others. One that was alone when the process died goes to
the dead letters.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from .send_queue import MAX_RECORDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

ISOLATE_FROM = 2
CRASH_LIMIT = 5
"""2,000 records together, then 125, 7, and 1: the fifth death was one's own."""


def most_together(crashes: int) -> int:
    """Return how many records with this many crashes may go into one request."""
    return MAX_RECORDS if crashes < ISOLATE_FROM else max(1, MAX_RECORDS // 16 ** (crashes - 1))


def separate(
    runs: Iterable[Sequence[int]], crash_counts: Mapping[int, int], *, ordered: bool
) -> list[Sequence[int]]:
    """Cut runs so that suspects are apart from others; `ordered`: all stay in their order."""
    if not crash_counts:
        return list(runs)
    parts = [part for run in runs for part in _parts(run, crash_counts)]
    if not ordered:
        parts.sort(key=lambda part: crash_counts.get(part[0], 0) >= ISOLATE_FROM)
    return parts


def _parts(run: Sequence[int], crash_counts: Mapping[int, int]) -> Iterator[Sequence[int]]:
    for crashes, group in groupby(run, lambda index: crash_counts.get(index, 0)):
        indexes = list(group)
        step = most_together(crashes)
        yield from (indexes[start : start + step] for start in range(0, len(indexes), step))
