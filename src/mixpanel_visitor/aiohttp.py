"""The door for aiohttp's client: requests to your other services carry the current visitor.

```python
session = aiohttp.ClientSession(middlewares=[visitor_middleware(tracker)])
```

It needs aiohttp 3.12 or later. Only hosts that the setting `visitor_header_hosts` names get the header, also
after a redirect. The service that is called has to name the caller's network in `visitor_header_networks`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .tracking.visitor_header import HEADER, header_for

if TYPE_CHECKING:
    from aiohttp import ClientHandlerType, ClientMiddlewareType, ClientRequest, ClientResponse

    from .tracking.tracker import Tracker

__all__ = ["visitor_middleware"]


def visitor_middleware(tracker: Tracker) -> ClientMiddlewareType:
    """Return a client middleware that adds the current visitor to requests to your services."""

    async def add_visitor(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        request.headers.popall(HEADER, None)
        value = header_for(tracker, request.url.host)
        if value is not None:
            request.headers[HEADER] = value
        return await handler(request)

    return add_visitor
