"""InFlightLog: what the leader is sending at this moment, so that the next leader learns what killed it.

A record may end the process that handles it, as in a compressor that crashes. The next leader reads here what
was being sent, and counts the crashes; `sending/crash_isolation.py` acts on them. It also reads which records
must not be sent twice and had no response yet. The file is written two or three times for each request, with
one small write, and not synced: it survives the process, but no power failure.
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

MAX_RANGES = 256
"""The most ranges with crashes to remember; the oldest are forgotten first."""


class RecordRange(NamedTuple):
    """Records of one endpoint in a segment, first to last offset, and how many leaders died sending them."""

    segment: str
    endpoint: Endpoint
    first: int
    last: int
    crashes: int = 0


class InFlightLog:
    """The file `sending`. Where it cannot be read or written, crashes are not counted; nothing else fails."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sending: list[RecordRange] = []
        self._unresolved: list[RecordRange] = []
        self._crashed: list[RecordRange] = []
        self._ambiguous: list[RecordRange] = []

    def load(self) -> None:
        """Begin a term as leader: count one crash more for what the last leader was sending."""
        sending, crashed, unresolved, ambiguous = self._read()
        self._sending, self._crashed, self._unresolved = [], crashed, []
        for range_ in sending:
            crashes = 1 + max((other.crashes for other in crashed if _overlap(range_, other)), default=0)
            self._crashed.append(range_._replace(crashes=crashes))
        self._crashed = self._existing(self._crashed)
        self._ambiguous = self._existing(ambiguous + unresolved)
        if sending or unresolved:
            self._write()

    def crashes(self, endpoint: Endpoint, segment: str, offset: int) -> int:
        """Return how many leaders have died while they were sending this record."""
        record = RecordRange(segment, endpoint, offset, offset)
        return max((range_.crashes for range_ in self._crashed if _overlap(record, range_)), default=0)

    def is_ambiguous(self, endpoint: Endpoint, segment: str, offset: int) -> bool:
        """Return whether a leader died before the outcome of this record, which must not be sent twice."""
        record = RecordRange(segment, endpoint, offset, offset)
        return any(_overlap(record, range_) for range_ in self._ambiguous)

    @property
    def has_crashes(self) -> bool:
        """True where some record has crashes."""
        return bool(self._crashed)

    @property
    def has_ambiguous(self) -> bool:
        """True where some record is ambiguous."""
        return bool(self._ambiguous)

    def note_sending(
        self, endpoint: Endpoint, locations: Iterable[tuple[str, int]], *, once: bool = False
    ) -> None:
        """Note that these records, by segment and offset, are being sent; `once`: not to be sent twice."""
        by_segment: dict[str, list[int]] = {}
        for segment, offset in locations:
            by_segment.setdefault(segment, []).append(offset)
        self._sending = [
            RecordRange(name, endpoint, min(offsets), max(offsets)) for name, offsets in by_segment.items()
        ]
        # Before they are sent: the process may be killed between sending and a later note.
        self._unresolved = self._sending if once else []
        self._write()

    def note_sent(self) -> None:
        """Note that the records were sent: they are not the cause of a later crash."""
        if self._sending:
            self._sending = []
            self._write()

    def note_settled(self) -> None:
        """Note that the records are settled."""
        if self._sending or self._unresolved:
            self._sending = []
            self._unresolved = []
            self._write()

    def _existing(self, ranges: list[RecordRange]) -> list[RecordRange]:
        existing = [range_ for range_ in ranges if (self._path.parent / range_.segment).exists()]
        return existing[-MAX_RANGES:]

    def _write(self) -> None:
        lists = (self._sending, self._crashed, self._unresolved, self._ambiguous)
        text = orjson.dumps([list(map(list, ranges)) for ranges in lists])
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
                lists = [[_range_of(entry) for entry in entries] for entries in orjson.loads(text)]
                # Older versions wrote only the first two lists.
                sending, crashed, unresolved, ambiguous = lists + [[]] * (4 - len(lists))
                return sending, crashed, unresolved, ambiguous
        return [], [], [], []


def _range_of(entry: list[object]) -> RecordRange:
    range_ = RecordRange(*entry)  # type: ignore[arg-type]  # the checksum is right
    if range_.endpoint not in ENDPOINTS or os.sep in range_.segment:
        raise ValueError(f"no range: {entry!r}")
    return range_


def _overlap(one: RecordRange, other: RecordRange) -> bool:
    return (
        one.segment == other.segment
        and one.endpoint == other.endpoint
        and one.first <= other.last
        and other.first <= one.last
    )
