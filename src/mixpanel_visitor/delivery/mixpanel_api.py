"""Mixpanel's ingestion API over HTTP: one request, one `Answer`; the only file that knows urllib3.

urllib3 is imported with the first request, so that importing this package stays cheap.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import http.client
import importlib
import importlib.metadata
import io
import os
import socket
import ssl
import threading
import time
import urllib.parse
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from _typeshed import WriteableBuffer
    from urllib3.connection import HTTPConnection

    from mixpanel_visitor.records import Endpoint

ANSWER_MAX_BYTES = 1024 * 1024
"""No more of an answer's body is read; 2,000 failed records fit in a third of it."""

_PIECE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back for one request; trouble on the network is an answer as well.

    `status` is 0 where no HTTP answer came. `headers` have lower-case names. `failure` starts with one of
    refused, timeout, dns, tls, reset, protocol, network, error and goes on with the library's message; next
    to a status it means that the body ended early. `sent` is true once the whole request was handed to the
    operating system: from then on, without a clear answer, nobody knows whether Mixpanel has taken it.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    failure: str = ""
    sent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """In seconds: to connect, between two signs of life, for all of a request, and idle before a reconnect.

    `idle_s` is below the idle limits of the usual balancers and NATs (60 s and up), which drop silently.
    """

    connect_s: float = 5.0
    read_s: float = 30.0
    total_s: float = 60.0
    idle_s: float = 50.0


class MixpanelAPI:
    """One kept-alive connection to one Mixpanel host; any thread may `post`, one at a time.

    `host_url` is `https://api.mixpanel.com` or its like; a path in it is kept, for a proxy of one's own.
    `service_account` is (user name, secret, project id) and takes the token's place for `/import`.
    `on_sent` is called when all of a request was handed to the operating system, before its answer.
    `ca_file` replaces the system's certificate authorities. A name look-up obeys the operating system's
    time-out, not ours. A forked child opens its own connection. Raises ValueError for a `host_url` that is
    no HTTP address.
    """

    def __init__(
        self,
        host_url: str,
        token: str,
        service_account: tuple[str, str, str] | None = None,
        *,
        timeouts: Timeouts | None = None,
        ca_file: str | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        on_sent: Callable[[], None] | None = None,
    ) -> None:
        url = urllib.parse.urlsplit(host_url)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError(f"not the address of an HTTP server: {host_url!r}")
        self._secure = url.scheme == "https"
        self._host, self._port = url.hostname, url.port
        self._timeouts = timeouts or Timeouts()
        self._ca_file = ca_file
        self._monotonic = monotonic
        self._on_sent = on_sent
        credentials, project = f"{token}:", ""
        if service_account is not None:
            username, secret, project_id = service_account
            credentials = f"{username}:{secret}"
            project = f"&project_id={urllib.parse.quote(project_id, safe='')}"
        self._authorization = f"Basic {base64.b64encode(credentials.encode()).decode()}"
        prefix = url.path.rstrip("/")
        # ip=0: a profile's place must not become that of our server.
        self._targets: dict[Endpoint, str] = {
            "import": f"{prefix}/import?strict=1{project}",
            "engage": f"{prefix}/engage?verbose=1&strict=1&ip=0",
            "groups": f"{prefix}/groups?verbose=1&strict=1",
        }
        self._compress = _compressor()
        self._user_agent = ""
        self._connection: HTTPConnection | None = None
        self._known = _numeric(self._host, self._port or (443 if self._secure else 80))
        self._start_over()

    def post(self, endpoint: Endpoint, bodies: Sequence[bytes], *, timeout_s: float | None = None) -> Answer:
        """Send records as one JSON array; `timeout_s` can only shorten the time-out for the whole request.

        Never raises for trouble on the network: that is an `Answer` with a `failure`.
        """
        if self._pid != os.getpid():
            self._start_over()
        payload = b"[" + b",".join(bodies) + b"]"
        if endpoint == "import":
            # Not for profiles: "This API does not support gzip encoding" (Mixpanel's reference, profile-set).
            payload = self._compress(payload)
        total_s = self._timeouts.total_s if timeout_s is None else min(self._timeouts.total_s, timeout_s)
        deadline = _Deadline(self._monotonic, total_s, self._timeouts.read_s)
        exchange = _Exchange(deadline, self._on_sent)
        with self._lock:
            try:
                connection = self._connect(exchange.deadline)
                exchange.run(connection, self._targets[endpoint], self._headers(endpoint, payload), payload)
            except Exception as error:
                exchange.failure = _failure(error)
            finally:
                # What may still be on its way on this socket must not be read as the next answer.
                if not exchange.complete:
                    self._disconnect()
                self._used_at_s = self._monotonic()
        return exchange.answer()

    def close(self, timeout_s: float = 1.0) -> bool:
        """Close the connection; the next `post` opens a new one. False: a request is still under way."""
        if self._pid != os.getpid():
            self._start_over()
        if not self._lock.acquire(timeout=max(0.0, timeout_s)):
            return False
        try:
            self._disconnect()
        finally:
            self._lock.release()
        return True

    def _start_over(self) -> None:
        # After a fork the lock may be held by a thread that is not here, and the socket is the parent's:
        # closing our copy of it sends nothing.
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._used_at_s = self._monotonic()
        self._disconnect()

    def _connect(self, deadline: _Deadline) -> HTTPConnection:
        connection = self._connection
        if connection is not None:
            if connection.is_connected and self._monotonic() - self._used_at_s < self._timeouts.idle_s:
                return connection
            self._disconnect()
        from urllib3.connection import HTTPConnection, HTTPSConnection  # noqa: PLC0415

        timeout_s = deadline.left_s(self._timeouts.connect_s)
        if self._secure:
            connection = HTTPSConnection(
                self._host, self._port, timeout=timeout_s, ca_certs=self._ca_file, cert_reqs="CERT_REQUIRED"
            )
        else:
            connection = HTTPConnection(self._host, self._port, timeout=timeout_s)
        self._connection = connection
        by_name = connection._new_conn  # noqa: SLF001  # where urllib3's own subclasses hook in, too
        connection._new_conn = lambda: self._new_socket(by_name, deadline)  # type: ignore[method-assign]  # noqa: SLF001
        connection.connect()
        return connection

    def _new_socket(self, by_name: Callable[[], socket.socket], deadline: _Deadline) -> socket.socket:
        """Connect by name, or by the address that is known where names cannot be looked up.

        That is so in an outage of the name service, and at exit under gevent, whose look-up needs a thread.
        """
        from urllib3.exceptions import NameResolutionError  # noqa: PLC0415

        known = self._known
        if known is None or not known.certain:
            try:
                connected = by_name()
            except (NameResolutionError, RuntimeError):
                if known is None:
                    raise
            else:
                if self._secure:  # only a certificate proves later that the address is still the host's
                    address = connected.getpeername()
                    self._known = _Address(family=connected.family, address=address, certain=False)
                return connected
        connected = socket.socket(known.family, socket.SOCK_STREAM)
        try:
            connected.settimeout(deadline.left_s(self._timeouts.connect_s))
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connected.connect(known.address)
        except BaseException:
            connected.close()
            raise
        return connected

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _headers(self, endpoint: Endpoint, payload: bytes) -> dict[str, str]:
        if not self._user_agent:
            self._user_agent = f"mixpanel-visitor/{importlib.metadata.version('mixpanel-visitor')}"
        headers = {
            "User-Agent": self._user_agent,
            "Accept": "application/json",
            "Content-Type": "application/json",
            "Content-Length": str(len(payload)),
        }
        if endpoint == "import":  # a profile update carries the token itself
            headers["Content-Encoding"] = "gzip"
            headers["Authorization"] = self._authorization
        return headers


@dataclass(frozen=True, slots=True, kw_only=True)
class _Address:
    """Where a host was found; `certain` where its name is its address."""

    family: int
    address: Any
    certain: bool


def _numeric(host: str, port: int) -> _Address | None:
    """Give the address that `host` spells; None: it is a name."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError, ValueError):
            socket.inet_pton(family, host)
            return _Address(family=family, address=(host, port), certain=True)
    return None


class _Deadline:
    """The end of one request, and what is left until then for one wait."""

    def __init__(self, monotonic: Callable[[], float], total_s: float, step_s: float) -> None:
        self._monotonic = monotonic
        self._total_s = total_s
        self._step_s = step_s
        self._ends_s = monotonic() + total_s

    def left_s(self, most_s: float | None = None) -> float:
        left_s = self._ends_s - self._monotonic()
        if left_s <= 0:
            raise TimeoutError(f"the whole request took longer than {self._total_s:g} s")
        return min(left_s, self._step_s if most_s is None else most_s)


class _Exchange:
    """One request and its answer on an open connection; keeps what has come until something fails."""

    def __init__(self, deadline: _Deadline, on_sent: Callable[[], None] | None) -> None:
        self.deadline = deadline
        self._on_sent = on_sent
        self.failure = ""
        self.complete = False
        self._status = 0
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._sent = False

    def run(self, connection: HTTPConnection, target: str, headers: dict[str, str], payload: bytes) -> None:
        connection.timeout = self.deadline.left_s()
        connection.response_class = self._timed_response  # type: ignore[assignment]
        try:
            pieces = self._pieces(connection, payload)
            connection.request(
                "POST", target, body=pieces, headers=headers, preload_content=False, decode_content=False
            )
            self._sent = True
            if self._on_sent is not None:
                self._on_sent()
        except (BrokenPipeError, ConnectionResetError):
            # A server may answer (413, 429) and hang up before it has read everything: look what it said.
            pass
        response = connection.getresponse()
        try:
            self._status = response.status
            self._headers = {name.lower(): value for name, value in response.headers.items()}
            while len(self._body) < ANSWER_MAX_BYTES:
                piece = response.read(min(_PIECE_BYTES, ANSWER_MAX_BYTES - len(self._body)))
                if not piece:
                    break
                self._body += piece
            self.complete = self._sent and response.closed
        finally:
            response.close()

    def answer(self) -> Answer:
        return Answer(
            status=self._status,
            headers=self._headers,
            body=bytes(self._body),
            failure=self.failure,
            sent=self._sent,
        )

    def _pieces(self, connection: HTTPConnection, payload: bytes) -> Iterator[bytes]:
        # sendall() has one time-out for all it is given: in pieces a slow line has 30 s for each.
        for start in range(0, len(payload), _PIECE_BYTES):
            if connection.sock is not None:
                connection.sock.settimeout(self.deadline.left_s())
            yield payload[start : start + _PIECE_BYTES]

    def _timed_response(self, sock: socket.socket, *args: Any, **kwargs: Any) -> http.client.HTTPResponse:
        response = http.client.HTTPResponse(sock, *args, **kwargs)
        response.fp = io.BufferedReader(_TimedReader(response.fp.detach(), sock, self.deadline))
        return response


class _TimedReader(io.RawIOBase):
    """A socket's reader with the deadline checked before each wait.

    A socket's own time-out starts anew with each byte, so a server that trickles would never end it.
    """

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: _Deadline) -> None:
        self._raw = raw
        self._sock = sock
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        self._sock.settimeout(self._deadline.left_s())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _compressor() -> Callable[[bytes], bytes]:
    """Compress to gzip, level 1; by isal where it is installed, in a quarter of the time (measured)."""
    try:
        igzip = importlib.import_module("isal.igzip")
    except ImportError:
        return lambda payload: gzip.compress(payload, compresslevel=1, mtime=0)
    return lambda payload: bytes(igzip.compress(payload, 1, mtime=0))


def _failure(error: Exception) -> str:
    from urllib3 import exceptions  # noqa: PLC0415

    match error:
        case exceptions.NameResolutionError() | socket.gaierror():
            kind = "dns"
        case exceptions.NewConnectionError() if isinstance(error.__cause__, ConnectionRefusedError):
            kind = "refused"
        case ConnectionRefusedError():
            kind = "refused"
        case exceptions.TimeoutError() | TimeoutError():
            kind = "timeout"
        case exceptions.SSLError() | ssl.SSLError() | ssl.CertificateError():
            kind = "tls"
        case ConnectionError():
            kind = "reset"
        case exceptions.ProtocolError() | http.client.HTTPException():
            kind = "protocol"
        case exceptions.HTTPError() | OSError():
            kind = "network"
        case _:
            kind = "error"
    return f"{kind}: {error}" if str(error) else f"{kind}: {type(error).__name__}"
