"""RequestFacts: what the core reads of a request, the same for WSGI and ASGI, without a framework.

Framework request objects are worse than the raw headers here: their cookie parsers disagree, and some can
be blinded by one crafted cookie. So the Cookie header is split by our own rules (RFC 6265bis, 5.6.3): split
at `;`, then at the first `=`, trim space and tab; quotes belong to the value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal, Protocol
from urllib.parse import quote

from mixpanel_visitor.errors import NoRequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, MutableMapping, Sequence

MAX_CANDIDATES = 200
"""How many cookies of one name are read: more is an attack, not a browser."""

MAX_LOWER_NAMES = 500
MAX_LOWER_CHARS = 50
"""How many header names, and how long ones, are remembered as being in lower case."""

_BLANKS = " \t"
_PURPOSES = ("sec-purpose", "purpose", "x-sec-purpose", "x-purpose", "x-moz")
_SECURE = ("https", "wss")


class RequestFacts:
    """The request as far as identity and policy need it; what a `consent` callable is given.

    `protocol` is `"http"` or `"websocket"`, `scheme` `"http"` or `"https"` (`ws` and `wss` are folded into
    them), `path` and `query` are as on the wire, `client` is the address of the peer or None, `cookies` is
    the raw Cookie header in latin-1 (several headers joined with `"; "`), `purposes` is what the browser says
    it fetches this for, if not for a visit, `destination`, `site` and `storage_access` are the Fetch Metadata
    (`""`: none), `has_privacy_signal` is False if there is no DNT and no GPC header. Read-only.
    """

    __slots__ = (
        "client", "cookies", "destination", "has_privacy_signal", "headers", "host", "method", "path",
        "protocol", "purposes", "query", "scheme", "site", "storage_access",
    )  # fmt: skip

    def __init__(
        self,
        protocol: Literal["http", "websocket", "job"],
        method: str,
        scheme: str,
        host: str,
        path: str,
        query: str,
        client: str | None,
        cookies: str,
        headers: HeaderLookup,
    ) -> None:
        self.protocol: Literal["http", "websocket", "job"] = protocol
        self.method = method
        self.scheme = scheme
        self.host = host
        self.path = path
        self.query = query
        self.client = client
        self.cookies = cookies
        self.headers = headers
        self._read_fetch_metadata()
        self.has_privacy_signal = True

    def header(self, name: str) -> str:
        """Return the value of a request header by its lower-case name, or `""`; the last one wins."""
        return self.headers.get(name) or ""

    def cookie(self, name: str) -> str:
        """Return the first value of a cookie, raw as the browser sent it, or `""`."""
        if name not in self.cookies:
            return ""
        pair = _pairs(name, ";").search(f";{self.cookies}")
        return pair[1].rstrip(_BLANKS) if pair else ""

    def page_key(self) -> tuple[Hashable, ...]:
        """Return a key of the page that is asked for, or that asks: equal for equal requests."""
        header_values = tuple(map(self.header, ("referer", "accept", "sec-fetch-dest")))
        return (self.protocol, self.scheme, self.host, self.path, self.query, *header_values, *self.purposes)

    def _complete(self) -> None:
        """Read the rest now: else the first access to an attribute costs an exception."""

    def replaced(self, **changes: Any) -> RequestFacts:
        """Return the same request with `changes`."""
        derived = ("purposes", "destination", "site", "storage_access", "has_privacy_signal")
        names = [name for name in RequestFacts.__slots__ if name not in derived]
        return RequestFacts(**{name: changes.get(name, getattr(self, name)) for name in names})

    def _read_fetch_metadata(self) -> None:
        """Set the purposes and the Fetch Metadata."""
        self.purposes = self._purposes()
        self.destination = self.header("sec-fetch-dest")
        self.site = self.header("sec-fetch-site")
        self.storage_access = self.header("sec-fetch-storage-access")

    def _purposes(self) -> Sequence[str]:
        return [value for name in _PURPOSES if (value := self.header(name))]

    def __repr__(self) -> str:
        return f"<RequestFacts {self.method} {self.scheme}://{self.host}{self.path}>"


class JobFacts(RequestFacts):
    """The argument of a `consent` callable for a visitor whom a job resumes: the IDs, and no request.

    `protocol` is `"job"`. Any attribute of a request raises `NoRequestError`: then the callable depends on
    the request, and its answer there still counts.
    """

    __slots__ = ("device_id", "user_id")

    def __init__(self, device_id: str | None, user_id: str | None) -> None:
        self.protocol: Literal["http", "websocket", "job"] = "job"
        self.device_id = device_id
        self.user_id = user_id

    def __getattr__(self, name: str) -> Any:
        if name in RequestFacts.__slots__:
            raise NoRequestError(f"facts.{name}: there is no request in a job, only device_id and user_id")
        raise AttributeError(name)

    def __repr__(self) -> str:
        return "<JobFacts>"


class HeaderLookup(Protocol):
    """Request headers by their lower-case names."""

    def get(self, name: str, /) -> str | None:
        """Return a header's value, or None."""
        ...


class _LazyFacts(RequestFacts):
    """Reads the Cookie header, and all else on first access to it: most requests need no more.

    It keeps neither scope nor environ: applications change theirs, and refer to this from there.
    """

    __slots__ = ("_is_read",)

    def _complete(self) -> None:
        if not self._is_read:  # else a framework may have corrected the attributes
            self._read()

    def __getattr__(self, name: str) -> Any:
        if name in RequestFacts.__slots__:
            self._read()
        return object.__getattribute__(self, name)

    def _read(self) -> None:
        """Set all attributes that `__init__` has not set."""


_SCOPE_KEYS = ("method", "path", "raw_path", "query_string", "server")
_read_scope_values = itemgetter(*_SCOPE_KEYS)


class _ScopeFacts(_LazyFacts):
    """Facts of an ASGI scope; `raw` are its headers by lower-case names."""

    __slots__ = ("_raw", "_scope_values")

    def __init__(self, scope: Mapping[str, Any], raw: dict[bytes, bytes]) -> None:
        self._raw = raw
        self._is_read = False
        try:
            self._scope_values = _read_scope_values(scope)
        except KeyError:  # a socket has no method, and most keys may be absent
            self._scope_values = tuple(map(scope.get, _SCOPE_KEYS))
        self.protocol = "websocket" if scope.get("type") == "websocket" else "http"
        self.scheme = "https" if scope.get("scheme") in _SECURE else "http"
        client = scope.get("client")
        self.client = client[0] if type(client) is tuple and client else next(iter(_listed(client)), None)
        cookies = raw.get(b"cookie")
        self.cookies = header_text(cookies) if cookies else ""
        self.has_privacy_signal = b"dnt" in raw or b"sec-gpc" in raw

    def header(self, name: str) -> str:
        value = self._raw.get(name.encode())
        return header_text(value) if value else ""

    def _purposes(self) -> Sequence[str]:
        raw = self._raw
        has_purpose = b"purpose" in raw or b"sec-purpose" in raw or b"x-moz" in raw
        return super()._purposes() if has_purpose or b"x-purpose" in raw or b"x-sec-purpose" in raw else ()

    def page_key(self) -> tuple[Hashable, ...]:
        _, path, raw_path, query, _ = self._scope_values
        get = self._raw.get
        host = get(b"host") or self.host
        header_values = get(b"referer"), get(b"accept"), get(b"sec-fetch-dest")
        return (self.protocol, self.scheme, host, raw_path or path, query, *header_values, *self._purposes())

    def _read(self) -> None:
        self._is_read = True
        method, path, raw_path, query, server = self._scope_values
        get = self._raw.get
        self.headers = _ScopeHeaders(self._raw)
        self.purposes = self._purposes()
        self.destination = header_text(get(b"sec-fetch-dest", ""))
        self.site = header_text(get(b"sec-fetch-site", ""))
        self.storage_access = header_text(get(b"sec-fetch-storage-access", ""))
        # As on the wire; some servers leave the query in `raw_path`, some have none.
        self.path = (header_text(raw_path) if raw_path else quote(path or "")).partition("?")[0]
        host = get(b"host")
        self.host = header_text(host) if host else ":".join(map(str, _listed(server)))
        self.query = header_text(query) if query else ""
        self.method = "GET" if self.protocol == "websocket" else method or "GET"


def header_text(value: Any) -> str:
    """Return bytes of the wire as text; frameworks' test clients give text where ASGI says bytes."""
    if type(value) is bytes:  # as nearly all are, and the fastest way for them
        return value.decode("latin-1")
    return value if isinstance(value, str) else bytes(value).decode("latin-1")


def _listed(address: Any) -> Iterable[Any]:
    """Return an address for reading; of an iterator nothing, because the application reads it later."""
    return () if address is None or isinstance(address, Iterator) else address


class _ScopeHeaders:
    """Looks headers up in an ASGI scope; decodes those that are asked for, not all."""

    __slots__ = ("_headers",)

    def __init__(self, headers: dict[bytes, bytes]) -> None:
        self._headers = headers

    def get(self, name: str, /) -> str | None:
        """Return a header's value."""
        value = self._headers.get(name.encode())
        return None if value is None else header_text(value)


class _EnvironFacts(_LazyFacts):
    """Facts of a copy of a WSGI environ."""

    __slots__ = ("_environ",)

    def __init__(self, environ: dict[str, Any]) -> None:
        self._environ = environ
        self._is_read = False
        self.scheme = "https" if environ.get("wsgi.url_scheme") == "https" else "http"
        self.cookies = str(environ.get("HTTP_COOKIE", ""))
        self.has_privacy_signal = "HTTP_DNT" in environ or "HTTP_SEC_GPC" in environ

    def __getattr__(self, name: str) -> Any:
        if name == "path":
            path = f"{self._environ.get('SCRIPT_NAME', '')}{self._environ.get('PATH_INFO', '')}"
            self.path = quote(path.encode("latin-1", "replace"))
            return self.path
        return super().__getattr__(name)

    def header(self, name: str) -> str:
        return self._environ.get(_environ_key(name)) or ""

    def _read(self) -> None:
        self._is_read = True
        get = self._environ.get
        self.headers = _EnvironHeaders(self._environ)
        self._read_fetch_metadata()
        self.host = str(get("HTTP_HOST") or f"{get('SERVER_NAME', '')}:{get('SERVER_PORT', '')}")
        self.query = str(get("QUERY_STRING", ""))
        self.method = str(get("REQUEST_METHOD", "GET"))
        self.protocol = "http"
        self.client = get("REMOTE_ADDR") or None


class _EnvironHeaders:
    """Looks headers up in a WSGI environ."""

    __slots__ = ("_environ",)

    def __init__(self, environ: dict[str, Any]) -> None:
        self._environ = environ

    def get(self, name: str, /) -> str | None:
        """Return a header's value."""
        value: str | None = self._environ.get(_environ_key(name))
        return value


@lru_cache(256)
def _environ_key(name: str) -> str:
    """Return the key of a header: `HTTP_USER_AGENT` for `"user-agent"`; two have no `HTTP_`."""
    key = name.upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"


_PAIR_TYPES = (tuple, list)


def facts_from_scope(scope: MutableMapping[str, Any]) -> RequestFacts:
    """Read an ASGI `http` or `websocket` scope.

    Names "should" be lower case in ASGI, not must; several Cookie headers are allowed under HTTP/2. Headers
    may be any iterable: they are put back as a list, so that the application can read them after us.
    """
    raw: list[tuple[bytes, bytes]] | None = scope.get("headers")
    if type(raw) is not list or (raw and type(raw[0]) not in _PAIR_TYPES):
        raw = _put_back(scope, raw)
    headers: dict[bytes, bytes] = dict(raw)
    if len(headers) != len(raw) or not (_lower_names.issuperset(headers) or _are_lower(headers)):
        pairs = [(_bytes(name).lower(), _bytes(value)) for name, value in raw]
        headers = dict(pairs)
        headers[b"cookie"] = b"; ".join(value for name, value in pairs if name == b"cookie")
    return _ScopeFacts(scope, headers)


def _put_back(
    scope: MutableMapping[str, Any], headers: Iterable[tuple[bytes, bytes]] | None
) -> list[tuple[bytes, bytes]]:
    """Replace the headers, and other iterators of such a server, by lists."""
    if headers is None:
        return []
    # Falcon's test client gives iterators as pairs, too.
    scope["headers"] = pairs = [pair if type(pair) in _PAIR_TYPES else (*pair,) for pair in headers]
    for name in ("client", "server"):
        if isinstance(scope.get(name), Iterator):
            scope[name] = list(scope[name])
    return pairs


def _bytes(value: Any) -> bytes:
    return value.encode("latin-1") if isinstance(value, str) else bytes(value)


_lower_names: set[bytes] = set()
"""Header names that are in lower case: looking one up is faster than checking it."""


def _are_lower(names: Iterable[bytes]) -> bool:
    if not all(type(name) is bytes and name.islower() for name in names):
        return False
    if len(_lower_names) < MAX_LOWER_NAMES:
        _lower_names.update(name for name in names if len(name) <= MAX_LOWER_CHARS)
    return True


def facts_from_environ(environ: Mapping[str, Any]) -> RequestFacts:
    """Read a WSGI environ (PEP 3333): its text is latin-1 in disguise and stays so."""
    return _EnvironFacts(dict(environ))


def cookie_values(
    header: str, name: str, *, commas: bool = False, count: Callable[[str], None] | None = None
) -> list[str]:
    """Return the values of the cookie `name`, in the order of the header; `count` where there are too many.

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
    values = all_cookie_values(header, name, commas=commas)
    if len(values) > MAX_CANDIDATES:
        del values[MAX_CANDIDATES:]
        if count is not None:
            count("cookie_values_cut")
    return values


def all_cookie_values(header: str, name: str, *, commas: bool = False) -> list[str]:
    """Return every value of the cookie `name`, however many there are: no opt-out may be overlooked."""
    return [value.rstrip(_BLANKS) for value in _pairs(name, ";," if commas else ";").findall(f";{header}")]


@lru_cache(64)
def _pairs(name: str, separators: str) -> re.Pattern[str]:
    """Return a pattern of a name's pairs, each with the separator before it; it never backtracks."""
    return re.compile(f"[{separators}][{_BLANKS}]*+{re.escape(name)}=[{_BLANKS}]*+([^{separators}]*+)")


def content_length(facts: RequestFacts) -> int | None:
    """Return the Content-Length in bytes; None: there is none. Raise `ValueError` if it is no number."""
    length = facts.header("content-length").strip()
    if not length:
        return None
    if not (length.isascii() and length.isdigit() and len(length) < 16):
        raise ValueError("the Content-Length is no number")
    return int(length)


def response_header(headers: Iterable[tuple[str, str]], name: str) -> str | None:
    """Return all values of a response header by its lower-case name joined with commas; None: absent."""
    values = [value for key, value in headers if key.lower() == name]
    return ", ".join(values) if values else None
