"""Harnesses with real servers: a process, a listening socket made here, raw HTTP as the client."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import tempfile
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixpanel_visitor.emulator import LocalMixpanel

from .apps import UNWRAPPED
from .harnesses import COLLECTOR, TOKEN, Harness
from .inbox import Inbox
from .mutants import python_path
from .responses import Jar, Response
from .trackers import SECRET_KEY
from .waiting import PATIENCE_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

TESTS = Path(__file__).parent.parent


class ServerHarness:
    """A server in a process of its own, asked over the wire."""

    notices_disconnect = True
    keeps_parts = True

    def __init__(self, port: int, inbox: Inbox) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._address = ("127.0.0.1", port)
        self.inbox = inbox
        self.jar = Jar()

    def begin(self) -> None:
        self._flush()
        self.jar.clear()
        self.inbox.clear()

    def request(
        self,
        method: str,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        cookies: bool = True,
        body: bytes = b"",
    ) -> Response:
        headers = {**(self.jar.header if cookies else {}), **(headers or {})}
        if method == "HEAD":
            response = self._ask_for_head(method, path, headers)
        else:
            response = self._ask(method, path, headers, body)
        if cookies:
            self.jar.keep(response.headers)
        return response

    def _ask(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Response:
        seen = Response()
        with contextlib.closing(http.client.HTTPConnection(*self._address, timeout=PATIENCE_S)) as connection:
            connection.request(method, path, body=body or None, headers=headers)
            with connection.getresponse() as answer:
                seen.status = answer.status
                seen.headers = answer.getheaders()
                try:
                    while part := answer.read1():  # at most one chunk of a chunked body
                        seen.parts.append(part)
                except (http.client.HTTPException, OSError) as error:
                    seen.error = type(error).__name__
                else:
                    if answer.length:
                        seen.error = f"{answer.length} bytes are missing"
        return seen

    def _ask_for_head(self, method: str, path: str, headers: dict[str, str]) -> Response:
        """Ask on a socket of our own: `http.client` would not look for a body here."""
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        with socket.create_connection(self._address, timeout=PATIENCE_S) as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode())
            raw = b""
            while received := connection.recv(65536):
                raw += received
        head, _, body = raw.partition(b"\r\n\r\n")
        status_line, _, fields = head.partition(b"\r\n")
        return Response(
            status=int(status_line.split()[1]),
            headers=http.client.parse_headers(BytesIO(fields + b"\r\n\r\n")).items(),
            parts=[body],
        )

    def disconnect(self, path: str) -> bytes:
        with contextlib.closing(http.client.HTTPConnection(*self._address, timeout=PATIENCE_S)) as connection:
            connection.request("GET", path)
            with connection.getresponse() as answer:
                return answer.read1()

    def events(self, expected: int) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []

        def arrived() -> bool:
            nonlocal events
            self._flush()
            events = self.inbox.events()
            return len(events) >= expected

        assert wait_until(arrived, PATIENCE_S), [event["event"] for event in events]
        return events

    def _flush(self) -> None:
        assert self._ask("GET", "/flush", {}).status == 200

    def is_up(self) -> bool:
        """Whether the server answers."""
        try:
            return self._ask("GET", UNWRAPPED + "/page", {}).status == 200
        except OSError:
            return False


_GUNICORN = ("gunicorn", "--bind", "fd://{fd}", "--workers", "1")
_UVICORN = ("uvicorn", "--fd", "{fd}", "--log-level", "warning")

COMMANDS = {
    "gunicorn-sync": (*_GUNICORN, "--worker-class", "sync", "support.apps:wsgi_app"),
    "gunicorn-gthread": (*_GUNICORN, "--worker-class", "gthread", "--threads", "4", "support.apps:flask_app"),
    # Built before the fork, and patched by gevent after it.
    "gunicorn-gevent": (*_GUNICORN, "--preload", "--worker-class", "gevent", "support.apps:flask_app"),
    "waitress": ("support.waitress_runner", "{fd}"),
    "werkzeug-server": ("support.werkzeug_app", "{fd}"),
    "uvicorn": (*_UVICORN, "support.apps:starlette_app"),
    "gunicorn-django": (*_GUNICORN, "--worker-class", "gthread", "support.django_site:wsgi_app"),
    "uvicorn-django": (*_UVICORN, "--lifespan", "off", "support.django_site:asgi_app"),
    "uvicorn-bare": (*_UVICORN, "support.apps:asgi_app"),
    "uvicorn-quart": (*_UVICORN, "support.quart_app:app"),
    "uvicorn-litestar": (*_UVICORN, "support.litestar_app:app"),
    "uvicorn-fastapi": (*_UVICORN, "support.fastapi_app:app"),
}
"""What `python -m` runs for each server; `{fd}` is the listening socket."""


@contextlib.contextmanager
def served(name: str, inbox: Inbox, directory: Path) -> Iterator[ServerHarness]:
    """Run a server until the end of the block; its spool and its log are in `directory`."""
    log_path = directory / "server.log"
    with (
        tempfile.TemporaryDirectory(prefix="mpv-") as home,  # short: gunicorn puts a Unix socket there
        contextlib.ExitStack() as running,
    ):
        with socket.socket() as listener, log_path.open("wb") as log:
            listener.bind(("127.0.0.1", 0))
            listener.listen(128)
            harness = ServerHarness(listener.getsockname()[1], inbox)
            process = subprocess.Popen(
                [sys.executable, "-m", *(part.format(fd=listener.fileno()) for part in COMMANDS[name])],
                env={
                    **os.environ,
                    "HOME": home,
                    "PYTHONPATH": python_path(TESTS),
                    "MIXPANEL_TOKEN": TOKEN,
                    "MIXPANEL_API_HOST": inbox.url,
                    "MIXPANEL_VISITOR_SECRET_KEY": SECRET_KEY,
                    "MIXPANEL_VISITOR_SPOOL": str(directory / "spool"),
                    "MIXPANEL_VISITOR_COLLECTOR_PATH": COLLECTOR,
                },
                pass_fds=[listener.fileno()],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            running.callback(_end, process)
        wait_until(lambda: process.poll() is not None or harness.is_up(), PATIENCE_S)
        if process.poll() is not None or not harness.is_up():
            raise RuntimeError(f"{name} did not start:\n{log_path.read_text()}")
        yield harness


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _started(name: str) -> Callable[[Path], AbstractContextManager[Harness]]:
    @contextlib.contextmanager
    def start(directory: Path) -> Iterator[Harness]:
        with LocalMixpanel() as mixpanel, served(name, Inbox(mixpanel.url), directory) as harness:
            yield harness

    return start


SERVERS = {name: _started(name) for name in COMMANDS}
"""Each starts a harness whose server keeps its spool in a directory."""
