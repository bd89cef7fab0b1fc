"""RedisFlags: definitions of feature flags in Redis, for all machines; one process fetches for all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from . import scripts

if TYPE_CHECKING:
    from .streams import Streams

STAMP, DOCUMENT = b"stamp", b"document"
LEASE_MS = 15_000
"""How long the lease lasts without a renewal: then the process that fetches has died."""


class RedisFlags:
    """A hash with the document and a stamp that changes with it, and the lease to fetch them."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._last_stamp: bytes | None = None

    def leads(self) -> bool:
        """Take or renew the lease, unless another process has it; raise SpoolUnavailableError."""
        arguments = (scripts.LEASE, 1, self._streams.flags_lease_key, self._streams.consumer, LEASE_MS)
        return bool(self._streams.do(lambda client: client.eval(*arguments)))

    def write(self, document: bytes) -> None:
        """Replace the document; raise SpoolUnavailableError."""
        stamp = os.urandom(8).hex().encode()
        fields = {STAMP: stamp, DOCUMENT: document}
        self._streams.do(lambda client: client.hset(self._streams.flags_key, mapping=fields))

    def read_if_changed(self) -> bytes | None:
        """Return the document; None: there is none, or it has not changed since the last call."""
        key = self._streams.flags_key
        stamp = self._streams.do(lambda client: client.hget(key, STAMP))
        if stamp is None or stamp == self._last_stamp:
            return None
        stamp, document = self._streams.do(lambda client: client.hmget(key, [STAMP, DOCUMENT]))
        self._last_stamp = stamp
        return bytes(document) if document is not None else None
