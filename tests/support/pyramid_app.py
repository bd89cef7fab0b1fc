"""The small application of `support.apps` in Pyramid, with the middleware as the recipe includes it."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, Any

from .apps import APPS_COOKIE, CHUNKS, FILE, NOBODY, USER, _wsgi_endless, _wsgi_failing
from .pages import MODULE, section_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mixpanel_visitor.tracking.tracker import Tracker

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it uses what setuptools deprecates
    from pyramid.config import Configurator
    from pyramid.response import FileResponse, Response


def _visitor(request: Any) -> Any:
    return getattr(request, "visitor", NOBODY)


def _answer(request: Any) -> Response:
    response = Response(_visitor(request).id, content_type="text/plain")
    response.headers.add("Set-Cookie", APPS_COOKIE)
    return response


def _page(request: Any) -> Response:
    _visitor(request).track("Page")
    return _answer(request)


def _login(request: Any) -> Response:
    _visitor(request).identify(USER)
    _visitor(request).track("Logged in")
    return _answer(request)


def _logout(request: Any) -> Response:
    _visitor(request).reset()
    _visitor(request).track("Logged out")
    return _answer(request)


def _stream(request: Any) -> Response:
    visitor = _visitor(request)

    def chunks() -> Iterator[bytes]:
        for number, chunk in enumerate(CHUNKS, 1):
            visitor.track("Chunk", n=number)
            yield chunk
        visitor.track("Ended")

    visitor.track("Started")
    return Response(app_iter=chunks(), content_type="text/plain")


def _error(request: Any) -> Response:
    _visitor(request).track("Failing")
    raise RuntimeError("before the response")


def _error_in_body(request: Any) -> Response:
    _visitor(request).track("Failing")
    return Response(app_iter=_wsgi_failing(_visitor(request)), content_type="text/plain")


def _file(request: Any) -> Response:
    _visitor(request).track("File")
    return FileResponse(str(FILE), request=request)


def _endless(request: Any) -> Response:
    _visitor(request).track("Begun")
    return Response(app_iter=_wsgi_endless(_visitor(request)), content_type="text/plain")


_VIEWS = {
    "/page": _page,
    "/login": _login,
    "/logout": _logout,
    "/stream": _stream,
    "/error": _error,
    "/error-in-body": _error_in_body,
    "/file": _file,
    "/endless": _endless,
}


def build_pyramid(tracker: Tracker | None) -> Any:
    """Build the Pyramid application; without a tracker our middleware is not in it."""
    with Configurator() as config:
        if tracker is not None:
            recipe = section_of("start/recipes.md", "Pyramid").load()
            config.registry.settings.update(recipe.SETTINGS)
            config.include(recipe.includeme)
            config.registry["tracker"] = tracker
            del sys.modules[MODULE]
        for path, view in _VIEWS.items():
            config.add_route(path, path)
            config.add_view(view, route_name=path)
        return config.make_wsgi_app()
