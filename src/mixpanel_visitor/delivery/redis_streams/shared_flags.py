"""RedisFlags: definitions of feature flags in Redis, for all machines; one process fetches for all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from . import scripts

if TYPE_CHECKING:
    from .streams import Streams

STAMP, DOCUMENT = b"stamp", b"document"
LEASE_MS = 15_000
"""So long after its last look the process that fetches is believed to live."""


class RedisFlags:
    """A hash with the document and a stamp that changes with it, and a lease for who fetches."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._seen: bytes | None = None

    def leads(self) -> bool:
        """Take the lease if it is free, and keep it; raise SpoolUnavailableError."""
        arguments = (scripts.LEASE, 1, self._streams.flags_lease_key, self._streams.consumer, LEASE_MS)
        return bool(self._streams.do(lambda client: client.eval(*arguments)))

    def write(self, document: bytes) -> None:
        """Replace the document; raise SpoolUnavailableError."""
        stamp = os.urandom(8).hex().encode()
        fields = {STAMP: stamp, DOCUMENT: document}
        self._streams.do(lambda client: client.hset(self._streams.flags_key, mapping=fields))

    def read_if_changed(self) -> bytes | None:
        """Return the document; None: there is none, or it is the one that was read last."""
        key = self._streams.flags_key
        stamp = self._streams.do(lambda client: client.hget(key, STAMP))
        if stamp is None or stamp == self._seen:
            return None
        stamp, document = self._streams.do(lambda client: client.hmget(key, [STAMP, DOCUMENT]))
        self._seen = stamp
        return bytes(document) if document is not None else None
