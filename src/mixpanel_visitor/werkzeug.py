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
    import werkzeug  # noqa: F401  # whoever has this door without Werkzeug is to learn the extra's name
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
        """Wrap an application; raises `SettingsError` where settings are wrong, with all that is wrong."""
        super().__init__(app, tracker=tracker, **settings)
        self._url_map = url_map

    def _route(self, environ: wsgi.Environ) -> str | None:
        """Return the rule that the application has noted, or else the one that its map has."""
        noted = super()._route(environ)
        if noted is not None or self._url_map is None:
            return noted
        try:
            rule, _ = self._url_map.bind_to_environ(environ).match(return_rule=True)
        except Exception:
            return None  # an address that the map does not have, or only under a server name of its own
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
