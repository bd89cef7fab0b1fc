"""Document: the form in which processes share definitions: a line of metadata, and the definitions."""

from __future__ import annotations

import json
from dataclasses import dataclass

VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedDefinitions:
    """Definitions (`entries`, JSON), and when they were fetched (wall clock, seconds), with their `etag`."""

    entries: bytes
    fetched_at_s: float
    etag: str = ""

    def encode(self) -> bytes:
        """Return the document."""
        head = {"version": VERSION, "fetched_at_s": round(self.fetched_at_s, 3), "etag": self.etag}
        return json.dumps(head).encode() + b"\n" + self.entries

    @classmethod
    def decode(cls, document: bytes) -> SharedDefinitions:
        """Read a document; raise ValueError where it is damaged or of another version."""
        line, newline, entries = document.partition(b"\n")
        head = json.loads(line)
        if not isinstance(head, dict) or not newline or head.get("version") != VERSION:
            raise ValueError("it is of another version, or damaged")
        fetched_at_s, etag = head.get("fetched_at_s"), head.get("etag")
        if not isinstance(fetched_at_s, (int, float)) or not isinstance(etag, str):
            raise ValueError("its first line is damaged")
        return cls(entries=entries, fetched_at_s=fetched_at_s, etag=etag)
