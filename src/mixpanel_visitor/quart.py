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
from .tracking.tracker import Tracker, engine_of

try:
    from quart import Quart, current_app, g, has_request_context, has_websocket_context, request
    from quart import websocket as socket
    from werkzeug.local import LocalProxy
except ImportError as error:  # pragma: no cover
    raise MissingExtraError("quart", "quart") from error

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Unpack

    from quart import Request, Websocket

    from .settings.keywords import SettingsKeywords
    from .tracking.visitor import Visitor

__all__ = ["MixpanelVisitor", "current_visitor", "sign_traits", "visitor_script"]

EXTENSION = "mixpanel_visitor"


class MixpanelVisitor:
    """The Quart extension. Holds no application; each one's tracker is in `app.extensions`."""

    def __init__(
        self,
        app: Quart | None = None,
        *,
        tracker: Tracker | None = None,
        **settings: Unpack[SettingsKeywords],
    ) -> None:
        self._tracker = tracker
        self._settings = settings
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Quart) -> None:
        """Attach a visitor to every request and socket; wrong settings raise here, all at once."""
        if EXTENSION in app.extensions:
            raise RuntimeError("this Quart application has a MixpanelVisitor already")
        tracker = self._tracker
        if tracker is None:
            tracker = Tracker.from_mapping(app.config, **self._settings)
        app.extensions[EXTENSION] = tracker
        app.asgi_app = VisitorMiddleware(app.asgi_app, tracker=tracker)  # type: ignore[method-assign]
        app.before_request(_bind_visitor)
        app.before_websocket(_bind_visitor)
        app.context_processor(_template_context)

    @property
    def tracker(self) -> Tracker:
        """The tracker of the application that is running here."""
        return cast("Tracker", current_app.extensions[EXTENSION])


async def _bind_visitor() -> None:
    visitor = _visitor()
    g.setdefault("visitor", visitor)  # what the application has put there stays
    g.setdefault("visitor_id", visitor.id)
    connection = _connection()
    if connection is not None and connection.url_rule is not None:
        cast("dict[str, Any]", connection.scope)[ROUTE_KEY] = connection.url_rule.rule


async def _template_context() -> dict[str, Any]:
    if _connection() is None:
        return {}
    visitor = _visitor()
    return {
        "current_visitor": visitor,
        "visitor_id": visitor.id,
        "visitor_script": visitor_script,
        "sign_traits": sign_traits,
    }


def sign_traits(traits: Mapping[str, object]) -> str:
    """Return traits of SPiD's visitor as the signed text that `VGS.setTraits` takes."""
    tracker: Tracker | None = current_app.extensions.get(EXTENSION)
    return "" if tracker is None else tracker.sign_traits(traits)


def visitor_script(nonce: str | None = None) -> str:
    """Return the script that hands the browser's own ID over, as HTML for a page's head.

    In templates `{{ visitor_script(csp_nonce) }}`; without a Content-Security-Policy it takes no nonce.
    """
    tracker: Tracker | None = current_app.extensions.get(EXTENSION)
    snippet = None if tracker is None else engine_of(tracker).snippet
    return "" if snippet is None else snippet.inline(root_path=request.root_path, nonce=nonce)


def _connection() -> Request | Websocket | None:
    if has_request_context():
        return request
    return socket if has_websocket_context() else None


def _visitor() -> Visitor:
    # Outside of a request, or in an application without visitors, the other one: falsy, it says what to do.
    return _find() or context.current_visitor


def _find() -> Visitor | None:
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
        # `app.test_request_context()` does not pass through the middleware: events are stored at once.
        engine = engine_of(tracker)
        exchange, visitor = engine.begin(engine.behind_proxies(facts_from_scope(scope)), in_background=False)
        engine.on_response_end(exchange, in_background=False)
        scope[SCOPE_KEY] = visitor
    return visitor


context.look_also(_find)

current_visitor: Visitor = cast("Visitor", LocalProxy(_visitor))
