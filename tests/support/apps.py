"""The same small application four times: bare WSGI, bare ASGI, Flask and Starlette.

Each can do without a visitor as well: under `/unwrapped` every factory serves its pages without our
middleware, so that a test can tell what is ours. `/flush` (outside of the middleware as well) answers when
everything that was tracked so far has arrived.

For real servers, `support.apps:wsgi_app` and its like are built on first use, from the environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import flask
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import FileResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route

from mixpanel_visitor.asgi import VisitorMiddleware as ASGIVisitorMiddleware
from mixpanel_visitor.flask import MixpanelVisitor
from mixpanel_visitor.starlette import VisitorMiddleware as StarletteVisitorMiddleware
from mixpanel_visitor.tracking.context import current_visitor
from mixpanel_visitor.tracking.tracker import Tracker
from mixpanel_visitor.wsgi import VisitorMiddleware as WSGIVisitorMiddleware

from .waiting import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from starlette.requests import Request

UNWRAPPED = "/unwrapped"
CHUNKS = (b"one ", b"two ", b"three")
ENDLESS_CHUNK = b"x" * 65536
FILE = Path(__file__).parent.parent / "data" / "identity-vectors.json"
APPS_COOKIE = "theme=dark; Path=/"
USER = "user-42"

_TICK_S = 0.005


class Nobody:
    """Who visits where our middleware is not; as long an ID as a visitor has."""

    id = "0" * 36

    def track(self, event: str, **properties: Any) -> None:
        pass

    def identify(self, user_id: str) -> None:
        pass

    def reset(self) -> None:
        pass


NOBODY: Any = Nobody()


# --- bare WSGI -------------------------------------------------------------------------------


def wsgi_pages(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """The application itself, without any middleware."""
    visitor = environ.get("mixpanel_visitor.visitor", NOBODY)
    match environ["PATH_INFO"]:
        case "/page":
            visitor.track("Page")
        case "/login":
            visitor.identify(USER)
            visitor.track("Logged in")
        case "/logout":
            visitor.reset()
            visitor.track("Logged out")
        case "/stream":
            visitor.track("Started")
            start_response("200 OK", [("Content-Type", "text/plain")])
            return _wsgi_stream(visitor)
        case "/error":
            visitor.track("Failing")
            raise RuntimeError("before the response")
        case "/error-in-body":
            visitor.track("Failing")
            start_response("200 OK", [("Content-Type", "text/plain")])
            return _wsgi_failing(visitor)
        case "/file":
            visitor.track("File")
            size = str(FILE.stat().st_size)
            start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", size)])
            file = FILE.open("rb")
            wrapper = environ.get("wsgi.file_wrapper")
            return wrapper(file, 8192) if wrapper is not None else _closing(file)
        case "/endless":
            visitor.track("Begun")
            start_response("200 OK", [("Content-Type", "text/plain")])
            return _wsgi_endless(visitor)
        case _:
            start_response("404 Not Found", [("Content-Type", "text/plain"), ("Content-Length", "0")])
            return []
    body = visitor.id.encode()
    headers = [
        ("Content-Type", "text/plain"),
        ("Content-Length", str(len(body))),
        ("Set-Cookie", APPS_COOKIE),
    ]
    start_response("200 OK", headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def _wsgi_stream(visitor: Any) -> Iterator[bytes]:
    for number, chunk in enumerate(CHUNKS, 1):
        visitor.track("Chunk", n=number)
        yield chunk
    visitor.track("Ended")


def _wsgi_failing(visitor: Any) -> Iterator[bytes]:
    yield CHUNKS[0]
    visitor.track("Failed")
    raise RuntimeError("in the body")


def _wsgi_endless(visitor: Any) -> Iterator[bytes]:
    try:
        while True:
            yield ENDLESS_CHUNK
    finally:
        visitor.track("Closed")


def _closing(file: Any) -> Iterator[bytes]:
    with file:
        yield from iter(lambda: file.read(8192), b"")


def build_wsgi(tracker: Tracker) -> Any:
    """Build the bare WSGI application."""
    return _wsgi_sorted(WSGIVisitorMiddleware(wsgi_pages, tracker=tracker), wsgi_pages, tracker)


def _wsgi_sorted(wrapped: Any, unwrapped: Any, tracker: Tracker) -> Any:
    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/flush":
            gc.collect()  # the body that a client has left may be in a cycle: it ends when Python collects it
            status = "200 OK" if tracker.flush(PATIENCE_S) else "504 Gateway Timeout"
            start_response(status, [("Content-Type", "text/plain"), ("Content-Length", "0")])
            return []
        if path.startswith(UNWRAPPED):
            environ["PATH_INFO"] = path.removeprefix(UNWRAPPED)
            return unwrapped(environ, start_response)
        return wrapped(environ, start_response)

    return app


# --- Flask -----------------------------------------------------------------------------------


def _flask_pages() -> flask.Flask:
    app = flask.Flask(__name__)

    def visitor() -> Any:
        return current_visitor or NOBODY

    def answer() -> flask.Response:
        response = flask.Response(visitor().id, mimetype="text/plain")
        response.headers.add("Set-Cookie", APPS_COOKIE)
        return response

    @app.get("/page")
    def page() -> flask.Response:
        visitor().track("Page")
        return answer()

    @app.post("/login")
    def login() -> flask.Response:
        visitor().identify(USER)
        visitor().track("Logged in")
        return answer()

    @app.post("/logout")
    def logout() -> flask.Response:
        visitor().reset()
        visitor().track("Logged out")
        return answer()

    @app.get("/stream")
    def stream() -> flask.Response:
        def chunks() -> Iterator[bytes]:
            for number, chunk in enumerate(CHUNKS, 1):
                visitor().track("Chunk", n=number)
                yield chunk
            visitor().track("Ended")

        visitor().track("Started")
        return flask.Response(chunks(), mimetype="text/plain")

    @app.get("/error")
    def error() -> flask.Response:
        visitor().track("Failing")
        raise RuntimeError("before the response")

    @app.get("/error-in-body")
    def error_in_body() -> flask.Response:
        visitor().track("Failing")
        return flask.Response(_wsgi_failing(visitor()), mimetype="text/plain")

    @app.get("/file")
    def file() -> flask.Response:
        visitor().track("File")
        return flask.send_file(FILE)

    @app.get("/endless")
    def endless() -> flask.Response:
        def chunks() -> Iterator[bytes]:
            try:
                while True:
                    yield ENDLESS_CHUNK
            finally:
                visitor().track("Closed")

        visitor().track("Begun")
        return flask.Response(chunks(), mimetype="text/plain")

    return app


def build_flask(tracker: Tracker) -> flask.Flask:
    """Build the Flask application."""
    app = _flask_pages()
    MixpanelVisitor(app, tracker=tracker)
    app.wsgi_app = _wsgi_sorted(app.wsgi_app, _flask_pages().wsgi_app, tracker)  # type: ignore[method-assign]
    return app


# --- bare ASGI -------------------------------------------------------------------------------


async def asgi_pages(scope: Any, receive: Any, send: Any) -> None:
    """The application itself, without any middleware."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
        return
    visitor = scope.get("state", {}).get("visitor", NOBODY)
    match scope["path"]:
        case "/page":
            visitor.track("Page")
        case "/login":
            visitor.identify(USER)
            visitor.track("Logged in")
        case "/logout":
            visitor.reset()
            visitor.track("Logged out")
        case "/stream":
            visitor.track("Started")
            await _start(send, [(b"content-type", b"text/plain")])
            for number, chunk in enumerate(CHUNKS, 1):
                visitor.track("Chunk", n=number)
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            visitor.track("Ended")
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        case "/error":
            visitor.track("Failing")
            raise RuntimeError("before the response")
        case "/error-in-body":
            visitor.track("Failing")
            await _start(send, [(b"content-type", b"text/plain")])
            await send({"type": "http.response.body", "body": CHUNKS[0], "more_body": True})
            visitor.track("Failed")
            raise RuntimeError("in the body")
        case "/file":
            visitor.track("File")
            body = FILE.read_bytes()
            length = str(len(body)).encode()
            await _start(send, [(b"content-type", b"application/json"), (b"content-length", length)])
            await send({"type": "http.response.body", "body": body})
            return
        case "/endless":
            await _asgi_endless(visitor, receive, send)
            return
        case _:
            await _start(send, [(b"content-length", b"0")], status=404)
            await send({"type": "http.response.body"})
            return
    body = visitor.id.encode()
    headers = [
        (b"content-type", b"text/plain"),
        (b"content-length", str(len(body)).encode()),
        (b"set-cookie", APPS_COOKIE.encode()),
    ]
    await _start(send, headers)
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


async def _start(send: Any, headers: list[tuple[bytes, bytes]], status: int = 200) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _asgi_endless(visitor: Any, receive: Any, send: Any) -> None:
    visitor.track("Begun")

    async def chunks() -> None:
        await _start(send, [(b"content-type", b"text/plain")])
        while True:
            await send({"type": "http.response.body", "body": ENDLESS_CHUNK, "more_body": True})
            await asyncio.sleep(_TICK_S)

    sending = asyncio.create_task(chunks())
    while (await receive())["type"] != "http.disconnect":
        pass
    sending.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await sending
    visitor.track("Closed")


async def _lifespan(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


def build_asgi(tracker: Tracker) -> Any:
    """Build the bare ASGI application."""
    return _asgi_sorted(ASGIVisitorMiddleware(asgi_pages, tracker=tracker), asgi_pages, tracker)


def _asgi_sorted(wrapped: Any, unwrapped: Any, tracker: Tracker) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        path = scope.get("path", "")
        if path == "/flush":
            gc.collect()  # as above
            arrived = await asyncio.to_thread(tracker.flush, PATIENCE_S)
            await _start(send, [(b"content-length", b"0")], status=200 if arrived else 504)
            await send({"type": "http.response.body"})
        elif path.startswith(UNWRAPPED):
            plain = path.removeprefix(UNWRAPPED)
            await unwrapped({**scope, "path": plain, "raw_path": plain.encode()}, receive, send)
        else:
            await wrapped(scope, receive, send)

    return app


# --- Starlette -------------------------------------------------------------------------------


def _starlette_pages(middleware: list[Middleware]) -> Starlette:
    def visitor_of(request: Request) -> Any:
        return getattr(request.state, "visitor", NOBODY)

    def answer(request: Request) -> PlainTextResponse:
        return PlainTextResponse(visitor_of(request).id, headers={"set-cookie": APPS_COOKIE})

    async def page(request: Request) -> PlainTextResponse:
        visitor_of(request).track("Page")
        return answer(request)

    def login(request: Request) -> PlainTextResponse:  # in a thread
        visitor_of(request).identify(USER)
        visitor_of(request).track("Logged in")
        return answer(request)

    def logout(request: Request) -> PlainTextResponse:
        visitor_of(request).reset()
        visitor_of(request).track("Logged out")
        return answer(request)

    async def stream(request: Request) -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            for number, chunk in enumerate(CHUNKS, 1):
                visitor_of(request).track("Chunk", n=number)
                yield chunk
            visitor_of(request).track("Ended")

        visitor_of(request).track("Started")
        return StreamingResponse(chunks(), media_type="text/plain")

    async def error(request: Request) -> PlainTextResponse:
        visitor_of(request).track("Failing")
        raise RuntimeError("before the response")

    async def error_in_body(request: Request) -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            yield CHUNKS[0]
            visitor_of(request).track("Failed")
            raise RuntimeError("in the body")

        visitor_of(request).track("Failing")
        return StreamingResponse(chunks(), media_type="text/plain")

    async def file(request: Request) -> FileResponse:
        visitor_of(request).track("File")
        return FileResponse(FILE)

    async def endless(request: Request) -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield ENDLESS_CHUNK
                    await asyncio.sleep(_TICK_S)
            finally:
                visitor_of(request).track("Closed")

        visitor_of(request).track("Begun")
        return StreamingResponse(chunks(), media_type="text/plain")

    return Starlette(
        routes=[
            Route("/page", page),
            Route("/login", login, methods=["POST"]),
            Route("/logout", logout, methods=["POST"]),
            Route("/stream", stream),
            Route("/error", error),
            Route("/error-in-body", error_in_body),
            Route("/file", file),
            Route("/endless", endless),
        ],
        middleware=middleware,
    )


def build_starlette(tracker: Tracker) -> Any:
    """Build the Starlette application."""
    wrapped = _starlette_pages([Middleware(StarletteVisitorMiddleware, tracker=tracker)])
    return _asgi_sorted(wrapped, _starlette_pages([]), tracker)


# --- for real servers ------------------------------------------------------------------------

_FACTORIES: dict[str, Callable[[Tracker], Any]] = {
    "wsgi_app": build_wsgi,
    "flask_app": build_flask,
    "asgi_app": build_asgi,
    "starlette_app": build_starlette,
}


def __getattr__(name: str) -> Any:
    factory = _FACTORIES.get(name)
    if factory is None:
        raise AttributeError(name)
    app = globals()[name] = factory(Tracker.from_env())
    return app
