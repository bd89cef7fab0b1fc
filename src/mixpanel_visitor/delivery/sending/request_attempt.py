"""RequestAttempt: one request over an open connection, and its response."""

from __future__ import annotations

import contextlib
import http.client
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Mapping

    from _typeshed import WriteableBuffer
    from urllib3.connection import HTTPConnection

RESPONSE_MAX_BYTES = 1024 * 1024
"""The part of a body that is read; 2,000 failed records fit in a third of it."""

_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """The response to one request, or the failure that it ended with.

    `status` is 0 without an HTTP response. `headers` have lower-case names. `failure` starts with one of
    refused, timeout, dns, tls, proxy, reset, protocol, network, internal and goes on with the library's
    message; together with a status it means that the body ended early. `sent` is true once the whole request
    was given to the operating system: from then on, without a clear response, it is unknown whether Mixpanel
    has taken it.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    failure: str = ""
    sent: bool = False


class Deadline:
    """The end of one request, and the time until then for one wait."""

    def __init__(self, monotonic: Callable[[], float], total_s: float, step_s: float) -> None:
        self._monotonic = monotonic
        self._total_s = total_s
        self._step_s = step_s
        self._ends_s = monotonic() + total_s

    def remaining_s(self, limit_s: float | None = None) -> float:
        """Return the remaining time, but at most `limit_s` or one step; raise TimeoutError after the end."""
        remaining_s = self._ends_s - self._monotonic()
        if remaining_s <= 0:
            raise TimeoutError(f"the whole request took longer than {self._total_s:g} s")
        return min(remaining_s, self._step_s if limit_s is None else limit_s)


class RequestAttempt:
    """One request and its response on an open connection; if that fails, it has what came before."""

    def __init__(
        self,
        deadline: Deadline,
        on_sent: Callable[[], None] | None,
        *,
        max_bytes: int = RESPONSE_MAX_BYTES,
    ) -> None:
        self.deadline = deadline
        self._on_sent = on_sent
        self._max_bytes = max_bytes
        self.failure = ""
        self.complete = False
        self._status = 0
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._sent = False

    def run(
        self,
        connection: HTTPConnection,
        target: str,
        headers: dict[str, str],
        payload: bytes,
        method: str,
    ) -> None:
        """Send the request and read its response; raise what fails."""
        connection.timeout = self.deadline.remaining_s()
        connection.response_class = self.timed_response  # type: ignore[assignment]
        try:
            chunks = self._chunks(connection, payload) if payload else None
            connection.request(
                method, target, body=chunks, headers=headers, preload_content=False, decode_content=False
            )
            self._sent = True
            if self._on_sent is not None:
                # Only a note, repeated after the response; if it fails, the network is not the cause.
                with contextlib.suppress(Exception):
                    self._on_sent()
        except (BrokenPipeError, ConnectionResetError):
            # A server may respond (413, 429) and hang up before it has read everything.
            pass
        response = connection.getresponse()
        try:
            self._status = response.status
            self._headers = {name.lower(): value for name, value in response.headers.items()}
            while len(self._body) < self._max_bytes:
                chunk = response.read(min(_CHUNK_BYTES, self._max_bytes - len(self._body)))
                if not chunk:
                    break
                self._body += chunk
            self.complete = self._sent and response.closed
        finally:
            response.close()

    def response(self) -> Response:
        """Return the response, as far as it was read."""
        return Response(
            status=self._status,
            headers=self._headers,
            body=bytes(self._body),
            failure=self.failure,
            sent=self._sent,
        )

    def _chunks(self, connection: HTTPConnection, payload: bytes) -> Iterator[bytes]:
        # sendall() has one time-out for its whole argument: in chunks a slow line has it for each.
        for start in range(0, len(payload), _CHUNK_BYTES):
            if connection.sock is not None:
                connection.sock.settimeout(self.deadline.remaining_s())
            yield payload[start : start + _CHUNK_BYTES]

    def timed_response(self, sock: socket.socket, *args: Any, **kwargs: Any) -> http.client.HTTPResponse:
        """Make the reader of a response, which ends at the deadline."""
        response = http.client.HTTPResponse(sock, *args, **kwargs)
        response.fp = io.BufferedReader(_TimedReader(response.fp.detach(), sock, self.deadline))
        return response


class _TimedReader(io.RawIOBase):
    """A socket's reader with the deadline checked before each wait.

    The time-out of a socket starts again with each byte, so that a server that trickles would never end it.
    """

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: Deadline) -> None:
        self._raw = raw
        self._sock = sock
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        self._sock.settimeout(self._deadline.remaining_s())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()
