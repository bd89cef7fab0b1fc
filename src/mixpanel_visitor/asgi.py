"""VisitorMiddleware for any ASGI application.

Every `http` and `websocket` request gets a visitor: `scope["state"]["visitor"]` and its ID as
`scope["state"]["visitor_id"]`. What handlers queued is committed from the response's head on, with
each part that is sent, and again when the application returns. It trusts the scope's `scheme` for the
cookie's `Secure`: behind a proxy that ends TLS, let the server read the proxy's headers (`uvicorn
--proxy-headers`).

Nothing of this package raises into the application or the server, and nothing of theirs is swallowed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from typing import TYPE_CHECKING, Any

from .core.exchange import OPEN
from .core.request import facts_from_scope, header_text
from .observability.rate_limited_log import RateLimitedLog
from .process.exit_hooks import EXIT_TIMEOUT_S
from .tracking import context
from .tracking.own_endpoints import OwnEndpoints
from .tracking.tracker import engine_of, tracker_or_new
from .tracking.visitor import Visitor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, MutableMapping
    from types import FrameType
    from typing import Unpack

    from .core.exchange import Exchange
    from .core.request import RequestFacts
    from .settings.keywords import SettingsKeywords
    from .tracking.engine import Engine
    from .tracking.handover_endpoint import Reply
    from .tracking.own_endpoints import OwnEndpoint
    from .tracking.tracker import Tracker

    Message = MutableMapping[str, Any]
    # Any, as Starlette's own factories have it: frameworks and asgiref differ in how they type the three.
    Scope = Any
    Receive = Callable[[], Awaitable[Any]]
    Send = Callable[[Any], Awaitable[None]]
    App = Callable[[Scope, Receive, Send], Awaitable[Any]]

SCOPE_KEY = "mixpanel_visitor.visitor"
"""The visitor in the scope itself: `state` may be shared between requests by a faulty server."""

TRACKER_KEY = "mixpanel_visitor.tracker"
"""The tracker in the scope, for what templates need."""

MAX_HELD_BYTES = 8 * 2**20
"""How much memory the bodies of open requests to our own endpoints may take together."""

SHORT_BODY_BYTES = 16_384
"""A body up to this size is read even beyond that: the endpoints bound how many wait."""

ROUTE_KEY = "mixpanel_visitor.route"
"""In the scope: the template of the route, from a door whose framework does not keep it there."""

_PAIR_TYPES = frozenset((tuple, list))

_STATE_NAMES = frozenset(("visitor", "visitor_id"))

_HEAD_TYPES = frozenset(("http.response.start", "websocket.accept", "websocket.http.response.start"))


if sys.version_info >= (3, 12):
    from inspect import markcoroutinefunction as _marked_as_coroutine_function
else:

    def _marked_as_coroutine_function(function: Any) -> Any:
        """Mark it as asgiref does: `asyncio.iscoroutinefunction` looks for this."""
        function._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]  # noqa: SLF001
        return function


class VisitorMiddleware:
    """Wrap an ASGI application: `app = VisitorMiddleware(app, token="...", secret_key="...")`.

    Takes the fields of `Settings` as keywords, or a `tracker` that several applications share. With its own
    tracker, it delivers from the lifespan's start-up on and drains at its shut-down.

    >>> async def app(scope, receive, send):
    ...     scope["state"]["visitor"].track("Hello")
    ...     await send({"type": "http.response.start", "status": 200, "headers": []})
    ...     await send({"type": "http.response.body", "body": scope["state"]["visitor_id"].encode()})
    >>> app = VisitorMiddleware(app, token="YOUR_TOKEN", secret_key="a-key-of-some-length")
    """

    def __init__(
        self, app: App, *, tracker: Tracker | None = None, **settings: Unpack[SettingsKeywords]
    ) -> None:
        """Wrap an application; raises `SettingsError` with all wrong settings."""
        self.app = app
        self._error: Exception | None = None
        self._scope_types: tuple[str, ...] = ("http", "websocket")
        self._endings: tuple[str, ...] = ()
        try:
            self.tracker = tracker_or_new(tracker, settings)
        except Exception as error:
            if not _built_in_lifespan():
                raise
            self._error, self._scope_types = error, ()
            return
        self._engine = engine_of(self.tracker)
        self._endpoints = OwnEndpoints(self._engine)
        self._endings = self._endpoints.endings
        self._body_memory = _BodyMemory()
        self._behind_proxies = bool(self.tracker.settings.trusted_proxies)
        self._eager = self.tracker.settings.durability != "after-response"  # commit before the response ends
        self._log = RateLimitedLog()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        """Serve one request, one socket or the lifespan."""
        try:
            kind = scope["type"]
            is_own_path = kind == "http" and scope["path"].endswith(self._endings)
        except (KeyError, AttributeError, TypeError):  # the scope lacks what ASGI requires
            kind, is_own_path = scope.get("type"), False
        if kind not in self._scope_types or SCOPE_KEY in scope:
            if self._error is not None:
                return await _refuse(self._error, kind, receive, send)
            return await self.app(scope, receive, self._lifespan_send(send) if kind == "lifespan" else send)
        if is_own_path and await self._serve_own_endpoint(scope, receive, send):
            return None
        engine = self._engine
        try:
            facts = facts_from_scope(scope)
            if self._behind_proxies:
                facts = engine.behind_proxies(facts)
            exchange, visitor = engine.begin(facts, in_background=True)
            scope[TRACKER_KEY] = self.tracker
            scope[SCOPE_KEY] = visitor
            state = scope.get("state")
            if state is None:
                scope["state"] = state = {}
            elif state and not _STATE_NAMES.isdisjoint(state):
                scope["state"] = state = self._own_state(state)
            state.setdefault("visitor", visitor)
            state.setdefault("visitor_id", visitor.id)
        except Exception:
            engine.failed("the ASGI middleware")
            return await self.app(scope, receive, send)
        token = context.enter(visitor)
        try:
            result = await self.app(scope, receive, _wrap_send(engine, exchange, send, scope, self._eager))
            if self._eager and exchange.has_records:
                await _commit_before_response(engine, exchange)
            return result
        finally:
            # No await here: in a cancelled task it would raise and the events would be lost.
            engine.on_response_end(exchange, in_background=True)
            context.leave(token)

    async def _serve_own_endpoint(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Answer a request to an endpoint of our own; False: it is the application's."""
        try:
            facts = self._engine.behind_proxies(facts_from_scope(scope))
            # Servers and frameworks differ in whether `path` begins with the `root_path`.
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            endpoint = self._endpoints.find(path, facts)
            if endpoint is None:
                return False
            reply = endpoint.reply(path, facts)
        except Exception:
            self._engine.failed("the ASGI middleware")
            return False
        if reply is None:
            with self._body_memory.reading() as reserve:
                body = await _read_body(receive, endpoint, reserve)
                if body is None:
                    reply = endpoint.unavailable("slow_body", facts)
                else:
                    reply = await _take(endpoint, path, facts, body)
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers]
        if reply.closes and scope.get("http_version") == "1.1":  # HTTP/2 has no such header
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body, "more_body": False})
        return True

    def _own_state(self, state: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Return a copy of a state that already has our names, from another request or the application."""
        if isinstance(state.get("visitor"), Visitor):
            # The server hands the same dict to several requests (gunicorn 24 to 26.1 did).
            return {name: value for name, value in state.items() if name not in _STATE_NAMES}
        self._log(
            logging.WARNING,
            "state",
            "the application's lifespan state has its own %s, which stays as it is. Reach the visitor of a "
            "request as mixpanel_visitor.current_visitor, or with mixpanel_visitor.starlette.get_visitor.",
            " and ".join(repr(name) for name in sorted(_STATE_NAMES.intersection(state))),
        )
        return dict(state)

    def _lifespan_send(self, send: Send) -> Send:
        engine = self._engine

        async def send_and_drain(message: Message) -> None:
            kind = message.get("type")
            if kind == "lifespan.startup.complete":
                begin_serving(engine)
            elif kind in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
                end_serving(engine)
            await send(message)

        return send_and_drain


def begin_serving(engine: Engine) -> None:
    """Begin to deliver, at the lifespan's start-up."""
    try:
        engine.start()
    except Exception:
        engine.failed("start-up")


def end_serving(engine: Engine) -> None:
    """Drain, at the lifespan's shut-down.

    This blocks the loop, for EXIT_TIMEOUT_S at most: all requests are over, and any other way would depend on
    the loop's library. Uvicorn gives no later chance (no atexit on SIGTERM).
    """
    try:
        engine.drain(EXIT_TIMEOUT_S)
    except Exception:
        engine.failed("shut-down")


def _built_in_lifespan() -> bool:
    """Return whether a framework builds the middleware after the server's start, as Starlette does.

    Servers read an exception there as "this application has no lifespan", and then serve errors.
    """
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001  # inspect.stack() reads source files
    while frame is not None:
        if frame.f_code.co_name == "build_middleware_stack" and frame.f_back is not None:
            scope = frame.f_back.f_locals.get("scope")
            return isinstance(scope, dict) and scope.get("type") == "lifespan"
        frame = frame.f_back
    return False


async def _refuse(error: Exception, kind: object, receive: Receive, send: Send) -> None:
    """Report the error to the server's start-up, and raise it."""
    if kind == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.failed", "message": str(error)})
    raise error


def _wrap_send(engine: Engine, exchange: Exchange, send: Send, scope: Scope, eager: bool) -> Send:
    """Return the application's `send`: it adds our headers to the head and commits what was tracked."""

    def send_with_headers(message: Message) -> Awaitable[None]:
        # No coroutine of our own around most messages: it would double the cost.
        if exchange.state is OPEN and message.get("type") in _HEAD_TYPES:
            status = message.get("status", 101)
            if not exchange.starts_unchanged(status):
                message = _with_headers(engine, exchange, message, status, scope)
        if exchange.pending is None:
            return send(message)
        if eager:
            return _commit_and_send(engine, exchange, send, message)
        if exchange.state is not OPEN:
            # With the last part, and between the parts of a stream, which may never end. A thread waits for
            # the disk, not the event loop.
            engine.commit(exchange, in_background=True)
        return send(message)

    # Bridges to sync code check whether this can be awaited.
    marked_send: Send = _marked_as_coroutine_function(send_with_headers)
    return marked_send


async def _commit_and_send(engine: Engine, exchange: Exchange, send: Send, message: Message) -> None:
    if exchange.has_records:
        # Any message may complete the response for the client: the head of a 204, the part that reaches the
        # Content-Length.
        await _commit_before_response(engine, exchange)
    await send(message)


async def _commit_before_response(engine: Engine, exchange: Exchange) -> None:
    """Commit; with `durability="delivered"` wait for Mixpanel's acknowledgement, in a thread."""
    engine.commit(exchange, in_background=False)
    if not engine.waits_for_delivery:
        return
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        engine.wait_for_delivery()  # the loop of another library, such as trio's, has no threads for us
    else:
        await loop.run_in_executor(None, engine.wait_for_delivery)


def _with_headers(engine: Engine, exchange: Exchange, message: Message, status: int, scope: Scope) -> Message:
    """Return the head with our headers, as a new message: applications may reuse theirs."""
    raw: list[tuple[bytes, bytes]] = message.get("headers") or []

    def read_headers() -> list[tuple[str, str]]:
        nonlocal raw, message
        if type(raw) is not list or not _PAIR_TYPES.issuperset(map(type, raw)):
            # Iterables that may be readable only once: send on what was read.
            raw = [pair if type(pair) in (tuple, list) else (*pair,) for pair in raw]
            message = {**message, "headers": raw}
        return [(header_text(name), header_text(value)) for name, value in raw]

    added = engine.on_response_start(exchange, status, read_headers, lambda: _route(scope))
    if not added:
        return message
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in added]
    return {**message, "headers": [*raw, *encoded]}


class _BodyMemory:
    """Counts the bytes of the bodies of our own endpoints, from their arrival to the response."""

    def __init__(self) -> None:
        self._held_bytes = 0

    @contextlib.contextmanager
    def reading(self) -> Iterator[Callable[[int], bool]]:
        """Provide a function that counts a part of one body, and returns whether there is room for more."""
        body_bytes = 0

        def reserve(part_bytes: int) -> bool:
            nonlocal body_bytes
            body_bytes += part_bytes
            self._held_bytes += part_bytes
            return self._held_bytes <= MAX_HELD_BYTES

        try:
            yield reserve
        finally:
            self._held_bytes -= body_bytes


async def _read_body(receive: Receive, endpoint: OwnEndpoint, reserve: Callable[[int], bool]) -> bytes | None:
    """Read a short body; of a longer one, enough to see that it is too long. None: not within bounds."""
    deadline_s = endpoint.body_deadline_s
    if deadline_s is None or not _on_asyncio():
        return await _read_parts(receive, endpoint.body_limit_bytes, reserve)
    try:
        async with asyncio.timeout(deadline_s):
            return await _read_parts(receive, endpoint.body_limit_bytes, reserve)
    except TimeoutError:
        return None


async def _read_parts(receive: Receive, limit_bytes: int, reserve: Callable[[int], bool]) -> bytes | None:
    parts: list[bytes] = []
    size = 0
    while size < limit_bytes:
        message = await receive()
        part = message.get("body", b"")
        parts.append(part)
        size += len(part)
        is_last = not message.get("more_body")  # also of a client that has disconnected
        if not reserve(len(part)) and not (is_last and size <= SHORT_BODY_BYTES):
            return None
        if is_last:
            break
    return b"".join(parts)


async def _take(endpoint: OwnEndpoint, path: str, facts: RequestFacts, body: bytes) -> Reply:
    """Take a request, in a thread where that may block and the loop is asyncio's."""
    if endpoint.body_deadline_s is None or not _on_asyncio():
        return endpoint.take(path, facts, body, in_background=True)
    future = endpoint.submit(path, facts, body)
    if future is None:
        return endpoint.unavailable("busy", facts)
    return await asyncio.wrap_future(future)


def _on_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False  # the loop of another library, such as trio's
    return True


def _route(scope: Scope) -> str | None:
    """Return the template of the framework's route; None: not known."""
    path = getattr(scope.get("route"), "path", None) or scope.get("path_template") or scope.get(ROUTE_KEY)
    return f"{scope.get('root_path', '')}{path}" if path and isinstance(path, str) else None
