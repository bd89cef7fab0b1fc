"""The small application of `support.apps` in Werkzeug: a Map of rules, and `get_visitor(request)`.

    python -m support.werkzeug_app FD

serves it with Werkzeug's own server, on a listening socket.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, Rule
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response
from werkzeug.wsgi import wrap_file

from mixpanel_visitor.errors import NoVisitorError
from mixpanel_visitor.tracking.tracker import Tracker
from mixpanel_visitor.werkzeug import VisitorMiddleware, get_visitor

from .apps import (
    APPS_COOKIE,
    CHUNKS,
    ENDLESS_CHUNK,
    FILE,
    NOBODY,
    USER,
    _wsgi_failing,
    _wsgi_sorted,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


def _visitor(request: Request) -> Any:
    try:
        return get_visitor(request)
    except NoVisitorError:
        return NOBODY


def _answer(request: Request) -> Response:
    response = Response(_visitor(request).id, mimetype="text/plain")
    response.headers.add("Set-Cookie", APPS_COOKIE)
    return response


def _page(request: Request) -> Response:
    _visitor(request).track("Page")
    return _answer(request)


def _login(request: Request) -> Response:
    _visitor(request).identify(USER)
    _visitor(request).track("Logged in")
    return _answer(request)


def _logout(request: Request) -> Response:
    _visitor(request).reset()
    _visitor(request).track("Logged out")
    return _answer(request)


def _stream(request: Request) -> Response:
    visitor = _visitor(request)

    def chunks() -> Iterator[bytes]:
        for number, chunk in enumerate(CHUNKS, 1):
            visitor.track("Chunk", n=number)
            yield chunk
        visitor.track("Ended")

    visitor.track("Started")
    return Response(chunks(), mimetype="text/plain")


def _error(request: Request) -> Response:
    _visitor(request).track("Failing")
    raise RuntimeError("before the response")


def _error_in_body(request: Request) -> Response:
    _visitor(request).track("Failing")
    return Response(_wsgi_failing(_visitor(request)), mimetype="text/plain")


def _file(request: Request) -> Response:
    _visitor(request).track("File")
    response = Response(
        wrap_file(request.environ, FILE.open("rb")), mimetype="application/json", direct_passthrough=True
    )
    response.content_length = FILE.stat().st_size
    return response


def _endless(request: Request) -> Response:
    visitor = _visitor(request)

    def chunks() -> Iterator[bytes]:
        try:
            while True:
                yield ENDLESS_CHUNK
        finally:
            visitor.track("Closed")

    visitor.track("Begun")
    return Response(chunks(), mimetype="text/plain")


URL_MAP = Map(
    [
        Rule("/page", endpoint=_page),
        Rule("/login", endpoint=_login, methods=["POST"]),
        Rule("/logout", endpoint=_logout, methods=["POST"]),
        Rule("/stream", endpoint=_stream),
        Rule("/error", endpoint=_error),
        Rule("/error-in-body", endpoint=_error_in_body),
        Rule("/file", endpoint=_file),
        Rule("/endless", endpoint=_endless),
    ]
)


@Request.application
def pages(request: Request) -> Any:
    """The application itself, without any middleware."""
    try:
        endpoint, _ = URL_MAP.bind_to_environ(request.environ).match()
    except HTTPException as error:
        return error
    return endpoint(request)


def build_werkzeug(tracker: Tracker) -> Any:
    """Build the Werkzeug application."""
    return _wsgi_sorted(VisitorMiddleware(pages, tracker=tracker, url_map=URL_MAP), pages, tracker)


if __name__ == "__main__":
    app = build_werkzeug(Tracker.from_env())
    make_server("127.0.0.1", 0, app, threaded=True, fd=int(sys.argv[1])).serve_forever()
