"""Inbox: what has arrived at a local Mixpanel."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from .waiting import PATIENCE_S


class Inbox:
    """The listing of a `LocalMixpanel`, over HTTP as everybody reads it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def events(self) -> list[dict[str, Any]]:
        """Return all events, oldest first."""
        events: list[dict[str, Any]] = self._ask("/_local/events")["events"]
        return sorted(events, key=lambda event: int(event["properties"]["time"]))

    def stats(self) -> dict[str, Any]:
        """Return the counters."""
        return self._ask("/_local/stats")

    def clear(self) -> None:
        """Forget everything."""
        self._ask("/_local/reset", method="POST")

    def _ask(self, path: str, method: str = "GET") -> Any:
        request = urllib.request.Request(self.url + path, method=method)
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
            return json.load(response)
