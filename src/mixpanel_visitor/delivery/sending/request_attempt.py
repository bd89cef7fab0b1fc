"""RequestAttempt: one request over an open connection, and what came back for it."""

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

ANSWER_MAX_BYTES = 1024 * 1024
"""No more of an answer's body is read; 2,000 failed records fit in a third of it."""

_PIECE_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What came back for one request; trouble on the network is an answer as well.

    `status` is 0 where no HTTP answer came. `headers` have lower-case names. `failure` starts with one of
    refused, timeout, dns, tls, proxy, reset, protocol, network, internal and goes on with the library's
    message; next to a status it means that the body ended early. `sent` is true once the whole request was
    handed to the operating system: from then on, without a clear answer, nobody knows whether Mixpanel has
    taken it.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    failure: str = ""
    sent: bool = False


class Deadline:
    """The end of one request, and what is left until then for one wait."""

    def __init__(self, monotonic: Callable[[], float], total_s: float, step_s: float) -> None:
        self._monotonic = monotonic
        self._total_s = total_s
        self._step_s = step_s
        self._ends_s = monotonic() + total_s

    def left_s(self, most_s: float | None = None) -> float:
        """Return what is left, `most_s` or one step at most; raise TimeoutError where that is nothing."""
        left_s = self._ends_s - self._monotonic()
        if left_s <= 0:
            raise TimeoutError(f"the whole request took longer than {self._total_s:g} s")
        return min(left_s, self._step_s if most_s is None else most_s)


class RequestAttempt:
    """One request and its answer on an open connection; keeps what has come until something fails."""

    def __init__(
        self,
        deadline: Deadline,
        on_sent: Callable[[], None] | None,
        *,
        max_bytes: int = ANSWER_MAX_BYTES,
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
        """Send the request and read its answer; raise what fails."""
        connection.timeout = self.deadline.left_s()
        connection.response_class = self.timed_response  # type: ignore[assignment]
        try:
            pieces = self._pieces(connection, payload) if payload else None
            connection.request(
                method, target, body=pieces, headers=headers, preload_content=False, decode_content=False
            )
            self._sent = True
            if self._on_sent is not None:
                # Only a note, made once more with the answer; that it fails says nothing of the network.
                with contextlib.suppress(Exception):
                    self._on_sent()
        except (BrokenPipeError, ConnectionResetError):
            # A server may answer (413, 429) and hang up before it has read everything: look what it said.
            pass
        response = connection.getresponse()
        try:
            self._status = response.status
            self._headers = {name.lower(): value for name, value in response.headers.items()}
            while len(self._body) < self._max_bytes:
                piece = response.read(min(_PIECE_BYTES, self._max_bytes - len(self._body)))
                if not piece:
                    break
                self._body += piece
            self.complete = self._sent and response.closed
        finally:
            response.close()

    def response(self) -> Response:
        """Return what has come until now."""
        return Response(
            status=self._status,
            headers=self._headers,
            body=bytes(self._body),
            failure=self.failure,
            sent=self._sent,
        )

    def _pieces(self, connection: HTTPConnection, payload: bytes) -> Iterator[bytes]:
        # sendall() has one time-out for all it is given: in pieces a slow line has it for each.
        for start in range(0, len(payload), _PIECE_BYTES):
            if connection.sock is not None:
                connection.sock.settimeout(self.deadline.left_s())
            yield payload[start : start + _PIECE_BYTES]

    def timed_response(self, sock: socket.socket, *args: Any, **kwargs: Any) -> http.client.HTTPResponse:
        """Make the reader of an answer, which ends at the deadline."""
        response = http.client.HTTPResponse(sock, *args, **kwargs)
        response.fp = io.BufferedReader(_TimedReader(response.fp.detach(), sock, self.deadline))
        return response


class _TimedReader(io.RawIOBase):
    """A socket's reader with the deadline checked before each wait.

    A socket's own time-out starts anew with each byte, so a server that trickles would never end it.
    """

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: Deadline) -> None:
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
