"""An ASGI server's side of the protocol, message by message."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from typing import TYPE_CHECKING, Any

from mixpanel_visitor.tracking.context import current_visitor

from .responses import Response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable

    ASGIApp = Callable[[Any, Any, Any], Awaitable[None]]

REQUEST = {"type": "http.request", "body": b"", "more_body": False}


def http_scope(
    method: str = "GET", path: str = "/", headers: dict[str, str] | None = None, **more: Any
) -> dict[str, Any]:
    """Build the scope of a request as uvicorn does."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
        "client": ("127.0.0.1", 50000),
        "server": ("testserver", 80),
        "state": {},
        **more,
    }


def websocket_scope(**more: Any) -> dict[str, Any]:
    """Build the scope of a socket."""
    scope = http_scope(**{"type": "websocket", "scheme": "ws", "subprotocols": [], **more})
    del scope["method"]
    return scope


class Conversation:
    """What is said in one scope: `incoming` is received in order, then the client waits or goes away.

    `on_send` is called with every message before it counts as sent, and may raise as a server does. The
    client goes away once it has so many `parts` of the body.
    """

    def __init__(
        self,
        scope: dict[str, Any],
        incoming: Iterable[dict[str, Any]] = (REQUEST,),
        *,
        on_send: Callable[[dict[str, Any]], None] | None = None,
        parts: int | None = None,
    ) -> None:
        self.scope = scope
        self.incoming = deque(incoming)
        self.sent: list[dict[str, Any]] = []
        self.gone = asyncio.Event()
        self._on_send = on_send
        self._parts = parts

    async def receive(self) -> dict[str, Any]:
        """Return the application the next message."""
        if self.incoming:
            return self.incoming.popleft()
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        """Take a message of the application."""
        if self._on_send is not None:
            self._on_send(message)
        self.sent.append(message)
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self.gone.set()  # as servers do once the response is complete; Litestar's streams wait for it
        if self._parts is not None and len(self.response.parts) >= self._parts:
            self.gone.set()

    async def with_app(self, app: ASGIApp) -> None:
        """Run the application for this scope, in this task."""
        await app(self.scope, self.receive, self.send)

    @property
    def response(self) -> Response:
        """What a client would have made of the messages."""
        response = Response()
        for message in self.sent:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                response.status = message["status"]
                response.headers = texts(message)
            elif message["type"] == "http.response.body" and message.get("body"):
                response.parts.append(message["body"])
        return response


def texts(message: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the headers of a message as text."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]]


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in an empty context; nobody may be the current visitor before or after it."""

    async def watched() -> Any:
        assert not current_visitor
        try:
            return await main
        finally:
            assert not current_visitor

    return contextvars.Context().run(asyncio.run, watched())


def call_asgi(
    app: ASGIApp, scope: dict[str, Any], *, body: bytes = b"", parts: int | None = None
) -> Response:
    """Serve one request; the client goes away after so many `parts` of the response's body."""
    if body:
        scope["headers"].append((b"content-length", str(len(body)).encode()))

    async def main() -> Response:
        conversation = Conversation(scope, [{**REQUEST, "body": body}], parts=parts)
        error = None
        try:
            await conversation.with_app(app)
        except Exception as raised:
            error = repr(raised)
        response = conversation.response
        response.error = error
        return response

    return run(main())
