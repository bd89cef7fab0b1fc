"""Crash isolation: how records are sent during whose sending a process has died before.

Pure. One crash may have any cause. After two, the records are suspects: fewer and fewer of them go into one
request, so that the next crash tells more, and they are sent after all others. A record that was alone in a
request when the process died goes to the dead letters.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from .send_queue import MAX_RECORDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

ISOLATE_FROM = 2
CRASH_LIMIT = 5
"""Requests had 2,000 suspects, then 125, 7 and 1: the record of the fifth crash is its cause."""


def most_together(crashes: int) -> int:
    """Return how many records with this many crashes may go into one request."""
    return MAX_RECORDS if crashes < ISOLATE_FROM else max(1, MAX_RECORDS // 16 ** (crashes - 1))


def separate(
    runs: Iterable[Sequence[int]], crash_counts: Mapping[int, int], *, ordered: bool
) -> list[Sequence[int]]:
    """Divide runs so that no part has suspects and others; suspects come last, unless `ordered`."""
    if not crash_counts:
        return list(runs)
    parts = [part for run in runs for part in _divide(run, crash_counts)]
    if not ordered:
        parts.sort(key=lambda part: crash_counts.get(part[0], 0) >= ISOLATE_FROM)
    return parts


def _divide(run: Sequence[int], crash_counts: Mapping[int, int]) -> Iterator[Sequence[int]]:
    for crashes, group in groupby(run, lambda index: crash_counts.get(index, 0)):
        indexes = list(group)
        step = most_together(crashes)
        yield from (indexes[start : start + step] for start in range(0, len(indexes), step))
