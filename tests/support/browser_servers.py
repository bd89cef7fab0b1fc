"""What a journey's browser can reach: a shop over TLS or not, the SDK's files, and the way to Mixpanel."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import socket
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import orjson
import trustme
import uvicorn
from werkzeug.serving import WSGIRequestHandler, make_server

from . import browser_sdk
from .waiting import PATIENCE_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.types import Receive, Scope, Send


HANDOVER = "/_visitor"
"""Where our script posts."""

ELSEWHERE = "/elsewhere"
"""Where a page of another site is: to be asked for by a host that is not the shop's."""

_SDK_FILES = ("mixpanel.module.js", "mixpanel.umd.js", "mixpanel.min.js")


@dataclass(frozen=True, slots=True)
class Certificate:
    """Files with the certificate of `*.example.com`, its key included."""

    path: Path

    @classmethod
    def made(cls, directory: Path) -> Certificate:
        """Make one, signed by nobody whom a browser knows."""
        path = directory / "example.com.pem"
        trustme.CA().issue_cert("*.example.com", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
            path
        )
        return cls(path)


class Wire:
    """What went over the wire to a shop: one text for a request, with the cookies that matter.

    `handed_over` are the bodies of the hand-overs that were taken.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.handed_over: list[str] = []

    def note(
        self, request: str, cookies: str, status: int, set_cookies: list[str], *, body: str = ""
    ) -> None:
        """Note a request, which is a method and a URL, and its answer."""
        sent = "".join(f"\n      has  {readable(part)}" for part in cookies.split("; ") if part)
        got = "".join(f"\n      gets {readable(each)}" for each in set_cookies)
        self.lines.append(f"{request} {body} -> {status}{sent}{got}")
        if body and status == 204:
            self.handed_over.append(body)


def readable(cookie: str) -> str:
    """Shorten a cookie to what matters: of the SDK's, the IDs."""
    name, _, rest = cookie.partition("=")
    value, semicolon, attributes = rest.partition(";")
    with contextlib.suppress(ValueError):
        properties = orjson.loads(unquote(value))
        if isinstance(properties, dict):
            value = str({key: properties[key] for key in _IDS if key in properties})
    return f"{name}={value}{semicolon}{attributes}"


_IDS = ("distinct_id", "$device_id", "$user_id", "$had_persisted_distinct_id", "visitor")


class Front:
    """The ASGI application behind both of this module's ports; the journey that runs sets the rest.

    `/sdk/...` are the SDK's builds, `/mp/<key>/...` goes on to the local Mixpanel of the journey with this
    key (so that what an earlier page still sends is nobody's), everything else is the shop's.
    """

    def __init__(self) -> None:
        builds = browser_sdk.files()
        self._files = {f"/sdk/{name}": (builds / name).read_bytes() for name in _SDK_FILES}
        self.https_port = 0
        self.http_port = 0
        self.shop: Any = None
        self.elsewhere = ""
        self.key = ""
        self.mixpanel_url = ""
        self.wire = Wire()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = scope["path"]
        if path.startswith("/sdk/"):
            await _answer(send, 200, self._files[path], ("content-type", "text/javascript"), _CACHED, _CORS)
        elif path.startswith("/mp/"):
            await self._forward(scope, receive, send)
        elif path == ELSEWHERE:
            await _answer(send, 200, self.elsewhere.encode(), ("content-type", "text/html; charset=utf-8"))
        elif self.shop is None or path == "/favicon.ico":
            await _answer(send, 404, b"nobody is travelling")
        else:
            body: list[bytes] = []

            async def read() -> Any:
                message = await receive()
                if path == HANDOVER:
                    body.append(message.get("body", b""))
                return message

            await self.shop(scope, read, self._noting(scope, send, body))

    def _noting(self, scope: Scope, send: Send, body: list[bytes]) -> Send:
        path, wire = scope["path"], self.wire  # a late answer must not go into the next journey's

        async def noting(message: Any) -> None:
            if message["type"] == "http.response.start":
                wire.note(
                    f"{scope['method']} {scope['scheme']}://{_header(scope['headers'], b'host')}{path}",
                    _header(scope["headers"], b"cookie"),
                    message["status"],
                    [value.decode("latin-1") for name, value in message["headers"] if name == b"set-cookie"],
                    body=b"".join(body).decode(),
                )
            await send(message)

        return noting

    async def _forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        _, _, key, rest = scope["path"].split("/", 3)
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        if key != self.key:
            await _answer(send, 410, b"this journey is over")
            return
        target = f"/{rest}?{scope['query_string'].decode()}"
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        status, given, answer = await asyncio.to_thread(
            _ask, self.mixpanel_url, scope["method"], target, headers, body
        )
        await _answer(send, status, answer, *given)


_CORS = ("access-control-allow-origin", "*")
_CACHED = ("cache-control", "public, max-age=3600")
_OF_THE_HOP = {"host", "connection", "content-length", "transfer-encoding"}


def _ask(
    url: str, method: str, target: str, headers: dict[str, str], body: bytes
) -> tuple[int, list[tuple[str, str]], bytes]:
    address = urlsplit(url)
    assert address.hostname is not None
    with contextlib.closing(
        http.client.HTTPConnection(address.hostname, address.port, timeout=PATIENCE_S)
    ) as connection:
        passed_on = {name: value for name, value in headers.items() if name not in _OF_THE_HOP}
        connection.request(method, target, body, passed_on)
        with connection.getresponse() as answer:
            given = [(name, value) for name, value in answer.getheaders() if name.lower() not in _OF_THE_HOP]
            return answer.status, given, answer.read()


async def _answer(send: Send, status: int, body: bytes, *headers: tuple[str, str]) -> None:
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
    raw.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def _header(headers: Any, wanted: bytes) -> str:
    return "; ".join(value.decode("latin-1") for name, value in headers if name == wanted)


@contextlib.contextmanager
def served_front(certificate: Certificate) -> Iterator[Front]:
    """Serve a front on two ports, with and without TLS, until the end of the block."""
    front = Front()
    with _uvicorn(front, certificate) as front.https_port, _uvicorn(front, None) as front.http_port:
        yield front


@contextlib.contextmanager
def _uvicorn(app: Any, certificate: Certificate | None) -> Iterator[int]:
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_level="warning",
        ssl_certfile=certificate.path if certificate else None,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        thread = threading.Thread(
            target=server.run, kwargs={"sockets": [listener]}, name="front", daemon=True
        )
        thread.start()
        try:
            assert wait_until(lambda: server.started or not thread.is_alive(), PATIENCE_S)
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(PATIENCE_S)


class _QuietHandler(WSGIRequestHandler):
    protocol_version = "HTTP/1.0"  # no thread waits for a second request

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002
        """Requests are noted by the wire."""


@contextlib.contextmanager
def served_wsgi(app: Any, certificate: Certificate, wire: Wire) -> Iterator[int]:
    """Serve a WSGI application with Werkzeug's own TLS, and give the port."""

    def noting(environ: Any, start_response: Any) -> Any:
        body = b""
        if environ["PATH_INFO"] == HANDOVER:
            body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            environ["wsgi.input"] = io.BytesIO(body)

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            url = f"{environ['wsgi.url_scheme']}://{environ['HTTP_HOST']}{environ['PATH_INFO']}"
            request = f"{environ['REQUEST_METHOD']} {url}"
            given = [value for name, value in headers if name.lower() == "set-cookie"]
            wire.note(request, environ.get("HTTP_COOKIE", ""), int(status[:3]), given, body=body.decode())
            return start_response(status, headers, exc_info)

        return app(environ, start)

    server = make_server(
        "127.0.0.1",
        0,
        noting,
        threaded=True,
        request_handler=_QuietHandler,
        ssl_context=(str(certificate.path), str(certificate.path)),
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="werkzeug", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join(PATIENCE_S)
        server.server_close()
