"""The door for FastAPI: the visitor is a parameter with a type.

```python
app.add_middleware(VisitorMiddleware, token="...", secret_key="...")


@app.post("/signup")
async def signup(visitor: CurrentVisitor):
    visitor.track("Signed up", {"plan": "pro"})
```

It is the same in handlers of HTTP and of WebSocket, `async` or not, and in other dependencies; nothing of it
appears in OpenAPI. In a test, `app.dependency_overrides[get_visitor]` puts another visitor in its place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeAlias

from .errors import MissingExtraError
from .tracking.visitor import Visitor

try:
    from fastapi import Depends, Request, WebSocket

    from .starlette import VisitorMiddleware, VisitorState, current_visitor, get_visitor, visitor_context
except ImportError as error:  # pragma: no cover
    raise MissingExtraError("fastapi", "fastapi") from error

__all__ = [
    "CurrentVisitor",
    "VisitorMiddleware",
    "VisitorRequest",
    "VisitorState",
    "VisitorWebSocket",
    "current_visitor",
    "get_visitor",
    "visitor_context",
]

CurrentVisitor = Annotated[Visitor, Depends(get_visitor)]
"""The type of a parameter that takes the visitor."""

if TYPE_CHECKING:
    VisitorRequest: TypeAlias = Request[VisitorState]
    VisitorWebSocket: TypeAlias = WebSocket[VisitorState]
else:
    # FastAPI recognises the plain classes only, and before Starlette 1.0 they have no parameter.
    VisitorRequest, VisitorWebSocket = Request, WebSocket
