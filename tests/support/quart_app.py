"""The small application of `support.apps` in Quart."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import quart

from mixpanel_visitor.quart import MixpanelVisitor, current_visitor
from mixpanel_visitor.tracking.tracker import Tracker

from .apps import APPS_COOKIE, CHUNKS, ENDLESS_CHUNK, FILE, NOBODY, USER, _asgi_sorted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_TICK_S = 0.005


def _pages() -> quart.Quart:
    app = quart.Quart(__name__)

    def visitor() -> Any:
        return current_visitor or NOBODY

    def answer() -> quart.Response:
        body = "" if quart.request.method == "HEAD" else visitor().id
        response = quart.Response(body, mimetype="text/plain")
        response.headers.add("Set-Cookie", APPS_COOKIE)
        return response

    @app.get("/page")
    async def page() -> quart.Response:
        visitor().track("Page")
        return answer()

    @app.post("/login")
    def login() -> quart.Response:  # in a thread
        visitor().identify(USER)
        visitor().track("Logged in")
        return answer()

    @app.post("/logout")
    def logout() -> quart.Response:
        visitor().reset()
        visitor().track("Logged out")
        return answer()

    @app.get("/stream")
    async def stream() -> quart.Response:
        visitor().track("Started")
        return quart.Response(_chunks(visitor()), mimetype="text/plain")

    @app.get("/error")
    async def error() -> quart.Response:
        visitor().track("Failing")
        raise RuntimeError("before the response")

    @app.get("/error-in-body")
    async def error_in_body() -> quart.Response:
        visitor().track("Failing")
        return quart.Response(_failing(visitor()), mimetype="text/plain")

    @app.get("/file")
    async def file() -> quart.Response:
        visitor().track("File")
        return await quart.send_file(FILE)

    @app.get("/endless")
    async def endless() -> quart.Response:
        visitor().track("Begun")
        return quart.Response(_endless(visitor()), mimetype="text/plain")

    return app


async def _chunks(visitor: Any) -> AsyncIterator[bytes]:
    for number, chunk in enumerate(CHUNKS, 1):
        visitor.track("Chunk", n=number)
        yield chunk
    visitor.track("Ended")


async def _failing(visitor: Any) -> AsyncIterator[bytes]:
    yield CHUNKS[0]
    visitor.track("Failed")
    raise RuntimeError("in the body")


async def _endless(visitor: Any) -> AsyncIterator[bytes]:
    try:
        while True:
            yield ENDLESS_CHUNK
            await asyncio.sleep(_TICK_S)
    finally:
        visitor.track("Closed")


def build_quart(tracker: Tracker) -> Any:
    """Build the Quart application."""
    app = _pages()
    MixpanelVisitor(app, tracker=tracker)
    return _asgi_sorted(app, _pages(), tracker)


def __getattr__(name: str) -> Any:
    """Build the application from the environment, for real servers."""
    if name != "app":
        raise AttributeError(name)
    app = globals()[name] = build_quart(Tracker.from_env())
    return app
