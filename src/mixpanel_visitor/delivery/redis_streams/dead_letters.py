"""RedisDeadLetters: the dead letters of a spool in Redis, in a stream of their own."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast

import orjson

from mixpanel_visitor.delivery.dead_letter import BATCH_SIZE, DeadLetter
from mixpanel_visitor.delivery.spool import DeadReason
from mixpanel_visitor.delivery.subject_digest import owners
from mixpanel_visitor.records import ENDPOINTS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence

    from mixpanel_visitor.records import Endpoint

    from .streams import ClaimedEntry, Streams

MAX_DEAD_LETTERS = 50_000
"""About as many as the journal keeps in its 64 MB: a wrong deployment must not fill the memory of Redis."""

logger = logging.getLogger("mixpanel_visitor")


class RedisDeadLetters:
    """The dead letters of one project, written by every worker; the last `MAX_DEAD_LETTERS` are kept."""

    def __init__(self, streams: Streams, clock: Callable[[], float]) -> None:
        self._streams = streams
        self._clock = clock

    @property
    def key(self) -> str:
        """The stream that they are in."""
        return self._streams.dead_key

    def write(self, endpoint: Endpoint, body: bytes, reason: DeadReason) -> None:
        """Write one record, with its reason."""
        reason_fields = {"message": reason.message, "field": reason.field, "status": reason.status}
        fields: dict[Any, Any] = {
            "time_ms": int(self._clock() * 1000),
            "endpoint": endpoint,
            "reason": orjson.dumps(reason_fields),
            "body": body,
        }
        self._streams.do(lambda client: client.xadd(self.key, fields, maxlen=MAX_DEAD_LETTERS))

    def write_unreadable(self, endpoint: Endpoint, entry: ClaimedEntry, problem: str) -> None:
        """Write a whole entry, as JSON of its fields in hex digits."""
        logger.error(
            "An entry of the spool in Redis cannot be read (%s, %s: %s). It is in the dead letters.",
            entry.stream,
            entry.entry_id.decode(),
            problem,
        )
        hex_fields = {name.hex(): value.hex() for name, value in entry.fields.items()}
        self.write(endpoint, orjson.dumps(hex_fields), DeadReason(message=f"damaged: {problem}"))

    def entries(self) -> Iterator[DeadLetter]:
        """Yield all dead letters that can be read, oldest first."""
        for page in self._pages():
            yield from (dead_letter for _, dead_letter in page if dead_letter is not None)

    def take(
        self,
        ids: Container[str],
        on_batch: Callable[[Sequence[DeadLetter]], None] | None = None,
        *,
        unreadable: bool = False,
    ) -> Iterator[int]:
        """Remove the dead letters with these IDs, in batches; yield the size of each batch.

        `on_batch` is called before a batch is removed; if it raises, that batch stays. With `unreadable`,
        entries that cannot be read are removed too, and not counted.
        """
        for page in self._pages():
            chosen = [(key, each) for key, each in page if each is not None and each.id in ids]
            if chosen and on_batch is not None:
                on_batch([dead_letter for _, dead_letter in chosen])
            removed = [entry_id for entry_id, _ in chosen]
            if unreadable:
                removed += [entry_id for entry_id, dead_letter in page if dead_letter is None]
            if removed:
                self._remove(removed)
            if chosen:
                yield len(chosen)

    def withdraw(self, people: Collection[str]) -> None:
        """Remove the dead letters of these people, given as digests."""
        for page in self._pages():
            removed = [key for key, each in page if each and not owners(each.body).isdisjoint(people)]
            if removed:
                self._remove(removed)

    def _remove(self, entry_ids: Sequence[bytes]) -> None:
        self._streams.do(lambda client: client.xdel(self.key, *entry_ids))

    def _pages(self) -> Iterator[list[tuple[bytes, DeadLetter | None]]]:
        page = self._page(b"-")
        while page:
            yield page
            page = self._page(b"(" + page[-1][0])

    def _page(self, start: bytes) -> list[tuple[bytes, DeadLetter | None]]:
        reply = self._streams.do(lambda client: client.xrange(self.key, min=start, count=BATCH_SIZE))
        return [(entry_id, _decode(fields)) for entry_id, fields in reply]


def _decode(fields: Mapping[bytes, bytes]) -> DeadLetter | None:
    try:
        reason_fields = orjson.loads(fields[b"reason"])
        endpoint = fields[b"endpoint"].decode()
        dead_letter = DeadLetter(
            time_ms=int(fields[b"time_ms"]),
            endpoint=cast("Endpoint", endpoint),
            reason=DeadReason(
                message=reason_fields["message"], field=reason_fields["field"], status=reason_fields["status"]
            ),
            body=fields[b"body"],
        )
    except (KeyError, TypeError, ValueError):
        return None
    return dead_letter if endpoint in ENDPOINTS else None
