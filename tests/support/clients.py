"""Clients: our middleware over an application that answers everything, asked by a browser with cookies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol
from wsgiref.validate import validator

from mixpanel_visitor import asgi, wsgi

from .asgi_driver import Conversation, http_scope, run
from .responses import Jar, Response
from .wsgi_driver import call_wsgi, environ_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from mixpanel_visitor import Tracker, Visitor

    Handler = Callable[[Visitor], object]


class Client(Protocol):
    """A browser and a site."""

    jar: Jar

    def request(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"", **more: Any
    ) -> Response:
        """Ask with the cookies there are, and keep those of the answer."""
        ...


def visit(_visitor: Visitor) -> None:
    """Do nothing with the visitor."""


class WSGIClient:
    """Over WSGI, with the standard library's validator on both sides."""

    def __init__(self, tracker: Tracker, handler: Handler = visit) -> None:
        self.jar = Jar()
        self._handler = handler
        self._app = validator(wsgi.VisitorMiddleware(validator(self._answer), tracker=tracker))

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        self._handler(environ["mixpanel_visitor.visitor"])
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ["mixpanel_visitor.visitor_id"].encode()]

    def request(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"", **more: Any
    ) -> Response:
        headers = {**self.jar.header, **(headers or {})}
        environ = environ_of(method, path, headers, body=body)
        if more.get("wsgi.input_terminated"):
            del environ["CONTENT_LENGTH"]
        if more.pop("scheme", "http") == "https":
            environ["wsgi.url_scheme"] = "https"
        environ.update(more)
        response = call_wsgi(self._app, environ)
        self.jar.keep(response.headers)
        return response


class ASGIClient:
    """Over ASGI; the body comes in pieces."""

    def __init__(self, tracker: Tracker, handler: Handler = visit) -> None:
        self.jar = Jar()
        self._handler = handler
        self._app = asgi.VisitorMiddleware(self._answer, tracker=tracker)

    async def _answer(self, scope: Any, _receive: Any, send: Any) -> None:
        self._handler(scope["state"]["visitor"])
        headers = [(b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": scope["state"]["visitor_id"].encode()})

    def request(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"", **more: Any
    ) -> Response:
        headers = {**self.jar.header, **(headers or {})}
        pieces = [body[start : start + 700] for start in range(0, len(body), 700)] or [b""]
        incoming = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
        incoming[-1]["more_body"] = False
        conversation = Conversation(http_scope(method, path, headers, **more), incoming)
        run(conversation.with_app(self._app))
        self.jar.keep(conversation.response.headers)
        return conversation.response


CLIENTS: dict[str, type[WSGIClient | ASGIClient]] = {"wsgi": WSGIClient, "asgi": ASGIClient}
