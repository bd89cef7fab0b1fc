"""RequestFacts: what we look at in a request, the same for WSGI and ASGI, read without a framework.

Framework request objects are worse than the raw headers here: their cookie parsers disagree, and some can
be blinded by one crafted cookie. So the Cookie header is split by our own rules (RFC 6265bis, 5.6.3): split
at `;`, then at the first `=`, trim space and tab; quotes belong to the value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_CANDIDATES = 200
"""So many occurrences of a cookie's name are looked at: more is an attack, not a browser."""

_BLANKS = " \t"


class RequestFacts(NamedTuple):
    """The request as far as identity and policy need it; what a `consent` callable is given.

    `scheme` is `"http"` or `"https"` (`ws` and `wss` are folded into them), `path` and `query` are as on
    the wire, `client` is the address of the peer or None, `cookies` is the raw Cookie header in latin-1
    (several headers joined with `"; "`). A NamedTuple, because one is made for every request.
    """

    protocol: Literal["http", "websocket"]
    method: str
    scheme: str
    host: str
    path: str
    query: str
    client: str | None
    cookies: str
    headers: HeaderLookup

    def header(self, name: str) -> str:
        """Give the value of a request header by its lower-case name, or `""`; the last one wins."""
        return self.headers.get(name) or ""

    def cookie(self, name: str) -> str:
        """Give the first value of a cookie, raw as the browser sent it, or `""`."""
        values = cookie_values(self.cookies, name)
        return values[0] if values else ""

    def __repr__(self) -> str:
        return f"<RequestFacts {self.method} {self.scheme}://{self.host}{self.path}>"


class HeaderLookup(Protocol):
    """Request headers by their lower-case names."""

    def get(self, name: str, /) -> str | None:
        """Give a header's value, or None."""
        ...


class EnvironHeaders:
    """Looks headers up in a WSGI environ: `"user-agent"` is `HTTP_USER_AGENT` there."""

    __slots__ = ("_environ",)

    def __init__(self, environ: Mapping[str, Any]) -> None:
        self._environ = environ

    def get(self, name: str, /) -> str | None:
        """Give a header's value; content-type and content-length have no `HTTP_` in an environ."""
        key = name.upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = "HTTP_" + key
        value: str | None = self._environ.get(key)
        return value


class ScopeHeaders:
    """Looks headers up in an ASGI scope; decodes those that are asked for, not all."""

    __slots__ = ("_headers",)

    def __init__(self, headers: dict[bytes, bytes]) -> None:
        self._headers = headers

    def get(self, name: str, /) -> str | None:
        """Give a header's value."""
        value = self._headers.get(name.encode())
        return None if value is None else value.decode("latin-1")


def facts_from_scope(scope: Mapping[str, Any]) -> RequestFacts:
    """Read an ASGI `http` or `websocket` scope.

    Names "should" be lower case in ASGI, not must; several Cookie headers are allowed under HTTP/2.
    """
    raw: list[tuple[bytes, bytes]] = list(scope.get("headers") or ())
    headers: dict[bytes, bytes] = dict(raw)
    if len(headers) != len(raw) or not all(map(bytes.islower, headers)):
        pairs = [(bytes(name).lower(), bytes(value)) for name, value in raw]
        headers = dict(pairs)
        headers[b"cookie"] = b"; ".join(value for name, value in pairs if name == b"cookie")
    host = headers.get(b"host")
    server = scope.get("server")
    client = scope.get("client")
    raw_path = scope.get("raw_path")
    is_websocket = scope["type"] == "websocket"
    return RequestFacts(
        "websocket" if is_websocket else "http",
        "GET" if is_websocket else scope.get("method", "GET"),
        "https" if scope.get("scheme") in ("https", "wss") else "http",
        host.decode("latin-1") if host else (f"{server[0]}:{server[1]}" if server else ""),
        (raw_path.decode("latin-1") if raw_path else quote(scope.get("path", ""))).partition("?")[0],
        (scope.get("query_string") or b"").decode("latin-1"),
        client[0] if client else None,
        headers.get(b"cookie", b"").decode("latin-1"),
        ScopeHeaders(headers),
    )


def facts_from_environ(environ: Mapping[str, Any]) -> RequestFacts:
    """Read a WSGI environ (PEP 3333): its text is latin-1 in disguise and stays so."""
    host = environ.get("HTTP_HOST") or f"{environ.get('SERVER_NAME', '')}:{environ.get('SERVER_PORT', '')}"
    path = f"{environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}"
    return RequestFacts(
        protocol="http",
        method=str(environ.get("REQUEST_METHOD", "GET")),
        scheme="https" if environ.get("wsgi.url_scheme") == "https" else "http",
        host=str(host),
        path=quote(path.encode("latin-1", "replace")),
        query=str(environ.get("QUERY_STRING", "")),
        client=environ.get("REMOTE_ADDR") or None,
        cookies=str(environ.get("HTTP_COOKIE", "")),
        headers=EnvironHeaders(environ),
    )


def cookie_values(header: str, name: str, *, commas: bool = False) -> list[str]:
    """Give every value of the cookie `name`, in the order of the header.

    With `commas`, a comma separates as well: WSGI servers join several Cookie headers with one. Only fit for
    values that are signed and hold no comma themselves, and never for a name with a prefix.
    """
    needle = name + "="
    position = header.find(needle)
    if position < 0:
        return []
    if header.find(needle, position + 1) < 0 and (not position or header.startswith("; ", position - 2)):
        # Nearly always: the one cookie of this name, as browsers write it.
        value = header[position + len(needle) :].partition(";")[0]
        return [(value.partition(",")[0] if commas else value).strip(_BLANKS)]
    values: list[str] = []
    separators = (";", ",") if commas else (";",)
    seen = looked_at = 0
    while position >= 0 and seen < MAX_CANDIDATES:
        seen += 1
        start = position + len(needle)
        # A pair begins after a separator and blanks, or with the header; not in the middle of another name.
        before = header[looked_at:position].rstrip(_BLANKS)
        if before.endswith(separators) or not (before or looked_at):
            end = header.find(";", start)
            end = len(header) if end < 0 else end
            if commas:
                comma = header.find(",", start, end)
                end = comma if comma >= 0 else end
            values.append(header[start:end].strip(_BLANKS))
            looked_at = end
        else:
            looked_at = start
        position = header.find(needle, looked_at)
    return values


def response_header(headers: Iterable[tuple[str, str]], name: str) -> str | None:
    """Give all values of a response header by its lower-case name joined with commas; None: absent."""
    found = [value for key, value in headers if key.lower() == name]
    return ", ".join(found) if found else None
