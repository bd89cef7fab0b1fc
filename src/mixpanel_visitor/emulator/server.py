"""Server: the local Mixpanel on a socket; everything that knows HTTP's wire, and no rule of Mixpanel's.

It stands on `http.server`. Werkzeug's server ends each connection, waits 10 ms after each answer and cannot
drop a connection without one, which `chaos` needs; and `mixpanel-visitor dev` runs without any extra.
"""

from __future__ import annotations

import contextlib
import http.server
import logging
import socket
import socketserver
import sys
import threading
from email.message import Message
from typing import TYPE_CHECKING, Any, cast

from mixpanel_visitor.hosts import is_loopback

from .bodies import UnreadableBodyError, read_body
from .chaos import Chaos, NoAnswerError
from .event_log import EventLog
from .flags import LocalFlags
from .http import Reply, Request, error_reply
from .payload import PayloadError, parse_form
from .routes import Site
from .store import Store, wall_clock_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from .people import IdMerge

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 10 * 1024 * 1024
IDLE_S = 60.0
_STOP_S = 5.0
_UNSPECIFIED = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - where they are reached


class LocalMixpanel:
    """A local Mixpanel: the ingestion endpoints, a JSON listing and a page, on a thread of its own.

    Used as a context manager, or with `start` and `stop`; after a `stop` it can be started again, at the
    same port and with what it had received. With a `token` only that one is accepted. It holds users' events
    and has no password, so it binds to a loopback address unless `allow_remote` is given. `now_ms` is its
    wall clock, for rules about time and the Date header. `id_merge` is the project's setting "Identity
    Merge". Arrivals are lost at the end, unless `keep` is a directory for the last `max_events`. `chaos` are
    shares of requests that fail, see `chaos.KINDS`; `flags` is a file with definitions of feature flags.

    >>> with LocalMixpanel() as mixpanel:
    ...     mixpanel.url.startswith("http://127.0.0.1:"), mixpanel.store.stats()["received"]
    (True, 0)
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        token: str | None = None,
        max_events: int = 50_000,
        max_body_bytes: int = MAX_BODY_BYTES,
        gzip_profiles: bool = True,
        allow_remote: bool = False,
        now_ms: Callable[[], int] = wall_clock_ms,
        id_merge: IdMerge = "simplified",
        keep: Path | None = None,
        chaos: Mapping[str, float] | None = None,
        flags: Path | None = None,
    ) -> None:
        if not allow_remote and not is_loopback(host):
            raise ValueError(
                f"{host!r} is not a loopback address: anyone in the network could read what arrives. "
                "Use 127.0.0.1, or allow_remote=True if that is wanted"
            )
        if token == "":
            raise ValueError("the token must not be empty; leave it out to let any in")
        self.chaos = Chaos(chaos)
        self.flags = LocalFlags(flags)
        self._event_log = None if keep is None else EventLog(keep, max_lines=max_events)
        self.store = Store(max_events=max_events, now_ms=now_ms, id_merge=id_merge, event_log=self._event_log)
        self.host = host
        self._port = port
        self._max_body_bytes = max_body_bytes
        self._site = Site(
            self.store,
            token=token,
            max_body_bytes=max_body_bytes,
            gzip_profiles=gzip_profiles,
            any_host=not is_loopback(host),
            chaos=self.chaos,
            flags=self.flags,
        )
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port; 0 until the first start if none was asked for."""
        return self._port

    @property
    def url(self) -> str:
        """What to set as `MIXPANEL_API_HOST`."""
        host = _UNSPECIFIED.get(self.host, self.host)
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self._port}"

    def start(self) -> Self:
        """Bind and serve; raise OSError where the address is not available."""
        if self._server is not None:
            raise RuntimeError(f"the local Mixpanel already listens at {self.url}")
        self._server = server = _Server(self.host, self._port, self._site, self._max_body_bytes)
        self._port = server.server_address[1]
        self._site.start()
        self._thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="local-mixpanel", daemon=True
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop listening and close all connections; what has arrived stays in the store."""
        server, thread = self._server, self._thread
        if server is None or thread is None:
            return
        self._server = self._thread = None
        self._site.stop()
        server.shutdown()
        thread.join(_STOP_S)
        server.server_close()
        server.close_connections()

    def close(self) -> None:
        """Stop for good, and release the directory of arrivals."""
        self.stop()
        if self._event_log is not None:
            self._event_log.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def __init__(self, host: str, port: int, site: Site, max_body_bytes: int) -> None:
        self.site = site
        self.max_body_bytes = max_body_bytes
        self._connections: set[socket.socket] = set()
        self._changed = threading.Condition()
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)

    def server_bind(self) -> None:
        # Not HTTPServer's: that asks DNS for the host's full name, which may take seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name = str(self.server_address[0])
        self.server_port = int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._changed:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self._changed:
            self._connections.discard(request)
            self._changed.notify_all()

    def close_connections(self) -> None:
        """Close all connections, idle ones too, and wait for their threads."""
        with self._changed:
            for connection in self._connections:
                with contextlib.suppress(OSError):  # the client was faster
                    connection.shutdown(socket.SHUT_RDWR)
            self._changed.wait_for(lambda: not self._connections, _STOP_S)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        # A client that disconnects is not an error.
        error = sys.exc_info()[1]
        if not isinstance(error, (ConnectionError, TimeoutError)):
            logger.error("The local Mixpanel failed on a connection", exc_info=error)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    timeout = IDLE_S

    def serve(self) -> None:
        server = cast("_Server", self.server)
        try:
            request = self._request(server.max_body_bytes)
        except UnreadableBodyError as error:
            self.close_connection = True
            self._send(error_reply(error.status, str(error)))
            return
        except PayloadError as error:
            self._send(error_reply(error.status, str(error)))
            return
        try:
            reply = server.site.respond(request)
        except NoAnswerError:
            self.close_connection = True
            return
        except Exception:
            logger.exception("The local Mixpanel failed on %s %s", request.method, request.path)
            reply = error_reply(500, "the local Mixpanel failed, see its log")
        self._send(reply)

    do_GET = do_POST = do_HEAD = do_OPTIONS = do_PUT = do_PATCH = do_DELETE = serve  # noqa: N815

    def handle_expect_100(self) -> bool:
        proceed = super().handle_expect_100()
        self.wfile.flush()  # writes are buffered, and the client waits for this one
        return proceed

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        self.close_connection = True
        self._send(error_reply(code, message or "the request is not HTTP"))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing: listeners of the store show requests."""

    def version_string(self) -> str:
        return "LocalMixpanel"

    def date_time_string(self, timestamp: float | None = None) -> str:
        if timestamp is None:
            timestamp = cast("_Server", self.server).site.now_ms() / 1000
        return super().date_time_string(timestamp)

    def _request(self, max_bytes: int) -> Request:
        target, _, query = self.path.partition("?")
        headers = self.headers or Message()  # a request of HTTP/0.9 has a dict there, since Python 3.14
        body, truncated = read_body(self.rfile, headers, max_bytes)
        return Request(
            method=self.command,
            path=target.rstrip("/") or "/",
            query=parse_form(query),
            headers={name.lower(): value for name, value in headers.items()},
            body=body,
            truncated=truncated,
        )

    def _send(self, reply: Reply) -> None:
        if reply.stream is not None and self.command != "HEAD":
            self._send_stream(reply, reply.stream)
            return
        self.send_response(reply.status)
        for name, value in reply.headers:
            self.send_header(name, value)
        if reply.status != 204:
            self.send_header("Content-Type", reply.content_type)
            self.send_header("Content-Length", str(len(reply.body)))
            self.send_header("X-Content-Type-Options", "nosniff")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD" and reply.status != 204:
            self.wfile.write(reply.body)

    def _send_stream(self, reply: Reply, pieces: Iterator[bytes]) -> None:
        self.close_connection = True  # its end is the end of the body
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Connection", "close")
        self.end_headers()
        for piece in pieces:
            self.wfile.write(piece)
            self.wfile.flush()
