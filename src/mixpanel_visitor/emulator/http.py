"""Request and Reply: one HTTP exchange as plain values, so that nothing but `server` knows sockets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"

# Not http.HTTPStatus: newer Pythons say "Content Too Large", Mixpanel's OpenAPI does not.
PHRASES = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Request Entity Too Large",
    415: "Unsupported Media Type",
    500: "Internal Server Error",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request as received.

    `path` has no query and no trailing slash; `headers` have lower-case names; `body` is as sent, perhaps
    compressed. `truncated`: the body was longer than the server's limit and is incomplete. `partial`: every
    second event is to be refused (see `chaos`).
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    truncated: bool = False
    partial: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A response: `headers` are added to those that every response has.

    With a `stream` the body is its chunks, each sent at once, until the connection ends.
    """

    status: int = 200
    body: bytes = b""
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()
    stream: Iterator[bytes] | None = None


def json_reply(value: Any, *, status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    """Return a response with JSON."""
    return Reply(status=status, body=orjson.dumps(value), headers=headers)


def error_reply(status: int, error: str, *, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    """Return a response in the format of `/import`'s errors: code, error, status."""
    phrase = PHRASES.get(status, "Error")
    return json_reply({"code": status, "error": error, "status": phrase}, status=status, headers=headers)
