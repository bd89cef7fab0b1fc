"""Mixpanel's ingestion API over HTTP: one request, one `Response`, one connection of urllib3.

urllib3 is imported with the first request, so that importing this package stays cheap.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import importlib
import os
import socket
import threading
import time
import urllib.parse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mixpanel_visitor import release
from mixpanel_visitor.process import threads
from mixpanel_visitor.process.imports import importing
from mixpanel_visitor.settings.proxy import ENVIRONMENT

from .egress import authorities, proxy_for
from .failures import failure
from .request_attempt import RESPONSE_MAX_BYTES, Deadline, RequestAttempt, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from urllib3.connection import HTTPConnection

    from mixpanel_visitor.records import Endpoint
    from mixpanel_visitor.settings.proxy import Proxy

__all__ = ["USER_AGENT", "MixpanelAPI", "Response", "Timeouts"]

USER_AGENT = f"mixpanel-visitor/{release.VERSION}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds to connect, between two reads, for the whole request, and without requests before a reconnect.

    `idle_s` is below the idle limits of usual balancers and NATs (60 s and up), which drop silently.
    """

    connect_s: float = 5.0
    read_s: float = 30.0
    total_s: float = 60.0
    idle_s: float = 50.0


class MixpanelAPI:
    """One persistent connection to one Mixpanel host; any thread may `post`, one at a time.

    `host_url` is `https://api.mixpanel.com` or its like, with a path if a proxy of your own needs it.
    `service_account` is (user name, secret, project id), and replaces the token for `/import`. `on_sent` is
    called when the whole request was given to the operating system, before its response. `ca_file` replaces
    the certificate authorities of the system or the environment; `proxy` is as in the settings. A name lookup
    has the time-out of the operating system. A forked child opens its own connection. Raises ValueError for a
    `host_url` that is no HTTP address.
    """

    def __init__(
        self,
        host_url: str,
        token: str,
        service_account: tuple[str, str, str] | None = None,
        *,
        timeouts: Timeouts | None = None,
        ca_file: str | None = None,
        proxy: str | None = ENVIRONMENT,
        monotonic: Callable[[], float] = time.monotonic,
        on_sent: Callable[[], None] | None = None,
    ) -> None:
        url = urllib.parse.urlsplit(host_url)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError(f"not the address of an HTTP server: {host_url!r}")
        self._is_https = url.scheme == "https"
        self._host, self._port = url.hostname, url.port or (443 if url.scheme == "https" else 80)
        self._origin = f"{url.scheme}://{url.netloc}"
        self._proxy_setting = proxy
        self._proxy: Proxy | None = None
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
        self._prefix = prefix = url.path.rstrip("/")
        # ip=0: the location of a profile must not become that of this server.
        self._targets: dict[Endpoint, str] = {
            "import": f"{prefix}/import?strict=1{project}",
            "engage": f"{prefix}/engage?verbose=1&strict=1&ip=0",
            "groups": f"{prefix}/groups?verbose=1&strict=1",
        }
        self._compress = _compressor()
        self._connection: HTTPConnection | None = None
        self._addresses: dict[tuple[str, int], _Address | None] = {}
        self._reset_after_fork()

    def post(
        self, endpoint: Endpoint, bodies: Sequence[bytes], *, timeout_s: float | None = None
    ) -> Response:
        """Send records as one JSON array; `timeout_s` can only shorten the time-out for the whole request.

        Never raises for trouble on the network: that is a `Response` with a `failure`.
        """
        payload = b"[" + b",".join(bodies) + b"]"
        if endpoint == "import":
            # Not for profiles: "This API does not support gzip encoding" (Mixpanel's reference, profile-set).
            payload = self._compress(payload)

        def send(attempt: RequestAttempt) -> None:
            connection = self._connect(attempt)
            headers = self._headers(endpoint, payload)
            attempt.run(connection, self._target(self._targets[endpoint]), headers, payload, "POST")

        return self._run(send, timeout_s, self._on_sent, RESPONSE_MAX_BYTES)

    def request(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes = b"",
        *,
        timeout_s: float,
        max_bytes: int = RESPONSE_MAX_BYTES,
    ) -> Response:
        """Send any other request to the same host, with the credentials of `/import`.

        `target` is path and query; of the body `max_bytes` are read. As `post`, it does not raise.
        """

        def send(attempt: RequestAttempt) -> None:
            connection = self._connect(attempt)
            all_headers = {**headers, **self._egress_headers(), "Authorization": self._authorization}
            if body:
                all_headers["Content-Length"] = str(len(body))
            attempt.run(connection, self._target(f"{self._prefix}{target}"), all_headers, body, method)

        return self._run(send, timeout_s, None, max_bytes)

    def _run(
        self,
        send: Callable[[RequestAttempt], None],
        timeout_s: float | None,
        on_sent: Callable[[], None] | None,
        max_bytes: int,
    ) -> Response:
        if self._pid != os.getpid() or self._primitives != threads.primitives():
            self._reset_after_fork()
        total_s = self._timeouts.total_s if timeout_s is None else min(self._timeouts.total_s, timeout_s)
        deadline = Deadline(self._monotonic, total_s, self._timeouts.read_s)
        attempt = RequestAttempt(deadline, on_sent, max_bytes=max_bytes)
        with self._lock:
            try:
                send(attempt)
            except Exception as error:
                attempt.failure = failure(error, self._proxy.url if self._proxy else "")
            finally:
                # Late bytes on this socket must not be read as the next response.
                if not attempt.complete:
                    self._disconnect()
                self._used_at_s = self._monotonic()
        return attempt.response()

    def close(self, timeout_s: float = 1.0) -> bool:
        """Close the connection; the next `post` opens a new one. False: a request is still in progress."""
        if self._pid != os.getpid():
            self._reset_after_fork()
        if not self._lock.acquire(timeout=max(0.0, timeout_s)):
            return False
        try:
            self._disconnect()
        finally:
            self._lock.release()
        return True

    def _reset_after_fork(self) -> None:
        # After a fork a thread of the parent may hold the lock, and the socket is the parent's: closing the
        # child's copy sends nothing. After gevent has patched, both are of the wrong kind.
        self._pid = os.getpid()
        self._primitives = threads.primitives()
        self._lock = threading.Lock()
        self._used_at_s = self._monotonic()
        self._disconnect()

    def _connect(self, attempt: RequestAttempt) -> HTTPConnection:
        connection = self._connection
        if connection is not None:
            if connection.is_connected and self._monotonic() - self._used_at_s < self._timeouts.idle_s:
                return connection
            self._disconnect()
        # Looked up for each connection: a long process may change its environment.
        self._proxy = proxy_for(self._origin, self._proxy_setting)
        self._connection = connection = self._make_connection(attempt.deadline)
        connection.response_class = attempt.timed_response  # type: ignore[assignment]  # for the proxy's response
        connect_by_name = connection._new_conn  # noqa: SLF001  # where urllib3's own subclasses hook in, too
        connection._new_conn = lambda: self._open_socket(connect_by_name, attempt.deadline)  # type: ignore[method-assign]  # noqa: SLF001
        connection.connect()
        return connection

    def _make_connection(self, deadline: Deadline) -> HTTPConnection:
        with importing:
            from urllib3.connection import HTTPConnection, HTTPSConnection, ProxyConfig  # noqa: PLC0415
            from urllib3.util import parse_url  # noqa: PLC0415

        proxy = self._proxy
        timeout_s = deadline.remaining_s(self._timeouts.connect_s)
        options: dict[str, Any] = {"timeout": timeout_s}
        if proxy is not None:
            options |= {"proxy": parse_url(proxy.url), "proxy_config": ProxyConfig(None, False, None, None)}
        host, port = self._next_hop
        if not (self._is_https or (proxy is not None and proxy.scheme == "https")):
            return HTTPConnection(host, port, **options)
        file, directory = (self._ca_file, None) if self._ca_file else authorities()
        options |= {"ca_certs": file, "ca_cert_dir": directory, "cert_reqs": "CERT_REQUIRED"}
        connection = HTTPSConnection(host, port, **options)
        if self._is_https and proxy is not None:
            headers = {"Proxy-Authorization": proxy.authorization} if proxy.authorization else {}
            connection.set_tunnel(self._host, self._port, headers, scheme=proxy.scheme)
        return connection

    @property
    def _next_hop(self) -> tuple[str, int]:
        """The host and port that a socket is connected to."""
        return (self._proxy.host, self._proxy.port) if self._proxy else (self._host, self._port)

    def _open_socket(self, connect_by_name: Callable[[], socket.socket], deadline: Deadline) -> socket.socket:
        """Connect by name, or by the last address where the name cannot be looked up.

        That happens in an outage of the name service, and at exit under gevent, whose lookup needs a thread.
        """
        from urllib3.exceptions import NameResolutionError  # noqa: PLC0415

        host, port = self._next_hop
        address = self._addresses.get((host, port)) or _literal_address(host, port)
        if address is None or not address.is_literal:
            try:
                sock = connect_by_name()
            except (NameResolutionError, RuntimeError) as error:
                if address is None:
                    raise socket.gaierror(socket.EAI_AGAIN, str(error)) from error
            else:
                if self._is_https:  # only a certificate proves later that the address is still the host's
                    self._addresses[host, port] = _Address(
                        family=sock.family, address=sock.getpeername(), is_literal=False
                    )
                return sock
        assert address is not None
        sock = socket.socket(address.family, socket.SOCK_STREAM)
        try:
            sock.settimeout(deadline.remaining_s(self._timeouts.connect_s))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.connect(address.address)
        except BaseException:
            sock.close()
            raise
        return sock

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _target(self, path: str) -> str:
        # A proxy that forwards needs the whole URL; through a tunnel it sees nothing.
        forwards = self._proxy is not None and not self._is_https
        return f"{self._origin if forwards else ''}{path}"

    def _egress_headers(self) -> dict[str, str]:
        """Return the headers for the proxy of the open connection; a tunnel has them already."""
        if self._proxy is not None and self._proxy.authorization and not self._is_https:
            return {"Proxy-Authorization": self._proxy.authorization}
        return {}

    def _headers(self, endpoint: Endpoint, payload: bytes) -> dict[str, str]:
        headers = {
            "User-Agent": USER_AGENT,
            "Accept": "application/json",
            **self._egress_headers(),
            "Content-Type": "application/json",
            "Content-Length": str(len(payload)),
        }
        if endpoint == "import":  # a profile update carries the token itself
            headers["Content-Encoding"] = "gzip"
            headers["Authorization"] = self._authorization
        return headers


@dataclass(frozen=True, slots=True, kw_only=True)
class _Address:
    """The network address of a host; `is_literal`: the name of the host is this address."""

    family: int
    address: Any
    is_literal: bool


def _literal_address(host: str, port: int) -> _Address | None:
    """Return the address that `host` is; None: it is a name."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError, ValueError):
            socket.inet_pton(family, host)
            return _Address(family=family, address=(host, port), is_literal=True)
    return None


def _compressor() -> Callable[[bytes], bytes]:
    """Return a function for gzip, level 1; isal, if installed, takes a quarter of the time (measured)."""
    try:
        igzip = importlib.import_module("isal.igzip")
    except ImportError:
        return lambda payload: gzip.compress(payload, compresslevel=1, mtime=0)
    return lambda payload: bytes(igzip.compress(payload, 1, mtime=0))
