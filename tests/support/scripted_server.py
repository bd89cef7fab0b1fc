"""A server on loopback that plays scenes: it answers, hangs, trickles, resets, as it is told."""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl

BODIES = [b'{"event":"A"}', b'{"event":"B"}']
OK = b'{"code":200,"num_records_imported":2,"status":"OK"}'


@dataclass(frozen=True)
class Request:
    """One request as it came in."""

    line: str
    headers: dict[str, str]
    body: bytes


def http(body: bytes = OK, *, status: str = "200 OK", headers: tuple[str, ...] = ()) -> bytes:
    """An HTTP answer in bytes."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class ScriptedServer:
    """A thread that plays one scene for each connection; the last scene is repeated."""

    def __init__(self, *scenes, context: ssl.SSLContext | None = None, port: int = 0) -> None:
        self._scenes = scenes
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", port))
        self._open: list[socket.socket] = []
        self.port = self._listener.getsockname()[1]
        self.requests: list[Request] = []
        self.connections = 0
        self.closing = threading.Event()
        # Daemons: a connection that nobody closes must not keep a test's interpreter from its end.
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        """Where a client finds it."""
        return f"{'https' if self._context else 'http'}://127.0.0.1:{self.port}"

    def _accept(self) -> None:
        for number in itertools.count():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            scene = self._scenes[min(number, len(self._scenes) - 1)]
            thread = threading.Thread(target=self._play, args=(scene, sock), daemon=True)
            self._threads.append(thread)
            self._open.append(sock)
            thread.start()

    def _play(self, scene, sock) -> None:
        with contextlib.suppress(OSError), contextlib.closing(sock):
            if self._context is None:
                scene(self, sock)
                return
            with self._context.wrap_socket(sock, server_side=True) as secured:
                scene(self, secured)

    def read(self, sock) -> Request | None:
        """Read one request; None when the client has gone."""
        data = b""
        while b"\r\n\r\n" not in data:
            piece = sock.recv(65536)
            if not piece:
                return None
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        line, *fields = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (text.partition(":") for text in fields)}
        while len(body) < int(headers.get("content-length", 0)):
            piece = sock.recv(65536)
            if not piece:
                return None
            body += piece
        request = Request(line, headers, body)
        self.requests.append(request)
        return request

    def close(self) -> None:
        """Hang up on everybody."""
        self.closing.set()
        for sock in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join(5)


def answering(*answers: bytes):
    """A scene that answers one request after the other, the last answer for ever."""

    def scene(server, sock):
        for number in itertools.count():
            if server.read(sock) is None:
                return
            sock.sendall(answers[min(number, len(answers) - 1)])

    return scene


def answering_once(answer: bytes):
    """A scene that answers one request and hangs up."""

    def scene(server, sock):
        server.read(sock)
        sock.sendall(answer)

    return scene


def silent(server, sock):
    """A scene that reads a request and never answers."""
    server.read(sock)
    server.closing.wait(20)


def resetting(server, sock):
    """A scene that reads a request and resets the connection."""
    server.read(sock)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def repeating(head: bytes, piece: bytes):
    """A scene that begins an answer and never ends it."""

    def scene(server, sock):
        server.read(sock)
        sock.sendall(head)
        while not server.closing.is_set():
            sock.sendall(piece)

    return scene
