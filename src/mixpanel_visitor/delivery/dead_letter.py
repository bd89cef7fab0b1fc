"""DeadLetter: a record that Mixpanel has refused, with the reason, and its form as a line of JSON. Pure."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from mixpanel_visitor.records import ENDPOINTS

from .spool import DeadReason

if TYPE_CHECKING:
    from mixpanel_visitor.records import Endpoint

BATCH_SIZE = 256
"""Dead letters in one call of `on_batch`."""

_RECORD = b',"record":'
ID_DIGITS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A record that was set aside, with the time (milliseconds since 1970) and the reason."""

    time_ms: int
    endpoint: Endpoint
    reason: DeadReason
    body: bytes

    @property
    def id(self) -> str:
        """A hash of all its fields, which names it on the command line and does not change."""
        return hashlib.sha256(encode(self)).hexdigest()[:ID_DIGITS]


def encode(dead_letter: DeadLetter) -> bytes:
    """Return a dead letter as a line of JSON."""
    head = {
        "time_ms": dead_letter.time_ms,
        "endpoint": dead_letter.endpoint,
        "reason": dead_letter.reason.message,
        "field": dead_letter.reason.field,
        "status": dead_letter.reason.status,
    }
    record = dead_letter.body
    if not _is_object(record):
        # As a string the line stays readable, and nothing is lost.
        record = json.dumps(record.decode("utf-8", "surrogateescape")).encode()
    # The bytes of the record, not parsed and encoded again: what is sent again is the same record.
    return json.dumps(head, separators=(",", ":")).encode()[:-1] + _RECORD + record + b"}\n"


def _is_object(body: bytes) -> bool:
    try:
        return isinstance(json.loads(body), dict)
    except (ValueError, RecursionError):
        return False


def decode(line: bytes) -> DeadLetter | None:
    """Return the dead letter of a line; None where it cannot be read."""
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
