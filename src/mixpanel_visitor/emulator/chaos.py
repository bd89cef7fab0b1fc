"""Chaos: failures on purpose, to see how a sender handles them."""

from __future__ import annotations

import math
import random
import threading
from typing import TYPE_CHECKING, Any

from .http import PHRASES, error_reply

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .http import Reply

STATUSES = ("401", "413", "429", "500")
KINDS = (*STATUSES, "hang", "lost", "partial")
"""`hang` never answers and closes the connection after `HANG_S`; `lost` takes the records and closes it
without an answer; `partial` refuses every second event of a request."""

HANG_S = 60.0


class NoAnswerError(Exception):
    """The connection is to be closed without an answer."""


class Chaos:
    """Shares of the requests to the ingestion endpoints that fail, by kind; drawn with a `seed`."""

    def __init__(self, rates: Mapping[str, float] | None = None, *, seed: int = 0) -> None:
        self._lock = threading.Lock()
        self.stopped = threading.Event()
        self.set(rates or {}, seed=seed)

    @property
    def rates(self) -> dict[str, float]:
        """The shares by kind."""
        return dict(self._rates)

    def set(self, rates: Mapping[str, Any], *, seed: int = 0) -> None:
        """Set the shares; raise ValueError for an unknown kind or more than 1 in all."""
        for kind, rate in rates.items():
            if kind not in KINDS:
                raise ValueError(f"chaos knows {', '.join(KINDS)}, not {kind!r}")
            if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 <= rate <= 1:
                raise ValueError(f"{kind} must be a number from 0 to 1, not {rate!r}")
        if math.fsum(rates.values()) > 1:
            raise ValueError("the rates must not be more than 1 in all")
        with self._lock:
            self._rates = {kind: float(rate) for kind, rate in rates.items() if rate}
            self._draw = random.Random(seed)  # noqa: S311 - no secret

    def drawn(self) -> str | None:
        """Return the kind of failure of the next request; None: it succeeds."""
        if not self._rates:
            return None
        with self._lock:
            drawn = self._draw.random()
            for kind, rate in self._rates.items():
                drawn -= rate
                if drawn < 0:
                    return kind
        return None

    def hang(self) -> None:
        """Wait for `HANG_S` or the end of the server."""
        self.stopped.wait(HANG_S)
        raise NoAnswerError


def refusal(status: str) -> Reply:
    """Return Mixpanel's answer with this status, with chaos as the reason."""
    headers = (("Retry-After", "1"),) if status == "429" else ()
    phrase = PHRASES.get(int(status), "Too Many Requests")
    return error_reply(int(status), f"{phrase} (chaos)", headers=headers)
