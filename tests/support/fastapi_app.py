"""The small application of `support.apps` in FastAPI: the visitor is a parameter."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.responses import FileResponse, PlainTextResponse, StreamingResponse

from mixpanel_visitor.fastapi import CurrentVisitor, VisitorMiddleware, get_visitor
from mixpanel_visitor.tracking.tracker import Tracker

from .apps import APPS_COOKIE, CHUNKS, ENDLESS_CHUNK, FILE, NOBODY, USER, _asgi_sorted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_TICK_S = 0.005


def _pages() -> FastAPI:
    app = FastAPI(openapi_url=None)

    def answer(visitor: Any) -> PlainTextResponse:
        return PlainTextResponse(visitor.id, headers={"set-cookie": APPS_COOKIE})

    @app.api_route("/page", methods=["GET", "HEAD"])
    async def page(visitor: CurrentVisitor) -> Any:
        visitor.track("Page")
        return answer(visitor)

    @app.post("/login")
    def login(visitor: CurrentVisitor) -> Any:  # in a thread
        visitor.identify(USER)
        visitor.track("Logged in")
        return answer(visitor)

    @app.post("/logout")
    def logout(visitor: CurrentVisitor) -> Any:
        visitor.reset()
        visitor.track("Logged out")
        return answer(visitor)

    @app.get("/stream")
    async def stream(visitor: CurrentVisitor) -> Any:
        async def chunks() -> AsyncIterator[bytes]:
            for number, chunk in enumerate(CHUNKS, 1):
                visitor.track("Chunk", n=number)
                yield chunk
            visitor.track("Ended")

        visitor.track("Started")
        return StreamingResponse(chunks(), media_type="text/plain")

    @app.get("/error")
    async def error(visitor: CurrentVisitor) -> Any:
        visitor.track("Failing")
        raise RuntimeError("before the response")

    @app.get("/error-in-body")
    async def error_in_body(visitor: CurrentVisitor) -> Any:
        async def chunks() -> AsyncIterator[bytes]:
            yield CHUNKS[0]
            visitor.track("Failed")
            raise RuntimeError("in the body")

        visitor.track("Failing")
        return StreamingResponse(chunks(), media_type="text/plain")

    @app.get("/file")
    async def file(visitor: CurrentVisitor) -> Any:
        visitor.track("File")
        return FileResponse(FILE)

    @app.get("/endless")
    async def endless(visitor: CurrentVisitor) -> Any:
        async def chunks() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield ENDLESS_CHUNK
                    await asyncio.sleep(_TICK_S)
            finally:
                visitor.track("Closed")

        visitor.track("Begun")
        return StreamingResponse(chunks(), media_type="text/plain")

    return app


def build_fastapi(tracker: Tracker) -> Any:
    """Build the FastAPI application."""
    wrapped, unwrapped = _pages(), _pages()
    wrapped.add_middleware(VisitorMiddleware, tracker=tracker)
    unwrapped.dependency_overrides[get_visitor] = lambda: NOBODY
    return _asgi_sorted(wrapped, unwrapped, tracker)


def __getattr__(name: str) -> Any:
    """Build the application from the environment, for real servers."""
    if name != "app":
        raise AttributeError(name)
    app = globals()[name] = build_fastapi(Tracker.from_env())
    return app
