"""InFlightLog: what the leader is sending at this moment, so that the next one learns what killed it.

A record may end the process that handles it: a compressor that crashes, memory that is not there. The next
leader finds in the diary what was handled, and counts the deaths; `sending/crash_isolation.py` says
what follows. It finds as well what must not be sent twice and had no answer yet. It is written twice or three
times for each request, with one small write, and not synced: it outlives the process only.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

import orjson

from mixpanel_visitor.records import ENDPOINTS

from .segments import NO_LINKS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mixpanel_visitor.records import Endpoint

MAX_STRETCHES = 256
"""So many stretches with deaths are remembered; the oldest are forgotten first."""


class RecordRange(NamedTuple):
    """Records of a lane in a segment, from the first offset to the last, and deaths in their company."""

    segment: str
    endpoint: Endpoint
    first: int
    last: int
    crashes: int = 0


class InFlightLog:
    """The file `sending`. Trouble with it is nobody's trouble: deaths are then not counted."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handled: list[RecordRange] = []
        self._unanswered: list[RecordRange] = []
        self._stretches: list[RecordRange] = []
        self._doubts: list[RecordRange] = []

    def load(self) -> None:
        """Begin a term: what the last leader had in its hands has a death more."""
        handled, known, unanswered, ambiguous = self._read()
        self._handled, self._stretches, self._unanswered = [], known, []
        for stretch in handled:
            crashes = 1 + max((other.crashes for other in known if _overlap(stretch, other)), default=0)
            self._stretches.append(stretch._replace(crashes=crashes))
        self._stretches = self._there(self._stretches)
        self._doubts = self._there(ambiguous + unanswered)
        if handled or unanswered:
            self._write()

    def crashes(self, endpoint: Endpoint, segment: str, offset: int) -> int:
        """So many leaders have died with this record in their hands."""
        here = RecordRange(segment, endpoint, offset, offset)
        return max((stretch.crashes for stretch in self._stretches if _overlap(here, stretch)), default=0)

    def in_doubt(self, endpoint: Endpoint, segment: str, offset: int) -> bool:
        """Whether a leader has died with this record, to be sent once, in hand or without its answer."""
        here = RecordRange(segment, endpoint, offset, offset)
        return any(_overlap(here, stretch) for stretch in self._doubts)

    @property
    def has_deaths(self) -> bool:
        """Whether there is any use in asking for deaths."""
        return bool(self._stretches)

    @property
    def has_doubts(self) -> bool:
        """Whether there is any use in asking for doubts."""
        return bool(self._doubts)

    def begin(self, endpoint: Endpoint, places: Iterable[tuple[str, int]], *, once: bool = False) -> None:
        """These, given by segment and offset, are taken in hand; `once`: they must not be sent twice."""
        offsets: dict[str, list[int]] = {}
        for segment, offset in places:
            offsets.setdefault(segment, []).append(offset)
        self._handled = [
            RecordRange(name, endpoint, min(within), max(within)) for name, within in offsets.items()
        ]
        # Not only when they have left: the process may be killed between that and its note of it.
        self._unanswered = self._handled if once else []
        self._write()

    def end(self) -> None:
        """They have left: what happens from here on is not their doing."""
        if self._handled:
            self._handled = []
            self._write()

    def settled(self) -> None:
        """What became of them is known, and noted where that matters."""
        if self._handled or self._unanswered:
            self._handled = []
            self._unanswered = []
            self._write()

    def _there(self, stretches: list[RecordRange]) -> list[RecordRange]:
        found = [stretch for stretch in stretches if (self._path.parent / stretch.segment).exists()]
        return found[-MAX_STRETCHES:]

    def _write(self) -> None:
        lists = (self._handled, self._stretches, self._unanswered, self._doubts)
        text = orjson.dumps([list(map(list, stretches)) for stretches in lists])
        with contextlib.suppress(OSError):
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | NO_LINKS, 0o600)
            try:
                os.pwrite(fd, b"%08x %08x %b\n" % (len(text), crc32(text), text), 0)
            finally:
                os.close(fd)

    def _read(self) -> tuple[list[RecordRange], list[RecordRange], list[RecordRange], list[RecordRange]]:
        with contextlib.suppress(OSError, ValueError, TypeError):
            data = self._path.read_bytes()
            text = data[18 : 18 + int(data[:8], 16)]
            if int(data[9:17], 16) == crc32(text):
                lists = [[_stretch(entry) for entry in entries] for entries in orjson.loads(text)]
                handled, known, unanswered, ambiguous = lists + [[]] * (
                    4 - len(lists)
                )  # at first there were two
                return handled, known, unanswered, ambiguous
        return [], [], [], []


def _stretch(entry: list[object]) -> RecordRange:
    stretch = RecordRange(*entry)  # type: ignore[arg-type]  # what the checksum has vouched for
    if stretch.endpoint not in ENDPOINTS or os.sep in stretch.segment:
        raise ValueError(f"no stretch: {entry!r}")
    return stretch


def _overlap(one: RecordRange, other: RecordRange) -> bool:
    return (
        one.segment == other.segment
        and one.endpoint == other.endpoint
        and one.first <= other.last
        and other.first <= one.last
    )
