"""The door for Quart: an extension with `init_app`, as Flask's.

```python
visitors = MixpanelVisitor(app)  # or visitors.init_app(app)


@app.post("/signup")
async def signup():
    current_visitor.track("Signed up", plan="pro")
    return {"visitor": g.visitor_id}
```

It is the same in WebSocket handlers and in background tasks, whose events are stored at once. Templates have
`current_visitor`, `visitor_id`, `visitor_script` and `sign_traits`. The settings come from keywords, from
`app.config` (`MIXPANEL_TOKEN`, ...) and from the environment; without a key of its own the cookie is signed
with the application's `SECRET_KEY`. What is left at the shut-down is delivered after
`after_serving`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from .asgi import ROUTE_KEY, SCOPE_KEY, VisitorMiddleware
from .core.request import facts_from_scope
from .errors import MissingExtraError
from .tracking import context
from .tracking.app_extension import EXTENSION, AppExtension, PageHelpers, visitor_without_middleware

try:
    from quart import Quart, current_app, g, has_request_context, has_websocket_context, request
    from quart import websocket as socket
    from werkzeug.local import LocalProxy
except ImportError as error:  # pragma: no cover
    raise MissingExtraError("quart", "quart") from error

if TYPE_CHECKING:
    from quart import Request, Websocket

    from .tracking.tracker import Tracker
    from .tracking.visitor import Visitor

__all__ = ["MixpanelVisitor", "current_visitor", "sign_traits", "visitor_script"]


class MixpanelVisitor(AppExtension[Quart]):
    """The Quart extension. Holds no application; each one's tracker is in `app.extensions`."""

    _current_app = current_app

    def init_app(self, app: Quart) -> None:
        """Attach a visitor to every request and socket; wrong settings raise here, all at once."""
        tracker = self._add_tracker(app)
        app.asgi_app = VisitorMiddleware(app.asgi_app, tracker=tracker)  # type: ignore[method-assign]
        app.before_request(_bind_visitor)
        app.before_websocket(_bind_visitor)
        app.context_processor(_template_context)


async def _bind_visitor() -> None:
    visitor = _visitor()
    g.setdefault("visitor", visitor)  # the application's own stays
    g.setdefault("visitor_id", visitor.id)
    connection = _connection()
    if connection is not None and connection.url_rule is not None:
        cast("dict[str, Any]", connection.scope)[ROUTE_KEY] = connection.url_rule.rule


async def _template_context() -> dict[str, Any]:
    return {} if _connection() is None else _helpers.context(_visitor())


_helpers = PageHelpers(current_app, lambda: request.root_path)
sign_traits = _helpers.sign_traits
visitor_script = _helpers.visitor_script


def _connection() -> Request | Websocket | None:
    if has_request_context():
        return request
    return socket if has_websocket_context() else None


def _visitor() -> Visitor:
    # Outside of a request or without the extension: falsy, and its errors name the fix.
    return _request_visitor() or context.current_visitor


def _request_visitor() -> Visitor | None:
    """Return the visitor of Quart's request or socket."""
    connection = _connection()
    if connection is None:
        return None
    scope = cast("dict[str, Any]", connection.scope)
    visitor: Visitor | None = scope.get(SCOPE_KEY)
    if visitor is None:
        tracker: Tracker | None = current_app.extensions.get(EXTENSION)
        if tracker is None:
            return None
        # `app.test_request_context()` does not pass through the middleware.
        visitor = visitor_without_middleware(tracker, facts_from_scope(scope))
        scope[SCOPE_KEY] = visitor
    return visitor


context.add_fallback(_request_visitor)

current_visitor: Visitor = cast("Visitor", LocalProxy(_visitor))
