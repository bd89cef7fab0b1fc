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
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from .core.request import facts_from_environ
from .errors import MissingExtraError
from .tracking import context
from .tracking.tracker import Tracker, engine_of
from .wsgi import COMPLETE_BODY_KEY, VISITOR_ID_KEY, VISITOR_KEY, VisitorMiddleware

try:
    from flask import Flask, current_app, g, has_request_context, request
    from werkzeug.local import LocalProxy
except ImportError as error:  # pragma: no cover
    raise MissingExtraError("flask", "flask") from error

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Unpack

    from flask import Response

    from .settings.keywords import SettingsKeywords
    from .tracking.visitor import Visitor

__all__ = ["MixpanelVisitor", "current_visitor", "sign_traits", "visitor_script"]

EXTENSION = "mixpanel_visitor"


class MixpanelVisitor:
    """The Flask extension. Holds no application; each one's tracker is in `app.extensions`."""

    def __init__(
        self,
        app: Flask | None = None,
        *,
        tracker: Tracker | None = None,
        **settings: Unpack[SettingsKeywords],
    ) -> None:
        self._tracker = tracker
        self._settings = settings
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Attach a visitor to every request of the application; wrong settings raise here, all at once."""
        if EXTENSION in app.extensions:
            raise RuntimeError(
                "this Flask application has a MixpanelVisitor already: call init_app once for each one"
            )
        tracker = self._tracker
        if tracker is None:
            tracker = Tracker.from_mapping(app.config, **self._settings)
        app.extensions[EXTENSION] = tracker
        if getattr(app.wsgi_app, "__func__", None) is Flask.wsgi_app:
            # Nobody between the application and us who may have another body in the response's place.
            app.after_request(_mark_complete_body)
        app.wsgi_app = VisitorMiddleware(app.wsgi_app, tracker=tracker)  # type: ignore[method-assign]
        app.before_request(_bind_visitor)
        app.context_processor(_template_context)

    @property
    def tracker(self) -> Tracker:
        """The tracker of the application that is running here."""
        return cast("Tracker", current_app.extensions[EXTENSION])


def _bind_visitor() -> None:
    # The objects behind Flask's proxies: each use of a proxy costs as much as all else here.
    environ = request._get_current_object().environ  # type: ignore[attr-defined]  # noqa: SLF001
    visitor = environ.get(VISITOR_KEY) or _visitor()
    here = g._get_current_object()  # noqa: SLF001
    here.setdefault("visitor", visitor)  # what the application has put there stays
    here.setdefault("visitor_id", environ[VISITOR_ID_KEY])


def _mark_complete_body(response: Response) -> Response:
    # Most responses are whole; to watch such a body would cost as much as all else that we do here.
    if type(response.response) in (list, tuple) and getattr(response, "_on_close", None) == []:
        request._get_current_object().environ[COMPLETE_BODY_KEY] = True  # type: ignore[attr-defined]  # noqa: SLF001
    return response


def _template_context() -> dict[str, Any]:
    if not has_request_context():
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
    """Return the script that hands the browser's ID over where no cookie does, as HTML for a page's head.

    In templates `{{ visitor_script(csp_nonce) }}`; without a Content-Security-Policy it takes no nonce.
    """
    tracker: Tracker | None = current_app.extensions.get(EXTENSION)
    snippet = None if tracker is None else engine_of(tracker).snippet
    return "" if snippet is None else snippet.inline(root_path=request.script_root, nonce=nonce)


def _visitor() -> Visitor:
    # Outside of a request, or in an application without visitors, the other one: falsy, it says what to do.
    return _find() or context.current_visitor


def _find() -> Visitor | None:
    """Return the visitor of Flask's request, wherever Flask has taken it."""
    if not has_request_context():
        return None
    visitor: Visitor | None = request.environ.get(VISITOR_KEY)
    if visitor is None:
        tracker: Tracker | None = current_app.extensions.get(EXTENSION)
        if tracker is None:
            return None
        # `app.test_request_context()` does not pass through the middleware: events are stored at once.
        engine = engine_of(tracker)
        facts = engine.behind_proxies(facts_from_environ(request.environ))
        exchange, visitor = engine.begin(facts, in_background=False)
        engine.on_response_end(exchange, in_background=False)
        request.environ[VISITOR_KEY] = visitor
        request.environ[VISITOR_ID_KEY] = visitor.id
    return visitor


context.look_also(_find)

current_visitor: Visitor = cast("Visitor", LocalProxy(_visitor))
