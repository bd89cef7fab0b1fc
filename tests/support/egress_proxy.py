"""An HTTP proxy on loopback: CONNECT, plain forwarding, a password; all that it was asked for is kept."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import ssl

_ENOUGH_S = 20


class EgressProxy:
    """Connects to `port_behind` whatever host is asked for, as if that were it.

    `asked` has the first line of each request, `headers` its other lines. With `credentials`, as in
    "user:password", nobody else is served.
    """

    def __init__(
        self, port_behind: int, *, credentials: str = "", context: ssl.SSLContext | None = None
    ) -> None:
        self._port_behind = port_behind
        self._expected = f"Basic {base64.b64encode(credentials.encode()).decode()}" if credentials else ""
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.port}"
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.closing(sock):
            sock.settimeout(_ENOUGH_S)
            client = self._context.wrap_socket(sock, server_side=True) if self._context else sock
            with contextlib.closing(client):
                self._pass_on(client)

    def _pass_on(self, client: socket.socket) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            piece = client.recv(65_536)
            if not piece:
                return
            data += piece
        head, _, rest = data.partition(b"\r\n\r\n")
        line, *fields = head.decode().split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)
        }
        self.asked.append(line)
        self.headers.append(headers)
        if self._expected and headers.get("proxy-authorization") != self._expected:
            client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return
        method, target, _ = line.split(" ")
        with socket.create_connection(("127.0.0.1", self._port_behind), timeout=_ENOUGH_S) as there:
            if method == "CONNECT":
                client.sendall(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 test\r\n\r\n")
            else:
                url = urlsplit(target)
                path = f"{url.path}{'?' if url.query else ''}{url.query}"
                there.sendall(
                    f"{method} {path} HTTP/1.1\r\n".encode() + head.partition(b"\r\n")[2] + b"\r\n\r\n" + rest
                )
            back = threading.Thread(target=_pump, args=(there, client), daemon=True)
            back.start()
            _pump(client, there)
            back.join(_ENOUGH_S)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(65_536):
            sink.sendall(piece)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
