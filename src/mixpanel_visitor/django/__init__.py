"""The door for Django: an app with a middleware, for sync and async sites.

```python
# settings.py
INSTALLED_APPS = ["mixpanel_visitor.django", ...]
MIDDLEWARE = ["mixpanel_visitor.django.VisitorMiddleware", ...]  # above all others
MIXPANEL_TOKEN = "..."


# views.py
def signup(request):
    request.visitor.track("Signed up", {"plan": "pro"})
    return HttpResponse(request.visitor_id)
```

The settings are those of the package, as module attributes with the names of the environment
(`MIXPANEL_VISITOR_SPOOL`, ...), and the environment after them. Where a setting is a function, its dotted
name does as well. `SECRET_KEY` signs the cookie, and `SECRET_KEY_FALLBACKS` are still accepted.
"""

from __future__ import annotations

from mixpanel_visitor.errors import MissingExtraError
from mixpanel_visitor.tracking.context import current_visitor

try:
    from .middleware import VisitorMiddleware
    from .site import get_tracker
except ModuleNotFoundError as error:  # pragma: no cover
    if (error.name or "").partition(".")[0] not in ("django", "asgiref"):
        raise
    raise MissingExtraError("django", "django") from error

__all__ = ["VisitorMiddleware", "current_visitor", "get_tracker"]
