"""PassThrough: requests of the browser SDK, passed on to Mixpanel: feature flags, settings, reports.

The caller waits, so the time-out is short, responses are small, and no request waits for a connection. It
shares nothing with delivery, which a late response must not hold up.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections import deque
from typing import TYPE_CHECKING

from .http_client import MixpanelAPI, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TIMEOUT_S = 2.0
"""The SDK gives its settings half a second, and its flags as long as the browser waits."""

MAX_CONNECTIONS = 4
CACHE_S = 60.0
CACHED_RESPONSES = 16
CACHED_BYTES = 65_536

_UNCACHEABLE = re.compile(r"no-store|no-cache|private|max-age\s*=\s*0\b", re.IGNORECASE)


class PassThrough:
    """Asks over a few connections of its own, made by `connect` when they are needed; for many threads.

    A response is cached for a minute if the caller says that it is the same for every visitor, and Mixpanel
    allows it.
    """

    def __init__(
        self,
        connect: Callable[[], MixpanelAPI],
        *,
        monotonic: Callable[[], float] = time.monotonic,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._connect = connect
        self._monotonic = monotonic
        self._timeout_s = timeout_s
        self._idle: deque[MixpanelAPI | None] = deque([None] * MAX_CONNECTIONS)
        self._cache: dict[str, tuple[float, Response]] = {}

    def ask(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        *,
        is_shared: bool = False,
    ) -> Response:
        """Return Mixpanel's response, or one with a `failure`; `is_shared`: it is the same for every visitor.

        `target` is path and query.
        """
        if is_shared and (cached := self._cache.get(target)) is not None:
            until_s, response = cached
            if self._monotonic() < until_s:
                return response
        try:
            connection = self._idle.popleft()
        except IndexError:
            return Response(status=0, failure="refused: as many requests as allowed are under way already")
        try:
            connection = connection or self._connect()
            response = connection.request(method, target, headers, body, timeout_s=self._timeout_s)
        finally:
            self._idle.append(connection)
        if is_shared:
            self._cache_response(target, response)
        return response

    def close(self) -> None:
        """Close the connections that are not in use; the next request opens new ones."""
        for connection in list(self._idle):
            if connection is not None:
                connection.close(0.0)

    def _cache_response(self, target: str, response: Response) -> None:
        cache_control = response.headers.get("cache-control", "")
        if response.status != 200 or len(response.body) > CACHED_BYTES or _UNCACHEABLE.search(cache_control):
            return
        if len(self._cache) >= CACHED_RESPONSES:
            with contextlib.suppress(StopIteration, RuntimeError, KeyError):  # another thread was faster
                del self._cache[next(iter(self._cache))]
        self._cache[target] = (self._monotonic() + CACHE_S, response)
