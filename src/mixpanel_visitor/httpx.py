"""The door for httpx: requests to your other services carry the current visitor.

```python
client = httpx.Client(event_hooks={"request": [send_visitor(tracker)]})
client = httpx.AsyncClient(event_hooks={"request": [send_visitor_async(tracker)]})
```

Only hosts that the setting `visitor_header_hosts` names get the header, also after a redirect. The service
that is called has to name the caller's network in `visitor_header_networks`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .tracking.visitor_header import HEADER, header_for

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import httpx

    from .tracking.tracker import Tracker

__all__ = ["send_visitor", "send_visitor_async"]


def send_visitor(tracker: Tracker) -> Callable[[httpx.Request], None]:
    """Return an event hook for `httpx.Client` that adds the current visitor to requests to your services."""

    def add_visitor(request: httpx.Request) -> None:
        # A redirect copies the headers of the request before, whose host may have been another.
        request.headers.pop(HEADER, None)
        value = header_for(tracker, request.url.host)
        if value is not None:
            request.headers[HEADER] = value

    return add_visitor


def send_visitor_async(tracker: Tracker) -> Callable[[httpx.Request], Awaitable[None]]:
    """Return the same event hook for `httpx.AsyncClient`."""
    add_visitor = send_visitor(tracker)

    async def add_visitor_async(request: httpx.Request) -> None:
        add_visitor(request)

    return add_visitor_async
