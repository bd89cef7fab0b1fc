"""A WSGI server's side of PEP 3333, as small as it can be and still be right."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any
from wsgiref.util import FileWrapper, setup_testing_defaults

from .responses import Response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    WSGIApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def environ_of(
    method: str = "GET",
    path: str = "/",
    headers: dict[str, str] | None = None,
    *,
    body: bytes = b"",
    **more: Any,
) -> dict[str, Any]:
    """Build the environ of a request."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "HTTP_HOST": "testserver",
        "REMOTE_ADDR": "127.0.0.1",
        "SERVER_NAME": "testserver",
        "wsgi.file_wrapper": FileWrapper,
    }
    for name, value in (headers or {}).items():
        key = name.upper().replace("-", "_")
        environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = value
    if body:
        environ.setdefault("CONTENT_LENGTH", str(len(body)))
        environ["wsgi.input"] = BytesIO(body)
    setup_testing_defaults(environ)
    environ.update(more)
    return environ


class Starter:
    """The server's `start_response`: headers leave with the first byte and can be replaced until then."""

    def __init__(self) -> None:
        self.response = Response()
        self.sent = False
        self.calls: list[tuple[Any, ...]] = []

    def __call__(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        self.calls.append((status, headers, exc_info))
        if exc_info is not None:
            try:
                if self.sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self.response.status:
            raise AssertionError("start_response was called twice without exc_info")
        self.response.status = int(status[:3])
        self.response.headers = list(headers)
        return self.write

    def write(self, data: bytes) -> None:
        """Send a part of the body."""
        if not self.response.status:
            raise AssertionError("the body began before start_response was called")
        if data:
            self.sent = True
            self.response.parts.append(data)


def call_wsgi(app: WSGIApp, environ: dict[str, Any], *, parts: int | None = None) -> Response:
    """Serve one request: call, iterate, close, whatever happens; go away after so many `parts`."""
    starter = Starter()
    body: Any = None
    try:
        body = app(environ, starter)
        for part in body:
            starter.write(part)
            if parts is not None and len(starter.response.parts) >= parts:
                break
    except Exception as error:
        starter.response.error = repr(error)
    finally:
        if hasattr(body, "close"):
            body.close()
    return starter.response
