"""RedisTombstones: the opt-outs that all machines share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mixpanel_visitor.delivery.subject_digest import owners

from . import scripts

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from .in_flight import Entry
    from .streams import Streams

REVISION = b"revision"
KEEP_S = 30 * 86_400
_FETCH_EVERY_S = 1.0
_BATCH_SIZE = 500
_FETCH_EVERY_REVISIONS = 1000
"""How often all are fetched, so that old ones are deleted."""


class RedisTombstones:
    """Digests of IDs, each with Redis' time of the opt-out: records put until then are not sent."""

    def __init__(self, streams: Streams, monotonic: Callable[[], float]) -> None:
        self._streams = streams
        self._monotonic = monotonic
        self._until_ms: dict[str, int] = {}
        self._revision = 0
        self._fetched_s: float | None = None

    def add(self, people: Iterable[str]) -> None:
        """Keep every worker from sending the records of these people that were put until now."""
        digests = list(people)

        def call(client: Any) -> tuple[int, int]:
            now_ms, revision = _time_ms(client), 0
            # A script: clients before redis 6.1 have no transactions in a cluster.
            for start in range(0, len(digests), _BATCH_SIZE):
                batch = digests[start : start + _BATCH_SIZE]
                revision = client.eval(
                    scripts.WITHDRAW, 1, self._streams.withdrawn_key, REVISION, now_ms, *batch
                )
            while _time_ms(client) <= now_ms:  # a millisecond: later entries have a later ID
                pass
            return now_ms, revision

        if not digests:
            return
        added: tuple[int, int] = self._streams.do(call)
        until_ms, revision = added
        if revision == self._revision + 1 and revision % _FETCH_EVERY_REVISIONS:
            # No other process has added any since the last fetch: the others, maybe many, are known. Updated
            # in place, because another thread may have fetched all meanwhile.
            self._until_ms.update(dict.fromkeys(digests, until_ms))
            self._revision = revision
        else:
            self._fetch()

    def opted_out_since(self, people: Collection[str], since_ms: int) -> bool:
        """Ask Redis whether any of these people, given as digests, has opted out since then."""
        key, digests = self._streams.withdrawn_key, list(people)
        times_ms = self._streams.do(lambda client: client.hmget(key, digests)) if digests else []
        return any(until_ms is not None and int(until_ms) >= since_ms for until_ms in times_ms)

    def revision(self) -> int:
        """Return the count of withdrawals, at most a second old."""
        self.refresh()
        return self._revision

    def refresh(self) -> None:
        """Fetch from Redis, unless that was done within the last second."""
        if self._fetched_s is None or self._monotonic() - self._fetched_s >= _FETCH_EVERY_S:
            self._fetch()

    def covers(self, entry: Entry, index: int) -> bool:
        """Return whether a record is of a person who has opted out after it was put."""
        if not self._until_ms:
            return False
        put_ms = entry.order[0]
        return any(put_ms <= self._until_ms.get(owner, -1) for owner in owners(entry.bundle.bodies[index]))

    def _fetch(self) -> None:
        self._fetched_s = self._monotonic()
        key = self._streams.withdrawn_key
        revision = int(self._streams.do(lambda client: client.hget(key, REVISION)) or 0)
        if revision == self._revision:
            return

        def call(client: Any) -> dict[bytes, bytes]:
            fields: dict[bytes, bytes] = client.hgetall(key)
            fields.pop(REVISION, None)
            keep_ms = _time_ms(client) - KEEP_S * 1000
            old = [digest for digest, until_ms in fields.items() if int(until_ms) < keep_ms]
            if old:
                client.hdel(key, *old)
            return fields

        fields = self._streams.do(call)
        self._until_ms = {digest.decode(): int(until_ms) for digest, until_ms in fields.items()}
        self._revision = revision


def _time_ms(client: Any) -> int:
    seconds, microseconds = client.time()
    return int(seconds) * 1000 + int(microseconds) // 1000
