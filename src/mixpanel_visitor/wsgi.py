"""VisitorMiddleware for any WSGI application (PEP 3333).

Every request gets a visitor: `environ["mixpanel_visitor.visitor"]` and its ID as
`environ["mixpanel_visitor.visitor_id"]`. What handlers queued is stored between the parts of the body, as
the server asks for the next one, and the rest when the body has been iterated to its end, when it fails, or
when the server closes it, whichever comes first; for a plain list and for a file that the server sends by
itself, when the application returns it. It trusts `wsgi.url_scheme` for the cookie's `Secure`: behind a proxy
that ends TLS, put this inside of werkzeug's `ProxyFix`.

Nothing of this package raises into the application or the server, and nothing of theirs is swallowed.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from .core.exchange import ENDED
from .core.request import facts_from_environ
from .process.timed_read import read_within
from .tracking import context
from .tracking.own_endpoints import OwnEndpoints
from .tracking.tracker import engine_of, tracker_or_new

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Unpack

    from .core.exchange import Exchange
    from .settings.keywords import SettingsKeywords
    from .tracking.engine import Engine
    from .tracking.handover_endpoint import Reply
    from .tracking.own_endpoints import OwnEndpoint
    from .tracking.tracker import Tracker
    from .tracking.visitor import Visitor

    Environ = dict[str, Any]
    StartResponse = Callable[..., Callable[[bytes], object]]
    App = Callable[[Environ, StartResponse], Iterable[bytes]]

VISITOR_KEY = "mixpanel_visitor.visitor"
VISITOR_ID_KEY = "mixpanel_visitor.visitor_id"

COMPLETE_BODY_KEY = "mixpanel_visitor.whole"
"""In the environ: none of the application's code runs while the body is iterated; set by an adapter."""


class VisitorMiddleware:
    """Wrap a WSGI application: `app = VisitorMiddleware(app, token="...", secret_key="...")`.

    Takes the fields of `Settings` as keywords, or a `tracker` that several applications share.

    >>> def app(environ, start_response):
    ...     environ["mixpanel_visitor.visitor"].track("Hello")
    ...     start_response("200 OK", [("Content-Type", "text/plain")])
    ...     return [environ["mixpanel_visitor.visitor_id"].encode()]
    >>> app = VisitorMiddleware(app, token="YOUR_TOKEN", secret_key="a-key-of-some-length")
    """

    def __init__(
        self, app: App, *, tracker: Tracker | None = None, **settings: Unpack[SettingsKeywords]
    ) -> None:
        """Wrap an application; raises `SettingsError` with all wrong settings."""
        self.app = app
        self.tracker = tracker_or_new(tracker, settings)
        self._engine = engine_of(self.tracker)
        self._endpoints = OwnEndpoints(self._engine)
        self._endings = self._endpoints.endings
        self._behind_proxies = bool(self.tracker.settings.trusted_proxies)
        self._eager = self.tracker.settings.durability != "after-response"  # commit before the response ends

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        if VISITOR_KEY in environ:
            return self.app(environ, start_response)
        path = environ.get("PATH_INFO", "")
        if (
            type(path) is str
            and path.endswith(self._endings)
            and (reply := self._serve_own_endpoint(path, environ)) is not None
        ):
            status = HTTPStatus(reply.status)
            start_response(f"{status.value} {status.phrase}", list(map(_with_title_case, reply.headers)))
            return [reply.body] if reply.body else []
        engine = self._engine
        try:
            facts = facts_from_environ(environ)
            if self._behind_proxies:
                facts = engine.behind_proxies(facts)
            exchange, visitor = engine.begin(facts, in_background=False)
        except Exception:
            engine.failed("the WSGI middleware")
            return self.app(environ, start_response)
        environ[VISITOR_KEY] = visitor
        environ[VISITOR_ID_KEY] = visitor.id
        # Before the application may replace it: servers compare with their own.
        file_wrapper = environ.get("wsgi.file_wrapper")
        token = context.enter(visitor)
        try:
            body = self.app(environ, _wrapped_start(engine, exchange, start_response, environ, self._route))
        except BaseException:
            engine.on_response_end(exchange, in_background=False)
            raise
        finally:
            context.leave(token)
        if file_wrapper is not None and _is_file(body, file_wrapper):
            # The server passes this object to sendfile: it must not be wrapped, so the exchange ends here.
            engine.on_response_end(exchange, in_background=False)
            return body
        if type(body) is list or (COMPLETE_BODY_KEY in environ and not exchange.pending):
            # The whole response is known, and servers are fastest with a plain list.
            engine.on_response_end(exchange, in_background=False)
            return body
        if hasattr(body, "__len__"):
            return _SizedBody(body, engine, exchange, visitor, eager=self._eager)
        return _Body(body, engine, exchange, visitor, eager=self._eager)

    def _serve_own_endpoint(self, path: str, environ: Environ) -> Reply | None:
        """Return the reply of an endpoint of our own; None: the request is the application's."""
        try:
            facts = self._engine.behind_proxies(facts_from_environ(environ))
            endpoint = self._endpoints.find(path, facts)
            if endpoint is None:
                return None
            reply = endpoint.reply(path, facts)
            if reply is None:
                body = _body(environ, endpoint)
                if body is None:
                    return endpoint.unavailable("slow_body", facts)
                reply = endpoint.take(path, facts, body, in_background=False)
        except Exception:
            self._engine.failed("the WSGI middleware")
            return None
        return reply

    def _route(self, environ: Environ) -> str | None:
        """Return the URL rule of Flask, or of a Werkzeug application that keeps it in the environ."""
        rule = getattr(getattr(environ.get("werkzeug.request"), "url_rule", None), "rule", None)
        return f"{environ.get('SCRIPT_NAME', '')}{rule}" if isinstance(rule, str) else None


def _body(environ: Environ, endpoint: OwnEndpoint) -> bytes | None:
    """Read a short body; of a longer one, enough to see that it is too long. None: it takes too long."""
    length = environ.get("CONTENT_LENGTH") or ""
    if length:
        size = min(int(length), endpoint.body_limit_bytes)
    else:
        # Without a length only some servers end the input (an extension of gunicorn and werkzeug).
        size = endpoint.body_limit_bytes if environ.get("wsgi.input_terminated") else 0
    if endpoint.body_deadline_s is None or not size or "uwsgi.version" in environ:
        # uWSGI runs no threads by default, and has its own time-out for bodies.
        body: bytes = environ["wsgi.input"].read(size)
        return body
    return read_within(environ["wsgi.input"].read, size, timeout_s=endpoint.body_deadline_s)


def _wrapped_start(
    engine: Engine,
    exchange: Exchange,
    start_response: StartResponse,
    environ: Environ,
    route_of: Callable[[Environ], str | None],
) -> StartResponse:
    def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
        try:
            code = int(status[:3])
            if not exchange.starts_unchanged(code):
                if type(headers) is not list:
                    headers = list(headers)  # an iterator can be read only once
                added = engine.on_response_start(exchange, code, lambda: headers, lambda: route_of(environ))
                if added:
                    headers = [*headers, *map(_with_title_case, added)]
        except Exception:
            engine.failed("start_response")
        if exc_info is None:
            return start_response(status, headers)  # some servers do not take a third argument
        return start_response(status, headers, exc_info)

    return start


def _with_title_case(header: tuple[str, str]) -> tuple[str, str]:
    return header[0].title(), header[1]


def _is_file(body: Any, file_wrapper: Any) -> bool:
    if isinstance(file_wrapper, type):
        return isinstance(body, file_wrapper)
    return hasattr(body, "read") or hasattr(body, "fileno")  # uWSGI, where it is a builtin function


class _Body:
    """The application's body: ends the exchange once, on exhaustion, error or close."""

    __slots__ = ("_body", "_eager", "_engine", "_exchange", "_iterator", "_visitor")

    def __init__(
        self, body: Iterable[bytes], engine: Engine, exchange: Exchange, visitor: Visitor, *, eager: bool
    ) -> None:
        self._body = body
        self._iterator: Iterator[bytes] | None = None
        self._engine = engine
        self._exchange = exchange
        self._visitor = visitor
        self._eager = eager

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        token = context.enter(self._visitor)
        try:
            if self._iterator is None:
                self._iterator = iter(self._body)
            elif self._exchange.has_records:
                self._engine.commit(self._exchange, in_background=False)  # the chunk before this one is sent
            chunk = next(self._iterator)
        except BaseException:  # StopIteration above all
            self._engine.on_response_end(self._exchange, in_background=False)
            raise
        finally:
            context.leave(token)
        if self._eager and self._exchange.has_records:
            self._engine.commit_before_response(self._exchange)  # any chunk may be the last one
        return chunk

    def close(self) -> None:
        """Close the application's body, then store what is left."""
        token = context.enter(self._visitor)
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._engine.on_response_end(self._exchange, in_background=False)
            context.leave(token)

    def __del__(self) -> None:
        """End the exchange where the server has dropped the body without `close`, against PEP 3333."""
        if self._exchange.state is not ENDED:
            try:
                self._engine.on_response_end(self._exchange, in_background=True)
            except Exception:
                self._engine.failed("the body's finalizer")


class _SizedBody(_Body):
    """A body with a length: servers derive the Content-Length of a body of one chunk."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(self._body)  # type: ignore[arg-type]
