"""Diary: what the leader has in its hands at this moment, so that the next one learns what killed it.

A record may end the process that handles it: a compressor that crashes, memory that is not there. The next
leader finds in the diary what was handled, and counts the deaths; `delivery/suspects.py` says what
follows. It is written twice for each request, with one small write, and not synced: it outlives the
process only.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

import orjson

from mixpanel_visitor.records import ENDPOINTS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mixpanel_visitor.records import Endpoint

MAX_STRETCHES = 256
"""So many stretches with deaths are remembered; the oldest are forgotten first."""


class Stretch(NamedTuple):
    """Records of a lane in a segment, from the first offset to the last, and deaths in their company."""

    segment: str
    endpoint: Endpoint
    first: int
    last: int
    deaths: int = 0


class Diary:
    """The file `sending`. Trouble with it is nobody's trouble: deaths are then not counted."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handled: list[Stretch] = []
        self._stretches: list[Stretch] = []

    def load(self) -> None:
        """Begin a term: what the last leader had in its hands has a death more."""
        handled, known = self._read()
        self._handled, self._stretches = [], known
        for stretch in handled:
            deaths = 1 + max((other.deaths for other in known if _meet(stretch, other)), default=0)
            self._stretches.append(stretch._replace(deaths=deaths))
        self._stretches = [
            stretch for stretch in self._stretches if (self._path.parent / stretch.segment).exists()
        ][-MAX_STRETCHES:]
        if handled:
            self._write()

    def deaths(self, endpoint: Endpoint, segment: str, offset: int) -> int:
        """So many leaders have died with this record in their hands."""
        here = Stretch(segment, endpoint, offset, offset)
        return max((stretch.deaths for stretch in self._stretches if _meet(here, stretch)), default=0)

    @property
    def has_deaths(self) -> bool:
        """Whether there is any use in asking."""
        return bool(self._stretches)

    def begin(self, endpoint: Endpoint, places: Iterable[tuple[str, int]]) -> None:
        """These, given by segment and offset, are taken in hand."""
        ends: dict[str, tuple[int, int]] = {}
        for segment, offset in places:
            first, last = ends.get(segment, (offset, offset))
            ends[segment] = (min(first, offset), max(last, offset))
        self._handled = [Stretch(name, endpoint, first, last) for name, (first, last) in ends.items()]
        self._write()

    def end(self) -> None:
        """They have left: what happens from here on is not their doing."""
        if self._handled:
            self._handled = []
            self._write()

    def _write(self) -> None:
        text = orjson.dumps([list(map(list, stretches)) for stretches in (self._handled, self._stretches)])
        with contextlib.suppress(OSError):
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.pwrite(fd, b"%08x %08x %b\n" % (len(text), crc32(text), text), 0)
            finally:
                os.close(fd)

    def _read(self) -> tuple[list[Stretch], list[Stretch]]:
        with contextlib.suppress(OSError, ValueError, TypeError):
            data = self._path.read_bytes()
            text = data[18 : 18 + int(data[:8], 16)]
            if int(data[9:17], 16) == crc32(text):
                handled, known = orjson.loads(text)
                return [_stretch(entry) for entry in handled], [_stretch(entry) for entry in known]
        return [], []


def _stretch(entry: list[object]) -> Stretch:
    stretch = Stretch(*entry)  # type: ignore[arg-type]  # what the checksum has vouched for
    if stretch.endpoint not in ENDPOINTS or os.sep in stretch.segment:
        raise ValueError(f"no stretch: {entry!r}")
    return stretch


def _meet(one: Stretch, other: Stretch) -> bool:
    return (
        one.segment == other.segment
        and one.endpoint == other.endpoint
        and one.first <= other.last
        and other.first <= one.last
    )
