"""RateLimit: token buckets for many keys, in bounded memory; the clock is an argument.

Each key has a bucket of at most `burst` units that gains `per_s` a second; a request takes its cost out.
"""

from __future__ import annotations

import contextlib
import ipaddress
from functools import lru_cache

from mixpanel_visitor.core.enrichment.client_address import read_address

VISITOR_PER_S, VISITOR_BURST = 5.0, 150.0
"""One visitor's browser sends a batch every five seconds; several tabs, and a first page, send more."""

ADDRESS_PER_S, ADDRESS_BURST = 100.0, 1_000.0
"""One address may be a whole company's: five hundred people who click at the same time."""

BYTES_PER_UNIT = 16_384
"""A request costs one unit, and one more for each full block of this many bytes."""

SUSPECT_PER_S, SUSPECT_BURST = 1.0, 50.0
"""Bodies from one address, without a signed cookie, that are junk or about other projects or people."""

LARGE_BODY_BYTES = 131_072
"""The SDK's batches have up to 50 events and half this size."""

LARGE_PER_S, LARGE_BURST = 2.0, 30.0
"""Larger bodies, of all senders: each is milliseconds of decoding, in which no page is answered."""

MAX_KEYS = 10_000
"""Of more visitors or addresses those that were silent for longest are forgotten."""

_IPV6_SITE_BITS = 64


class RateLimit:
    """Buckets by key. Without a lock: two threads in one bucket may count one request too few."""

    def __init__(self, *, per_s: float, burst: float, max_keys: int = MAX_KEYS) -> None:
        self._per_s = per_s
        self._burst = burst
        self._max_keys = max_keys
        self._buckets: dict[str, tuple[float, float]] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    def level(self, key: str, now_s: float) -> float:
        """Return how many units a key's bucket holds."""
        level, since_s = self._buckets.get(key, (self._burst, now_s))
        return min(self._burst, level + max(0.0, now_s - since_s) * self._per_s)

    def take(self, key: str, cost: float, now_s: float) -> bool:
        """Take `cost` units out of a key's bucket; False: it has fewer. `now_s` is monotonic."""
        level = self.level(key, now_s)
        # Put in anew at each use, so that the first in the dictionary was silent for longest.
        self._buckets.pop(key, None)
        is_allowed = level >= cost
        self._buckets[key] = (level - cost if is_allowed else level, now_s)
        if len(self._buckets) > self._max_keys:
            with contextlib.suppress(StopIteration, RuntimeError, KeyError):  # another thread was faster
                del self._buckets[next(iter(self._buckets))]
        return is_allowed


def cost_of(body_bytes: int) -> float:
    """Return the units that a request with a body of this size costs."""
    return 1.0 + body_bytes // BYTES_PER_UNIT


@lru_cache(4096)
def address_key(client: str | None) -> str:
    """Return the bucket of an address; one subscriber has a whole /64 of IPv6."""
    address = read_address(client or "")
    if address is None:
        return ""
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((address, _IPV6_SITE_BITS), strict=False))
