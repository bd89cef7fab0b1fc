"""The small application of `support.apps` in Litestar: the visitor is a dependency."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from litestar import Litestar, Response, get, head, post
from litestar.di import NamedDependency, Provide
from litestar.response import File, Stream

from mixpanel_visitor.litestar import VisitorPlugin
from mixpanel_visitor.tracking.tracker import Tracker

from .apps import APPS_COOKIE, CHUNKS, ENDLESS_CHUNK, FILE, NOBODY, USER, _asgi_sorted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_TICK_S = 0.005


def _answer(visitor: Any) -> Response[str]:
    return Response(visitor.id, headers={"set-cookie": APPS_COOKIE}, media_type="text/plain", status_code=200)


@head("/page", media_type="text/plain")
async def _page_head(visitor: NamedDependency[Any]) -> None:
    visitor.track("Page")


@get("/page")
async def _page(visitor: NamedDependency[Any]) -> Response[str]:
    visitor.track("Page")
    return _answer(visitor)


@post("/login", sync_to_thread=True)
def _login(visitor: NamedDependency[Any]) -> Response[str]:
    visitor.identify(USER)
    visitor.track("Logged in")
    return _answer(visitor)


@post("/logout", sync_to_thread=True)
def _logout(visitor: NamedDependency[Any]) -> Response[str]:
    visitor.reset()
    visitor.track("Logged out")
    return _answer(visitor)


@get("/stream")
async def _stream(visitor: NamedDependency[Any]) -> Stream:
    async def chunks() -> AsyncIterator[bytes]:
        for number, chunk in enumerate(CHUNKS, 1):
            visitor.track("Chunk", n=number)
            yield chunk
        visitor.track("Ended")

    visitor.track("Started")
    return Stream(chunks(), media_type="text/plain")


@get("/error")
async def _error(visitor: NamedDependency[Any]) -> None:
    visitor.track("Failing")
    raise RuntimeError("before the response")


@get("/error-in-body")
async def _error_in_body(visitor: NamedDependency[Any]) -> Stream:
    async def chunks() -> AsyncIterator[bytes]:
        yield CHUNKS[0]
        visitor.track("Failed")
        raise RuntimeError("in the body")

    visitor.track("Failing")
    return Stream(chunks(), media_type="text/plain")


@get("/file")
async def _file(visitor: NamedDependency[Any]) -> File:
    visitor.track("File")
    return File(FILE)


@get("/endless")
async def _endless(visitor: NamedDependency[Any]) -> Stream:
    async def chunks() -> AsyncIterator[bytes]:
        try:
            while True:
                yield ENDLESS_CHUNK
                await asyncio.sleep(_TICK_S)
        finally:
            visitor.track("Closed")

    visitor.track("Begun")
    return Stream(chunks(), media_type="text/plain")


_PAGES = [_page, _page_head, _login, _logout, _stream, _error, _error_in_body, _file, _endless]


def build_litestar(tracker: Tracker) -> Any:
    """Build the Litestar application."""
    nobody = Provide(lambda: NOBODY, sync_to_thread=False)
    return _asgi_sorted(
        Litestar(_PAGES, plugins=[VisitorPlugin(tracker=tracker)], openapi_config=None, logging_config=None),
        Litestar(_PAGES, dependencies={"visitor": nobody}, openapi_config=None, logging_config=None),
        tracker,
    )


def __getattr__(name: str) -> Any:
    """Build the application from the environment, for real servers."""
    if name != "app":
        raise AttributeError(name)
    app = globals()[name] = build_litestar(Tracker.from_env())
    return app
