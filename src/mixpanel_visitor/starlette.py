"""The door for Starlette and FastAPI.

```python
app.add_middleware(VisitorMiddleware, token="...", secret_key="...")


async def signup(request):
    request.state.visitor.track("Signed up", {"plan": "pro"})
```

`add_middleware` puts it inside of Starlette's own error handling: the answer to an exception that nobody
caught carries no cookie then (its events are kept). Wrap the whole application to have that as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .asgi import SCOPE_KEY, VisitorMiddleware
from .context import current_visitor
from .errors import MissingExtraError, NoVisitorError

try:
    from starlette.requests import HTTPConnection  # noqa: TC002  # FastAPI reads the annotation
except ImportError as error:  # pragma: no cover
    raise MissingExtraError("starlette", "starlette") from error

if TYPE_CHECKING:
    from .visitor import Visitor

__all__ = ["VisitorMiddleware", "current_visitor", "get_visitor", "visitor_context"]


def get_visitor(request: HTTPConnection) -> Visitor:
    """Give the visitor of a request or socket.

    A FastAPI dependency: `visitor: Annotated[Visitor, Depends(get_visitor)]`.
    """
    visitor = request.scope.get(SCOPE_KEY)
    if visitor is None:
        raise NoVisitorError(
            "this request has no visitor: add the middleware with "
            "app.add_middleware(VisitorMiddleware, token=..., secret_key=...)"
        )
    found: Visitor = visitor
    return found


def visitor_context(request: HTTPConnection) -> dict[str, Any]:
    """Give templates `visitor` and `visitor_id`: `Jinja2Templates(context_processors=[visitor_context])`."""
    visitor = get_visitor(request)
    return {"visitor": visitor, "visitor_id": visitor.id}
