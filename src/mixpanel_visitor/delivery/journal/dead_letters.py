"""Dead letters: records that Mixpanel has refused, with its reasons, as lines of JSON for people to read."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mixpanel_visitor.delivery.journal.segments import write_whole
from mixpanel_visitor.delivery.spool import DeadReason
from mixpanel_visitor.logs import QuietLog
from mixpanel_visitor.records import ENDPOINTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mixpanel_visitor.records import Endpoint

SUFFIX = ".jsonl"
MAX_BYTES = 64 * 2**20
FILES = 8
"""The bound is spread over so many files, so that dropping the oldest drops little."""

_RECORD = b',"record":'


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A record that was set aside: when (milliseconds since 1970), why, and what it was."""

    time_ms: int
    endpoint: Endpoint
    reason: DeadReason
    body: bytes


class DeadLetters:
    """The files of dead letters in `directory`; the oldest file is dropped where they exceed `max_bytes`.

    Nothing stays open between calls. `dropped` counts letters that this object has dropped.
    """

    def __init__(
        self,
        directory: Path | str,
        *,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.time,
        log: QuietLog | None = None,
    ) -> None:
        self.dropped = 0
        self._directory = Path(directory)
        self._max_bytes = max_bytes
        self._clock = clock
        self._log = log or QuietLog()
        self._lock = threading.Lock()
        self._counted: dict[str, tuple[int, int]] = {}

    def add(self, letters: Sequence[DeadLetter]) -> None:
        """Write all of `letters` with one write, or none and raise OSError."""
        if not letters:
            return
        data = b"".join(map(_encode, letters))
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        sizes = self._sizes()
        names = sorted(sizes)
        if names and sizes[names[-1]] + len(data) <= self._max_bytes // FILES:
            name = names[-1]
        else:
            # Later than the newest, whatever the clock says: the order of names is the order of writing.
            newest_ms = int(names[-1].partition("-")[0]) if names else -1
            stamp_ms = max(int(self._clock() * 1000), newest_ms + 1, 0)
            name = f"{stamp_ms:016d}-{os.urandom(4).hex()}{SUFFIX}"
        self._append(self._directory / name, data)
        self._bound()

    def entries(self) -> Iterator[DeadLetter]:
        """All letters, oldest first; lines that cannot be read are left out."""
        for name in sorted(self._sizes()):
            with contextlib.suppress(FileNotFoundError), (self._directory / name).open("rb") as file:
                for line in file:
                    letter = _decode(line)
                    if letter is not None:
                        yield letter

    def count(self) -> int:
        """So many letters are there; looks only at what was added since the last call."""
        with self._lock:
            counted: dict[str, tuple[int, int]] = {}
            for name, size in self._sizes().items():
                seen_bytes, lines = self._counted.get(name, (0, 0))
                if size < seen_bytes:
                    seen_bytes = lines = 0
                with contextlib.suppress(FileNotFoundError):
                    if size > seen_bytes:
                        with (self._directory / name).open("rb") as file:
                            file.seek(seen_bytes)
                            data = file.read(size - seen_bytes)
                        lines += data.count(b"\n")
                        seen_bytes += len(data)
                    counted[name] = (seen_bytes, lines)
            self._counted = counted
            return sum(lines for _, lines in counted.values())

    def _append(self, path: Path, data: bytes) -> None:
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            # Two processes may come to write here while the lead changes hands.
            fcntl.flock(fd, fcntl.LOCK_EX)
            size = os.fstat(fd).st_size
            if size and os.pread(fd, 1, size - 1) != b"\n":
                data = b"\n" + data  # a process died while it wrote: only its own line is lost
            write_whole(fd, data, size=size, path=path)
        finally:
            os.close(fd)

    def _bound(self) -> None:
        sizes = self._sizes()
        total = sum(sizes.values())
        for name in sorted(sizes)[:-1]:
            if total <= self._max_bytes:
                return
            path = self._directory / name
            try:
                lines = path.read_bytes().count(b"\n")
                path.unlink()
            except OSError as error:
                self._log(logging.WARNING, f"bound {path}", "%s cannot be deleted (%s).", path, error)
                return
            total -= sizes[name]
            self.dropped += lines
            self._log(
                logging.WARNING,
                f"dropped {self._directory}",
                "The dead letters in %s have reached their bound of %d bytes: the oldest %d were dropped. "
                "See why Mixpanel refuses so many.",
                self._directory,
                self._max_bytes,
                lines,
            )

    def _sizes(self) -> dict[str, int]:
        sizes: dict[str, int] = {}
        with contextlib.suppress(FileNotFoundError), os.scandir(self._directory) as entries:
            for entry in entries:
                if entry.name.endswith(SUFFIX) and entry.name.partition("-")[0].isdecimal():
                    with contextlib.suppress(FileNotFoundError):
                        sizes[entry.name] = entry.stat(follow_symlinks=False).st_size
        return sizes


def _encode(letter: DeadLetter) -> bytes:
    head = {
        "time_ms": letter.time_ms,
        "endpoint": letter.endpoint,
        "reason": letter.reason.message,
        "field": letter.reason.field,
        "status": letter.reason.status,
    }
    record = letter.body
    if not _is_object(record):
        # Not what was promised. As a string the line stays readable, and nothing is lost.
        record = json.dumps(record.decode("utf-8", "surrogateescape")).encode()
    # The record's own bytes, not parsed and written anew: sent again, it is the same record.
    return json.dumps(head, separators=(",", ":")).encode()[:-1] + _RECORD + record + b"}\n"


def _is_object(body: bytes) -> bool:
    try:
        return isinstance(json.loads(body), dict)
    except (ValueError, RecursionError):
        return False


def _decode(line: bytes) -> DeadLetter | None:
    try:
        fields = json.loads(line)
        record = fields["record"]
        if fields["endpoint"] not in ENDPOINTS:
            return None
        if isinstance(record, str):
            body = record.encode("utf-8", "surrogateescape")
        else:
            # A quotation mark within a string is escaped, so that the first of these is the real one.
            body = line[line.index(_RECORD) + len(_RECORD) :].rstrip()[:-1]
        return DeadLetter(
            time_ms=int(fields["time_ms"]),
            endpoint=cast("Endpoint", fields["endpoint"]),
            reason=DeadReason(
                message=str(fields["reason"]), field=str(fields["field"]), status=int(fields["status"])
            ),
            body=body,
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
