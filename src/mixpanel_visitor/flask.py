"""The door for Flask: an extension with `init_app`, for any number of applications in a process.

```python
visitors = MixpanelVisitor(app)  # or visitors.init_app(app)


@app.post("/signup")
def signup():
    current_visitor.track("Signed up", plan="pro")
    return {"visitor": g.visitor_id}
```

Templates have `current_visitor`, `visitor_id`, `visitor_script` and `sign_traits`. The settings come from
keywords, from `app.config` (`MIXPANEL_TOKEN`, `MIXPANEL_VISITOR_SPOOL`, ...) and from the environment.
Without a key of its own the cookie is signed with the application's `SECRET_KEY`, and `SECRET_KEY_FALLBACKS`
are still accepted.

Flask-Login's log-in identifies the visitor by the user's `id`, its log-out resets. `identify_users` may be a
function `(user, request) -> str or None` (None: not this one, such as an impersonation), or False: off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from .core.request import facts_from_environ
from .errors import MissingExtraError
from .tracking import context
from .tracking.app_extension import EXTENSION, AppExtension, PageHelpers, visitor_without_middleware
from .tracking.logins import UserLogins
from .wsgi import COMPLETE_BODY_KEY, VISITOR_ID_KEY, VISITOR_KEY, VisitorMiddleware

try:
    from flask import Flask, current_app, g, has_request_context, request
    from werkzeug.local import LocalProxy
except ImportError as error:  # pragma: no cover
    raise MissingExtraError("flask", "flask") from error

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Response

    from .tracking.tracker import Tracker
    from .tracking.visitor import Visitor

__all__ = ["MixpanelVisitor", "current_visitor", "sign_traits", "visitor_script"]

LOGINS = "mixpanel_visitor.logins"  # the key in `app.extensions`


class MixpanelVisitor(AppExtension[Flask]):
    """The Flask extension. Holds no application; each one's tracker is in `app.extensions`."""

    _current_app = current_app

    def init_app(self, app: Flask) -> None:
        """Attach a visitor to every request of the application; wrong settings raise here, all at once."""
        tracker = self._add_tracker(app)
        if getattr(app.wsgi_app, "__func__", None) is Flask.wsgi_app:
            # No other middleware between the application and ours can replace the response's body.
            app.after_request(_mark_complete_body)
        app.wsgi_app = VisitorMiddleware(app.wsgi_app, tracker=tracker)  # type: ignore[method-assign]
        app.before_request(_bind_visitor)
        app.context_processor(_template_context)
        if tracker.settings.identify_users:
            app.extensions[LOGINS] = UserLogins(tracker.settings.identify_users, _key_of)
            _connect_flask_login()


def _bind_visitor() -> None:
    # The objects behind Flask's proxies: each use of a proxy would double the cost.
    environ = request._get_current_object().environ  # type: ignore[attr-defined]  # noqa: SLF001
    visitor = environ.get(VISITOR_KEY) or _visitor()
    namespace = g._get_current_object()  # noqa: SLF001
    namespace.setdefault("visitor", visitor)  # the application's own stays
    namespace.setdefault("visitor_id", environ[VISITOR_ID_KEY])


def _mark_complete_body(response: Response) -> Response:
    # Most bodies are complete; to wrap them would double the cost.
    if type(response.response) in (list, tuple) and getattr(response, "_on_close", None) == []:
        request._get_current_object().environ[COMPLETE_BODY_KEY] = True  # type: ignore[attr-defined]  # noqa: SLF001
    return response


def _connect_flask_login() -> None:
    """Connect to the signals of Flask-Login, which Flask-Security uses as well, if it is installed."""
    try:
        from flask_login import user_logged_in, user_logged_out  # noqa: PLC0415  # not every site has it
    except ImportError:
        return
    user_logged_in.connect(_logged_in)
    user_logged_out.connect(_logged_out)


def _logged_in(app: Flask, user: Any, **_kwargs: object) -> None:
    _call_logins(UserLogins.log_in, app, user)


def _logged_out(app: Flask, user: Any, **_kwargs: object) -> None:
    _call_logins(UserLogins.log_out, app, user)


def _call_logins(method: Callable[[UserLogins, Visitor, Any, Any], None], app: Flask, user: Any) -> None:
    logins, visitor = app.extensions.get(LOGINS), _request_visitor()
    if logins is not None and visitor is not None:
        method(logins, visitor, user, request._get_current_object())  # type: ignore[attr-defined]  # noqa: SLF001


def _key_of(user: Any) -> object:
    # Not `get_id()` first: it may be a token that changes with the password, as Flask-Security's is.
    key = getattr(user, "id", None)
    return user.get_id() if key is None else key


def _template_context() -> dict[str, Any]:
    return _helpers.context(_visitor()) if has_request_context() else {}


_helpers = PageHelpers(current_app, lambda: request.script_root)
sign_traits = _helpers.sign_traits
visitor_script = _helpers.visitor_script


def _visitor() -> Visitor:
    # Outside of a request or without the extension: falsy, and its errors name the fix.
    return _request_visitor() or context.current_visitor


def _request_visitor() -> Visitor | None:
    """Return the visitor of Flask's request, also in a thread with a copied context."""
    if not has_request_context():
        return None
    visitor: Visitor | None = request.environ.get(VISITOR_KEY)
    if visitor is None:
        tracker: Tracker | None = current_app.extensions.get(EXTENSION)
        if tracker is None:
            return None
        # `app.test_request_context()` does not pass through the middleware.
        visitor = visitor_without_middleware(tracker, facts_from_environ(request.environ))
        request.environ[VISITOR_KEY] = visitor
        request.environ[VISITOR_ID_KEY] = visitor.id
    return visitor


context.add_fallback(_request_visitor)

current_visitor: Visitor = cast("Visitor", LocalProxy(_visitor))
