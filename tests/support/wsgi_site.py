"""A WSGI application on loopback, for what asks a site as a stranger does."""

from __future__ import annotations

import contextlib
import io
import threading
from typing import TYPE_CHECKING, Any

from werkzeug.serving import WSGIRequestHandler, make_server

from .waiting import PATIENCE_S

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Iterator


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.0"  # no thread waits for a second request

    def log(self, *_: object) -> None:
        """Write no access log."""


@contextlib.contextmanager
def served(app: Callable[..., Iterable[bytes]], context: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve an application, with `context` over TLS; the value is its address, with a slash at its end."""

    def after_the_body(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        # A connection that is closed with bytes unread is reset, and the client may never see the answer.
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        return app({**environ, "wsgi.input": io.BytesIO(body)}, start_response)

    server = make_server(
        "127.0.0.1", 0, after_the_body, threaded=True, request_handler=_Handler, ssl_context=context
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"{'https' if context else 'http'}://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join(PATIENCE_S)
        server.server_close()
