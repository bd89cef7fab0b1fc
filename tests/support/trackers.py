"""Trackers for tests: nothing leaves, and what was stored can be looked at."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import orjson

from mixpanel_visitor.core.identity.visitor_cookie import VisitorCookie, VisitorCookieCodec
from mixpanel_visitor.delivery.memory import MemorySpool
from mixpanel_visitor.delivery.sending.sender import Sender
from mixpanel_visitor.tracking.dependencies import Dependencies
from mixpanel_visitor.tracking.tracker import Tracker

from .responses import cookie_name

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Sequence

    from mixpanel_visitor.records import Record

NOW_S = 1_763_900_000.5
TOKEN = "0123456789abcdef0123456789abcdef"
SECRET_KEY = "a-key-of-some-length"
COOKIE = cookie_name(TOKEN)


class RememberingSpool(MemorySpool):
    """The memory spool, with a list of everything that was ever put into it."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[Record] = []

    def put(self, records: Sequence[Record]) -> None:
        """Store, and remember."""
        super().put(records)
        self.records.extend(records)

    def messages(self, endpoint: str) -> list[dict[str, Any]]:
        """Give what was put for an endpoint, decoded."""
        return [orjson.loads(record.body) for record in self.records if record.endpoint == endpoint]

    @property
    def events(self) -> list[dict[str, Any]]:
        """Give the events that were put, decoded."""
        return self.messages("import")

    @property
    def names(self) -> list[str]:
        """Give the names of the events that were put."""
        return [event["event"] for event in self.events]


def known(
    device_id: str = "6f1c2a3b-4d5e-4f60-8a7b-9c0d1e2f3a4b", *, token: str = TOKEN, **more: Any
) -> dict[str, str]:
    """Return the Cookie header of a visitor whom a `recording_tracker` of the token has seen before."""
    name = cookie_name(token)
    codec = VisitorCookieCodec(
        [SECRET_KEY], token=token, name=name, domain=None, max_age_s=31_536_000, count=lambda _name: None
    )
    visitor_cookie = VisitorCookie(
        **{"device_id": device_id, "issued_at_s": int(NOW_S), "sdk_cookie_sent": True, **more}
    )
    return {"cookie": f"{name}={codec.encode(visitor_cookie)}"}


def recording_tracker(
    *, now_s: float = NOW_S, clock: Callable[[], float] | None = None, **given: Any
) -> tuple[Tracker, RememberingSpool]:
    """Build a tracker that only spools, with a clock that stands (or `clock`) and IDs that count up."""
    spool = RememberingSpool()
    numbers = count(1)
    parts = Dependencies(
        clock=clock or (lambda: now_s),
        fresh_id=lambda: f"00000000-0000-4000-8000-{next(numbers):012}",
        insert_id=lambda: f"insert-{next(numbers)}",
        spool=spool,
    )
    settings = {"token": TOKEN, "secret_key": SECRET_KEY, "spool": "memory:", "deliver": False}
    return Tracker(parts=parts, **{**settings, **given}), spool


def end_abandoned_senders(threads: Iterable[threading.Thread]) -> None:
    """End those of these threads whose tracker is gone: by the hundred they cost half of the processor."""
    for thread in threads:
        sender = getattr(getattr(thread, "_target", None), "__self__", None)
        if isinstance(sender, Sender) and sender._run_of_thread.retired is not None:
            sender._run_of_thread.stopping = True
            sender._state.notifications.wake()
