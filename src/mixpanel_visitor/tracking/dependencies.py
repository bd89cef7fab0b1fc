"""Dependencies: clock, random IDs and collaborators of a tracker; tests and embedders replace some."""

from __future__ import annotations

import os
import time
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from mixpanel_visitor.process.fork import fork_detector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mixpanel_visitor.delivery.flags.fetcher import Answer
    from mixpanel_visitor.delivery.sending.http_client import Response
    from mixpanel_visitor.delivery.spool import Spool
    from mixpanel_visitor.process.fork import ForkDetector
    from mixpanel_visitor.records import Endpoint


def _sleep(seconds: float) -> None:
    time.sleep(seconds)  # looked up at each call: gevent may replace it later


_VARIANT = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))


def _fresh_id() -> str:
    """Draw a random UUID (RFC 9562, 5.4) and write it as `uuid.uuid4` does, in a third of the time."""
    digits = os.urandom(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{_VARIANT[digits[16]]}{digits[17:20]}-{digits[20:]}"


class InsertIds:
    """Makes `$insert_id`s: 16 hex digits of this process, drawn once, and 16 that count up.

    A random ID for each would cost a system call, and so would a look at the process ID.
    """

    _state: tuple[ForkDetector, Iterator[str]]

    def __init__(self) -> None:
        self._draw()

    def _draw(self) -> Iterator[str]:
        counter = count(int.from_bytes(os.urandom(7)))
        ids = map(f"{os.urandom(8).hex()}%016x".__mod__, counter)
        # One assignment, for several threads may be here; the parent's detector is not changed.
        self._state = (fork_detector(), ids)
        return ids

    def __call__(self) -> str:
        """Return the next one; a forked child draws its own."""
        detector, ids = self._state
        if not detector[0]:
            ids = self._draw()
        return next(ids)


_insert_id = InsertIds().__call__  # bound: an instance is called more slowly


class Dependencies(NamedTuple):
    """What a tracker is built from besides its settings; tests and embedders replace some of it."""

    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    wait: Callable[[float], None] = _sleep
    fresh_id: Callable[[], str] = _fresh_id
    insert_id: Callable[[], str] = _insert_id
    spool: Spool | None = None
    post: Callable[[Endpoint, Sequence[bytes]], Response] | None = None
    fetch_flags: Callable[[str], Answer] | None = None
