"""CommittedOffsets: how far each segment is settled, in one small file that is replaced as a whole.

Only the leader writes it. Without it, or with an old one, records are delivered again and nothing is lost.
"""

from __future__ import annotations

import contextlib
import json
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

from mixpanel_visitor.records import ENDPOINTS

from .directory import fix_for, is_transient
from .segments import create_temporary

if TYPE_CHECKING:
    from pathlib import Path

    from mixpanel_visitor.observability.rate_limited_log import RateLimitedLog
    from mixpanel_visitor.records import Endpoint

KEEP_RETIRED_MS = 3_600_000
MAX_RETIRED = 512
"""The most entries of deleted segments to keep, from which the writers learn what became of their records."""

_VERSION = 1


class SegmentCounts(NamedTuple):
    """How many records of a segment have been delivered, are dead letters, and are claimed now."""

    delivered: int
    dead: int
    claimed: int = 0


@dataclass(slots=True, kw_only=True)
class Progress:
    """How far one segment is settled: for each endpoint, all records that start below its mark.

    `retired_ms` is when the segment was found to be deleted; None while it exists.
    """

    marks: dict[Endpoint, int] = field(default_factory=lambda: dict.fromkeys(ENDPOINTS, 0))
    delivered: int = 0
    dead: int = 0
    retired_ms: int | None = None


class CommittedOffsets:
    """The contents of the file `acks.json`: `segments` by name, saved where they were changed."""

    def __init__(self, path: Path, log: RateLimitedLog) -> None:
        self.path = path
        self.segments: dict[str, Progress] = {}
        self._log = log
        self._changed = False

    def load(self) -> bool:
        """Read the file; a missing one is empty, a damaged one too, but that is logged.

        Return False where it cannot be read for now: then what was loaded before still holds.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            self.segments, self._changed = {}, False
            return True
        except OSError as error:
            message = "%s cannot be read (%s). %s"
            self._log(logging.WARNING, f"read {self.path}", message, self.path, error, fix_for(error))
            return not is_transient(error)
        self.segments, self._changed = {}, False
        try:
            self.segments = _decode(data)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            self._log(
                logging.WARNING,
                f"damaged {self.path}",
                "%s is damaged (%s): how far delivery had come is forgotten, and what is still in the spool "
                "is delivered again. Mixpanel drops such duplicates. Nothing needs to be done.",
                self.path,
                error,
            )
        return True

    def update(self, name: str, progress: Progress) -> None:
        """Remember how far a segment is settled."""
        if self.segments.get(name) != progress:
            self.segments[name] = progress
            self._changed = True

    def counts(self) -> dict[str, SegmentCounts]:
        """Return the counts of each segment; `claimed` is always 0, the file does not contain it."""
        return {name: SegmentCounts(entry.delivered, entry.dead) for name, entry in self.segments.items()}

    def mark_deleted(self, name: str, now_ms: int) -> None:
        """Note that the segment is deleted; its counts stay for an hour, for the process that wrote it."""
        progress = self.segments.get(name)
        if progress is not None and progress.retired_ms is None:
            # No reason to save: a process that loads the file without this sees that the segment is deleted.
            progress.retired_ms = now_ms

    def prune(self, now_ms: int) -> None:
        """Forget segments that were deleted over an hour ago, and the oldest of more than `MAX_RETIRED`."""
        retired = sorted(
            (entry.retired_ms, name) for name, entry in self.segments.items() if entry.retired_ms is not None
        )
        surplus = len(retired) - MAX_RETIRED
        for index, (retired_ms, name) in enumerate(retired):
            if index < surplus or now_ms - retired_ms > KEEP_RETIRED_MS:
                del self.segments[name]
                self._changed = True

    def save(self) -> None:
        """Replace the file if anything changed; if that fails, log it and keep the changes in memory."""
        if not self._changed:
            return
        temporary = None
        try:
            fd, temporary = create_temporary(self.path)
            with open(fd, "wb") as file:  # noqa: PTH123  # a Path cannot be opened with a mode of its own
                file.write(_encode(self.segments))
            temporary.replace(self.path)
            self._changed = False
        except OSError as error:
            if temporary is not None:
                with contextlib.suppress(OSError):
                    temporary.unlink()
            self._log(
                logging.WARNING,
                f"write {self.path}",
                "%s cannot be written (%s). Delivery goes on; if this process dies now, what it has "
                "delivered since is delivered again. %s",
                self.path,
                error,
                fix_for(error),
            )


def _encode(segments: dict[str, Progress]) -> bytes:
    entries: dict[str, dict[str, int]] = {}
    for name, progress in sorted(segments.items()):
        entry = {endpoint[0]: progress.marks[endpoint] for endpoint in ENDPOINTS}
        entry |= {"delivered": progress.delivered, "dead": progress.dead}
        if progress.retired_ms is not None:
            entry["retired_ms"] = progress.retired_ms
        entries[name] = entry
    text = _dumps(entries)
    return f'{{"version":{_VERSION},"crc":"{crc32(text.encode()):08x}","segments":{text}}}\n'.encode()


def _decode(data: bytes) -> dict[str, Progress]:
    document = json.loads(data)
    entries = document["segments"]
    if document["version"] != _VERSION:
        raise ValueError(f"its version is {document['version']!r}, not {_VERSION}")
    # A wrong mark would skip records, and a plausible number may be wrong.
    if document["crc"] != f"{crc32(_dumps(entries).encode()):08x}":
        raise ValueError("its checksum is wrong")
    return {name: _progress(entry) for name, entry in entries.items()}


def _progress(entry: dict[str, Any]) -> Progress:
    return Progress(
        marks={endpoint: int(entry[endpoint[0]]) for endpoint in ENDPOINTS},
        delivered=int(entry["delivered"]),
        dead=int(entry["dead"]),
        retired_ms=entry.get("retired_ms"),
    )


def _dumps(entries: dict[str, Any]) -> str:
    return json.dumps(entries, separators=(",", ":"))
