"""EventLog: arrivals on disk, for the next start of the local Mixpanel.

JSON lines in two files: the newer one is written, and replaces the older one when it is full. So at least the
last `max_lines` arrivals are kept, and at most twice as many. Written without fsync: it survives the end of
the process, not of the machine. Accepted and refused arrivals are kept in the order in which requests end.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson

from .model import ProfileChange, Rejection, StoredEvent
from .profiles import Update
from .rules import Event

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path
    from typing import Protocol

    from .model import Arrival
    from .profiles import ProfileEndpoint
    from .rules import EventEndpoint

    class ArrivalStore(Protocol):
        """What arrivals are added to again: `store.Store`."""

        def add_events(
            self, endpoint: EventEndpoint, events: Sequence[Event], *, token: str, at_ms: int
        ) -> None:
            """Add events that have been accepted."""
            ...

        def add_updates(self, endpoint: ProfileEndpoint, updates: Sequence[Update], *, at_ms: int) -> None:
            """Add profile updates that have been accepted."""
            ...

        def reject(self, rejections: Sequence[Rejection]) -> None:
            """Add what was refused."""
            ...


MAX_BYTES = 256 * 1024 * 1024
"""A file of this size is full too."""


class EventLog:
    """A directory with arrivals; raise OSError where it cannot be written.

    For one process at a time: raise BlockingIOError while another one has it, ValueError without file locks.
    """

    def __init__(self, directory: Path, *, max_lines: int) -> None:
        try:
            import fcntl  # noqa: PLC0415  # Windows has none, and nothing else of the local Mixpanel needs it
        except ImportError:
            raise ValueError(
                "keeping arrivals in a directory needs file locks, which this system has none of: leave it "
                "out, or run this in WSL"
            ) from None
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)  # it may have been made before, with the umask's mode
        self._newer, self._older = directory / "newer.jsonl", directory / "older.jsonl"
        self._max_lines = max_lines
        self._writing = threading.Lock()
        self._owned = _open_privately(directory / "lock")
        try:
            fcntl.flock(self._owned, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._owned.close()
            raise
        self._lines = sum(1 for _ in _lines(self._newer))
        for path in (self._older, self._newer):
            if path.exists():
                path.chmod(0o600)
        self._file = _open_privately(self._newer)
        if self._file.tell() and not self._newer.read_bytes().endswith(b"\n"):
            self._file.write(b"\n")  # the last one was killed in the middle of a line

    def replay(self, store: ArrivalStore) -> None:
        """Add all kept arrivals to the store; skip incomplete lines."""
        for line in (*_lines(self._older), *_lines(self._newer)):
            try:
                _restore(store, orjson.loads(line))
            except (ValueError, KeyError, TypeError):
                continue

    def write(self, arrivals: Sequence[Arrival]) -> None:
        """Append these arrivals."""
        text = b"".join(orjson.dumps(each) + b"\n" for each in map(_as_json, arrivals))
        with self._writing:
            self._file.write(text)
            self._file.flush()
            self._lines += len(arrivals)
            if self._lines >= self._max_lines or self._file.tell() >= MAX_BYTES:
                self._file.close()
                self._newer.replace(self._older)
                self._start()

    def clear(self) -> None:
        """Delete all arrivals."""
        with self._writing:
            self._file.close()
            self._older.unlink(missing_ok=True)
            self._newer.unlink(missing_ok=True)
            self._start()

    def close(self) -> None:
        """Release the directory for other processes."""
        with self._writing:
            self._file.close()
            self._owned.close()

    def _start(self) -> None:
        self._file = _open_privately(self._newer)
        self._lines = 0


def _open_privately(path: Path) -> BinaryIO:
    # Users' events are private to this account, whatever the umask is.
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab")


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield from file
    except FileNotFoundError:
        return


def _as_json(arrival: Arrival) -> dict[str, Any]:
    match arrival:
        case StoredEvent(event=event):
            fields: Iterable[Any] = (event.name, event.time_ms, event.distinct_id, event.insert_id)
            text = event.properties.decode()
            at_ms, token = arrival.received_at_ms, arrival.token
            return {"kind": arrival.endpoint, "said": [*fields, text], "at": at_ms, "token": token}
        case ProfileChange(update=update):
            fields = (update.token, update.group_key, update.profile_id, update.operation, update.operand)
            return {"kind": arrival.endpoint, "said": [*fields], "at": arrival.received_at_ms}
        case Rejection():
            record = None if arrival.record is None else arrival.record.decode()
            fields = (arrival.endpoint, arrival.status, arrival.message, arrival.index, arrival.field)
            return {"kind": "-", "said": [*fields, arrival.insert_id, record], "at": arrival.received_at_ms}


def _restore(store: ArrivalStore, entry: dict[str, Any]) -> None:
    kind, at_ms = entry["kind"], entry["at"]
    if kind in ("import", "track"):
        name, time_ms, distinct_id, insert_id, text = entry["said"]
        event = Event(
            name=name, time_ms=time_ms, distinct_id=distinct_id, insert_id=insert_id, properties=text.encode()
        )
        store.add_events(kind, [event], token=entry.get("token", ""), at_ms=at_ms)
    elif kind in ("engage", "groups"):
        token, group_key, profile_id, operation, operand = entry["said"]
        update = Update(
            token=token, group_key=group_key, profile_id=profile_id, operation=operation, operand=operand
        )
        store.add_updates(kind, [update], at_ms=at_ms)
    else:
        endpoint, status, message, index, field, insert_id, record = entry["said"]
        rejection = Rejection(
            endpoint=endpoint,
            status=status,
            message=message,
            index=index,
            field=field,
            insert_id=insert_id,
            record=None if record is None else record.encode(),
            received_at_ms=at_ms,
        )
        store.reject([rejection])
