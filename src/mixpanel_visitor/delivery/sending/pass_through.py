"""PassThrough: what the browser SDK asks Mixpanel for, asked on its behalf: feature flags, settings, reports.

The caller waits, so everything is short: the time-out, the line of those who wait for a connection (there is
none), and the answer. It shares nothing with delivery, which an answer that is late must not hold up.
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
CACHED_ANSWERS = 16
CACHED_BYTES = 65_536

_NOT_KEPT = re.compile(r"no-store|no-cache|private|max-age\s*=\s*0\b", re.IGNORECASE)


class PassThrough:
    """Asks over a few connections of its own, made by `connect` when they are needed; for many threads.

    Answers are remembered for a minute where the caller says that they are the same for everybody, and
    Mixpanel does not say otherwise.
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
        self._remembered: dict[str, tuple[float, Response]] = {}

    def ask(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        *,
        is_shared: bool = False,
    ) -> Response:
        """Return Mixpanel's answer, or one with a `failure`; `is_shared`: it is the same for everybody.

        `target` is path and query.
        """
        if is_shared and (remembered := self._remembered.get(target)) is not None:
            until_s, response = remembered
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
            self._remember(target, response)
        return response

    def close(self) -> None:
        """Close the connections that nobody uses; the next request opens new ones."""
        for connection in list(self._idle):
            if connection is not None:
                connection.close(0.0)

    def _remember(self, target: str, response: Response) -> None:
        says = response.headers.get("cache-control", "")
        if response.status != 200 or len(response.body) > CACHED_BYTES or _NOT_KEPT.search(says):
            return
        if len(self._remembered) >= CACHED_ANSWERS:
            with contextlib.suppress(StopIteration, RuntimeError, KeyError):  # another thread was faster
                del self._remembered[next(iter(self._remembered))]
        self._remembered[target] = (self._monotonic() + CACHE_S, response)
