"""Parts: clock, chance and the collaborators of a tracker; tests and embedders replace some of them."""

from __future__ import annotations

import os
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .delivery.mixpanel_api import Answer
    from .delivery.spool import Spool
    from .records import Endpoint


def _sleep(seconds: float) -> None:
    time.sleep(seconds)  # looked up at the call: gevent may replace it after this module was imported


def _fresh_id() -> str:
    return str(uuid.uuid4())


def _insert_id() -> str:
    return os.urandom(16).hex()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a tracker is built from besides its settings; tests and embedders replace some of it."""

    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    wait: Callable[[float], None] = _sleep
    fresh_id: Callable[[], str] = _fresh_id
    insert_id: Callable[[], str] = _insert_id
    spool: Spool | None = None
    post: Callable[[Endpoint, Sequence[bytes]], Answer] | None = None
