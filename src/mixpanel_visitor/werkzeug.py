"""The door for applications that are made of Werkzeug, without Flask.

```python
app = VisitorMiddleware(app, token="...", secret_key="...", url_map=url_map)


def signup(request):
    get_visitor(request).track("Signed up", {"plan": "pro"})
```

With the application's `url_map`, page views say the rule that the address matches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import wsgi
from .errors import MissingExtraError, NoVisitorError
from .tracking.context import current_visitor

try:
    import werkzeug  # noqa: F401  # so that the error names the extra
except ImportError as error:  # pragma: no cover
    raise MissingExtraError("werkzeug", "werkzeug") from error

if TYPE_CHECKING:
    from typing import Unpack

    from werkzeug.routing import Map
    from werkzeug.wrappers import Request

    from .settings.keywords import SettingsKeywords
    from .tracking.tracker import Tracker
    from .tracking.visitor import Visitor

__all__ = ["VisitorMiddleware", "current_visitor", "get_visitor"]


class VisitorMiddleware(wsgi.VisitorMiddleware):
    """Wrap a Werkzeug application, as the WSGI middleware does; `url_map` tells page views their route."""

    def __init__(
        self,
        app: wsgi.App,
        *,
        tracker: Tracker | None = None,
        url_map: Map | None = None,
        **settings: Unpack[SettingsKeywords],
    ) -> None:
        """Wrap an application; raises `SettingsError` with all wrong settings."""
        super().__init__(app, tracker=tracker, **settings)
        self._url_map = url_map

    def _route(self, environ: wsgi.Environ) -> str | None:
        """Return the rule in the environ, else the rule of the map that the address matches."""
        route = super()._route(environ)
        if route is not None or self._url_map is None:
            return route
        try:
            rule, _ = self._url_map.bind_to_environ(environ).match(return_rule=True)
        except Exception:
            return None  # the map has no rule for this address and server name
        return f"{environ.get('SCRIPT_NAME', '')}{rule.rule}"


def get_visitor(request: Request) -> Visitor:
    """Return the visitor of a request."""
    visitor: Visitor | None = request.environ.get(wsgi.VISITOR_KEY)
    if visitor is None:
        raise NoVisitorError(
            "this request has no visitor: wrap the application with "
            "app = VisitorMiddleware(app, token=..., secret_key=...)"
        )
    return visitor
