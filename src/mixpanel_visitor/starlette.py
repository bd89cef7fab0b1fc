"""The door for Starlette.

```python
app.add_middleware(VisitorMiddleware, token="...", secret_key="...")


async def signup(request):
    request.state.visitor.track("Signed up", {"plan": "pro"})
```

`add_middleware` puts it inside of Starlette's own error handling: the response to an uncaught exception
carries no cookie then (its events are kept). Wrap the whole application to have a cookie there as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .asgi import SCOPE_KEY, TRACKER_KEY, VisitorMiddleware
from .errors import MissingExtraError, NoVisitorError
from .tracking.context import current_visitor
from .tracking.page_script import page_script
from .tracking.tracker import engine_of

try:
    from starlette.datastructures import State
    from starlette.requests import HTTPConnection  # noqa: TC002  # FastAPI reads the annotation
except ImportError as error:  # pragma: no cover
    raise MissingExtraError("starlette", "starlette") from error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .tracking.tracker import Tracker
    from .tracking.visitor import Visitor

__all__ = ["VisitorMiddleware", "VisitorState", "current_visitor", "get_visitor", "visitor_context"]


class VisitorState(State):
    """The type of `request.state`, for type checkers: `async def page(request: Request[VisitorState])`.

    An application with a state of its own makes a subclass.
    """

    visitor: Visitor
    visitor_id: str


def get_visitor(request: HTTPConnection) -> Visitor:
    """Return the visitor of a request or socket.

    FastAPI takes it as a dependency: `mixpanel_visitor.fastapi.CurrentVisitor`.
    """
    visitor: Visitor | None = request.scope.get(SCOPE_KEY)
    if visitor is None:
        raise NoVisitorError(
            "this request has no visitor: add the middleware with "
            "app.add_middleware(VisitorMiddleware, token=..., secret_key=...)"
        )
    return visitor


def visitor_context(request: HTTPConnection) -> dict[str, Any]:
    """Return `visitor`, `visitor_id`, `visitor_script` and `sign_traits` for templates.

    `Jinja2Templates(..., context_processors=[visitor_context])`, and in a page's head
    `{{ visitor_script(nonce) }}`: the script that hands the browser's own ID over, where no cookie does, and
    with a `collector_path` the options for `mixpanel.init`, as `visitorOptions`. The nonce is that of the
    site's Content-Security-Policy; None: it has none.
    """
    visitor = get_visitor(request)
    tracker: Tracker | None = request.scope.get(TRACKER_KEY)

    def visitor_script(nonce: str | None = None) -> str:
        root_path = request.scope.get("root_path", "")
        return "" if tracker is None else page_script(engine_of(tracker), root_path=root_path, nonce=nonce)

    return {
        "visitor": visitor,
        "visitor_id": visitor.id,
        "visitor_script": visitor_script,
        "sign_traits": _no_traits if tracker is None else tracker.sign_traits,
    }


def _no_traits(_traits: Mapping[str, object]) -> str:
    return ""
