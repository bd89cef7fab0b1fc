"""Stream: arrivals as server-sent events, a bounded number four times a second.

It polls the store instead of listening: a page costs the same whatever arrives, and events that it missed
between two messages are counted and not sent.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from .http import Reply
from .json_api import event_json, rejection_json, two_ids_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .http import Request
    from .store import Store

EVERY_S = 0.25
MAX_AT_ONCE = 40
MAX_AT_FIRST = 300
MAX_REJECTIONS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """The live streams of one store; `stopped` ends all of them."""

    store: Store
    stopped: threading.Event = field(default_factory=threading.Event)

    def events(self, _request: Request) -> Reply:
        """`GET /_local/stream`: messages until either side leaves; the first one has `first` true.

        Each has `stats`, the new `events` (newest last), and when there are other ones than before the last
        refused (`rejected`) and the visits with two IDs (`two_ids`). `skipped` new events were not sent.
        """
        return Reply(content_type="text/event-stream", stream=self._messages())

    def _messages(self) -> Iterator[bytes]:
        page_state = _PageState(self.store)
        yield b"retry: 1000\n\n"
        while not self.stopped.is_set():
            message = page_state.next_message()
            # Write a comment at least: only a write notices that the client is gone.
            yield b": \n\n" if message is None else b"data: " + orjson.dumps(message) + b"\n\n"
            self.stopped.wait(EVERY_S)


class _PageState:
    """What one page has received so far."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._epoch = 0
        self._stats: dict[str, Any] = {}
        self._last = 0
        self._rejections: tuple[int, int] = (-1, 0)

    def next_message(self) -> dict[str, Any] | None:
        epoch, stats = self._store.epoch, self._store.stats()
        first = epoch != self._epoch
        if stats == self._stats and not first:
            return None
        if first:
            self._last, self._rejections = 0, (-1, 0)
        self._epoch, self._stats = epoch, stats
        events = self._store.events(limit=MAX_AT_FIRST if first else MAX_AT_ONCE, after=self._last)
        message: dict[str, Any] = {"first": first, "stats": stats, "skipped": 0, "events": []}
        if events:
            arrived = events[-1].number - self._last
            message["events"] = [event_json(each) for each in events]
            message["skipped"] = 0 if first else arrived - len(events)
            self._last = events[-1].number
        rejected = self._store.rejections(limit=MAX_REJECTIONS)
        newest = (stats["refusals"], len(rejected))
        if newest != self._rejections:
            self._rejections = newest
            message["rejected"] = [rejection_json(each) for each in rejected]
        message["two_ids"] = [two_ids_json(each) for each in self._store.two_ids()[-20:]]
        return message
