"""The door for Litestar: a plugin.

```python
app = Litestar(route_handlers=[signup], plugins=[VisitorPlugin(token="...", secret_key="...")])


@post("/signup")
async def signup(visitor: CurrentVisitor) -> str:
    visitor.track("Signed up", {"plan": "pro"})
    return visitor.id
```

The parameter's name is that of the dependency, `visitor`; nothing of it appears in OpenAPI.

Litestar runs middleware for addresses that have a handler. An answer that there is none carries no cookie
then; wrap the whole application, `mixpanel_visitor.asgi.VisitorMiddleware(app)`, to have that as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from .asgi import SCOPE_KEY, VisitorMiddleware, begin_serving, end_serving
from .errors import MissingExtraError, NoVisitorError
from .tracking.context import current_visitor
from .tracking.own_endpoints import OwnEndpoints
from .tracking.tracker import engine_of, tracker_or_new
from .tracking.visitor import Visitor

try:
    from litestar import asgi
    from litestar.di import NamedDependency, Provide
    from litestar.exceptions import NotFoundException
    from litestar.middleware import DefineMiddleware
    from litestar.plugins import InitPlugin
    from litestar.types import Receive, Scope, Send  # noqa: TC002  # Litestar reads the annotations
except ImportError as error:  # pragma: no cover
    raise MissingExtraError("litestar", "litestar") from error

if TYPE_CHECKING:
    from typing import Unpack

    from litestar.config.app import AppConfig

    from .settings.keywords import SettingsKeywords
    from .tracking.tracker import Tracker

__all__ = ["CurrentVisitor", "VisitorMiddleware", "VisitorPlugin", "current_visitor"]

CurrentVisitor: TypeAlias = NamedDependency[Visitor]
"""The type of the parameter `visitor` of handlers, and of other dependencies."""


class _Middleware(VisitorMiddleware):
    """Litestar removes the slash at the end of a path before it calls a middleware."""

    def __init__(self, app: Any, *, tracker: Tracker) -> None:
        super().__init__(app, tracker=tracker)
        self._endings = tuple(ending.removesuffix("/") for ending in self._endings)


class VisitorPlugin(InitPlugin):
    """Attach a visitor to every request of the application; handlers get it as the dependency `visitor`.

    Takes the fields of `Settings` as keywords, or a `tracker` that several applications share.
    """

    def __init__(self, *, tracker: Tracker | None = None, **settings: Unpack[SettingsKeywords]) -> None:
        """Make the plugin; raises `SettingsError` with all wrong settings."""
        self.tracker = tracker_or_new(tracker, settings)

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Add the middleware, the dependency and the handlers to an application; Litestar calls this."""
        engine = engine_of(self.tracker)
        app_config.middleware.insert(0, DefineMiddleware(_Middleware, tracker=self.tracker))
        app_config.dependencies.setdefault("visitor", Provide(_visitor, sync_to_thread=False))
        app_config.signature_types.append(Visitor)
        paths = OwnEndpoints(engine).paths
        if paths:
            # Litestar calls the middleware for paths that have a handler; it answers these paths itself.
            # Authentication before it must let these requests through, as they come from all visitors.
            as_handler = asgi(list(paths), opt={"exclude_from_auth": True}, copy_scope=False)
            app_config.route_handlers.append(as_handler(_not_found))
        app_config.on_startup.append(lambda: begin_serving(engine))
        app_config.on_shutdown.append(lambda: end_serving(engine))
        return app_config


def _visitor(scope: Scope) -> Visitor:
    visitor: Visitor | None = scope.get(SCOPE_KEY)  # type: ignore[assignment]
    if visitor is None:
        raise NoVisitorError(
            "this request has no visitor: VisitorPlugin is not among the application's plugins"
        )
    return visitor


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001  # their names count
    """Answer requests to our paths that `request_filter` excludes."""
    raise NotFoundException
