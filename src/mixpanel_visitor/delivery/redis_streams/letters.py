"""Letters: the dead letters of a spool in Redis, in a stream of their own."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import orjson

from mixpanel_visitor.delivery.spool import DeadReason

if TYPE_CHECKING:
    from collections.abc import Callable

    from mixpanel_visitor.delivery.redis_streams.streams import Streams, Taken
    from mixpanel_visitor.records import Endpoint

MAX_LETTERS = 50_000
"""About as many as the journal keeps in its 64 MB: a wrong deployment must not fill the memory of Redis."""

logger = logging.getLogger("mixpanel_visitor")


class Letters:
    """Written by whoever settles a record that Mixpanel will not have; the last `MAX_LETTERS` are kept."""

    def __init__(self, streams: Streams, clock: Callable[[], float]) -> None:
        self._streams = streams
        self._clock = clock

    @property
    def key(self) -> str:
        """The stream that they are in."""
        return self._streams.dead_key

    def write(self, endpoint: Endpoint, body: bytes, reason: DeadReason) -> None:
        """Set one aside."""
        said = {"message": reason.message, "field": reason.field, "status": reason.status}
        fields: dict[Any, Any] = {
            "time_ms": int(self._clock() * 1000),
            "endpoint": endpoint,
            "reason": orjson.dumps(said),
            "body": body,
        }
        self._streams.do(lambda it: it.xadd(self._streams.dead_key, fields, maxlen=MAX_LETTERS))

    def write_unreadable(self, endpoint: Endpoint, taken: Taken, why: str) -> None:
        """Set a whole entry aside, as JSON of its fields in hex digits."""
        logger.error(
            "An entry of the spool in Redis cannot be read (%s, %s: %s). It is in the dead letters.",
            taken.stream,
            taken.entry_id.decode(),
            why,
        )
        raw = {name.hex(): value.hex() for name, value in taken.fields.items()}
        self.write(endpoint, orjson.dumps(raw), DeadReason(message=f"damaged: {why}"))
