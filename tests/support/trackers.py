"""Trackers for tests: nothing leaves, and what was stored can be looked at."""

from __future__ import annotations

import time
from itertools import count
from typing import TYPE_CHECKING, Any

from mixpanel_visitor.core.identity.visitor_cookie import VisitorCookie, VisitorCookieCodec
from mixpanel_visitor.delivery.sending.sender import Sender
from mixpanel_visitor.tracking.dependencies import Dependencies
from mixpanel_visitor.tracking.tracker import Tracker, engine_of

from .facts import facts
from .responses import cookie_name
from .spools import RecordingSpool

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Mapping

    from mixpanel_visitor.delivery.spool import Spool

NOW_S = 1_763_900_000.5
TOKEN = "0123456789abcdef0123456789abcdef"
SECRET_KEY = "a-key-of-some-length"
COOKIE = cookie_name(TOKEN)
DEVICE = "6f1c2a3b-4d5e-4f60-8a7b-9c0d1e2f3a4b"


class WallClock:
    """The wall clock of a `recording_tracker`; it moves only when a test changes `now_s`."""

    def __init__(self) -> None:
        self.now_s = NOW_S

    def __call__(self) -> float:
        """Return Unix time, in seconds."""
        return self.now_s


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


def tracker_into(spool: Spool, *, dependencies: Mapping[str, Any] | None = None, **settings: Any) -> Tracker:
    """Build a tracker that stores into this spool and delivers nothing; it has the real clock and IDs."""
    defaults = {"token": TOKEN, "secret_key": SECRET_KEY, "spool": "memory:", "deliver": False}
    return Tracker(dependencies=Dependencies(spool=spool, **(dependencies or {})), **{**defaults, **settings})


def recording_tracker(
    *,
    now_s: float = NOW_S,
    clock: Callable[[], float] | None = None,
    monotonic: Callable[[], float] = time.monotonic,
    **settings: Any,
) -> tuple[Tracker, RecordingSpool]:
    """Build a tracker with its spool, a clock that stands (or `clock`) and IDs that count up."""
    clock = clock or (lambda: now_s)
    spool = RecordingSpool(waits=True, clock=clock)
    numbers = count(1)
    dependencies = {
        "clock": clock,
        "monotonic": monotonic,
        "fresh_id": lambda: f"00000000-0000-4000-8000-{next(numbers):012}",
        "insert_id": lambda: f"insert-{next(numbers)}",
    }
    return tracker_into(spool, dependencies=dependencies, **settings), spool


def end_abandoned_senders(threads: Iterable[threading.Thread]) -> None:
    """End those of these threads whose tracker is gone: by the hundred they cost half of the processor."""
    for thread in threads:
        sender = getattr(getattr(thread, "_target", None), "__self__", None)
        if isinstance(sender, Sender) and sender._run_of_thread.retired is not None:
            sender._run_of_thread.stopping = True
            sender._state.notifications.wake()


def begin(tracker: Tracker, headers: dict[str, str] | None = None, **more: Any) -> Any:
    """Begin the request of a visitor whom we know."""
    return engine_of(tracker).begin(facts(headers or known(), **more), in_background=False)
