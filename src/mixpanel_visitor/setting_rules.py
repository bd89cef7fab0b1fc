"""The rule of each setting: gives the value in its normal form, or raises ValueError with the fix."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

API_HOSTS = {
    "us": "https://api.mixpanel.com",
    "eu": "https://api-eu.mixpanel.com",
    "in": "https://api-in.mixpanel.com",
}
MIN_LIFETIME_S = 60
MAX_LIFETIME_S = 400 * 86_400
"""Browsers cut a cookie's life there (RFC 6265bis, 5.5)."""

_TOKEN = re.compile(r"[0-9A-Za-z_-]+")
_COOKIE_NAME = re.compile(r"[0-9A-Za-z!#$%&'*+.^_`|~-]+")
_DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
_FLAGS = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccount:
    """A Mixpanel service account; `/import` is authenticated with it instead of the token."""

    username: str
    secret: str = field(repr=False)
    project_id: str


def a_string(value: Any) -> str:
    """Take text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("it must be a string that is not empty")
    return value


def a_token(value: Any) -> str:
    """Take a project token; Mixpanel's have 32 hex digits, the local Mixpanel takes any."""
    if not isinstance(value, str) or not _TOKEN.fullmatch(value.strip()):
        raise ValueError("it must be the project token: letters and digits, no blanks")
    return value.strip()


def secret_keys(value: Any) -> tuple[str, ...]:
    """Take one key or several, oldest first."""
    keys = [value] if isinstance(value, (str, bytes)) else value
    if not isinstance(keys, (list, tuple)) or not keys:
        raise ValueError("it must be a string, or a list of strings with the newest last")
    taken = tuple(key.decode("latin-1") if isinstance(key, bytes) else key for key in keys)
    if not all(isinstance(key, str) and key for key in taken):
        raise ValueError("each key must be a string that is not empty")
    return taken


def a_choice(*allowed: str) -> Callable[[Any], str]:
    """Make a rule for one of a few words."""

    def rule(value: Any) -> str:
        if not isinstance(value, str) or value.lower() not in allowed:
            raise ValueError(f"it must be one of {', '.join(map(repr, allowed))}")
        return value.lower()

    return rule


def a_flag(value: Any) -> bool:
    """Take a boolean, or a word for one."""
    if isinstance(value, bool):
        return value
    flag = _FLAGS.get(str(value).strip().lower()) if isinstance(value, (str, int)) else None
    if flag is None:
        raise ValueError("it must be true or false (1, 0, yes, no, on, off)")
    return flag


def a_host(value: Any) -> str:
    """Take a host or a URL; give a base URL without a slash at its end."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("it must be a host name or URL")
    text = value.strip()
    if "://" not in text:
        name = urlsplit(f"//{text}").hostname or ""
        text = f"{'http' if _is_loopback(name) else 'https'}://{text}"
    url = urlsplit(text)
    try:
        port = url.port
    except ValueError:
        port = 0
    if url.scheme not in ("http", "https") or not url.hostname or port == 0:
        raise ValueError("it must be a host name or an http(s) URL, such as 'api-eu.mixpanel.com'")
    if url.query or url.fragment or url.username or url.password:
        raise ValueError("it must be host and path alone, without user, query or fragment")
    if url.hostname == "api-js.mixpanel.com":
        raise ValueError("that is the browser's host; use 'api.mixpanel.com', or region")
    return text.rstrip("/")


def a_service_account(value: Any) -> ServiceAccount:
    """Take a ServiceAccount, a mapping with its fields, or the three in a tuple."""
    if isinstance(value, ServiceAccount):
        return value
    names = ("username", "secret", "project_id")
    if isinstance(value, (tuple, list)) and len(value) == len(names):
        value = dict(zip(names, value, strict=True))
    parts = {name: _part(value, name) for name in names}
    missing = [name for name, part in parts.items() if not part]
    if missing:
        raise ValueError(f"{' and '.join(missing)} missing; it needs {', '.join(names)}")
    return ServiceAccount(**parts)


def a_spool(value: Any) -> str:
    """Take a directory or `memory:`."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str) or not value.strip():
        raise ValueError("it must be a directory, or 'memory:'")
    scheme, colon, _ = value.partition("://")
    if colon and scheme != "file":
        if scheme.startswith(("redis", "rediss")):
            raise ValueError("Redis spools are not in this version; use a directory")
        raise ValueError(f"there is no spool for {scheme}://; use a directory, or 'memory:'")
    return value if value == "memory:" or colon else str(Path(value).expanduser())


def browser_sdks(value: Any) -> tuple[str, ...]:
    """Take `"mixpanel"`, `"spid"`, both, or none."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    if not isinstance(value, (tuple, list, set, frozenset)):
        raise ValueError("it must be 'mixpanel', 'spid', both in a tuple, or None")
    names = tuple(name for name in value if name not in ("", "none"))
    if not set(names) <= {"mixpanel", "spid"}:
        raise ValueError("it must be 'mixpanel', 'spid', both in a tuple, or None")
    return names


def a_handover_path(value: Any) -> str:
    """Take the path of the hand-over endpoint."""
    if not isinstance(value, str) or not value.startswith("/") or "?" in value or "#" in value:
        raise ValueError("it must be a path that begins with '/', or None")
    return value


def a_cookie_name(value: Any) -> str:
    """Take a cookie name (RFC 6265 token)."""
    if not isinstance(value, str) or not _COOKIE_NAME.fullmatch(value):
        raise ValueError("it must be a cookie name: letters, digits and !#$%&'*+-.^_`|~")
    if value.lower().startswith(("__host-", "__secure-")):
        raise ValueError("leave the prefix away; __Host- is added on https where no domain is set")
    return value


def a_cookie_domain(value: Any) -> str:
    """Take a domain for the cookie; sub-domains of it share the visitor."""
    text = value.strip().lstrip(".").lower() if isinstance(value, str) else ""
    if not _DOMAIN.fullmatch(text):
        raise ValueError("it must be a domain such as 'example.com', no IP address and no single label")
    return text


def a_lifetime(value: Any) -> int:
    """Take the cookie's life in seconds."""
    if isinstance(value, str) and value.strip().isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not MIN_LIFETIME_S <= value <= MAX_LIFETIME_S:
        raise ValueError(
            f"it must be a number of seconds from {MIN_LIFETIME_S} to {MAX_LIFETIME_S} (400 days)"
        )
    return value


def a_callable(value: Any) -> Callable[..., Any]:
    """Take anything that can be called."""
    if not callable(value):
        raise ValueError("it must be callable")
    function: Callable[..., Any] = value
    return function


def mapping_or_callable(value: Any) -> Any:
    """Take properties, or what gives them."""
    if not callable(value) and not hasattr(value, "items"):
        raise ValueError("it must be a mapping, or a callable that gives one")
    return value


def a_network_list(value: Any) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    """Take networks in CIDR form, in a list or with commas between."""
    if isinstance(value, str):
        value = [part for part in value.replace(",", " ").split() if part]
    if not isinstance(value, (list, tuple, set, frozenset)):
        raise ValueError("it must be a list of networks, such as ['10.0.0.0/8']")
    try:
        return tuple(ipaddress.ip_network(network, strict=False) for network in value)
    except ValueError as error:
        raise ValueError(f"{error}; use CIDR networks, such as '10.0.0.0/8'") from None


def default_spool(token: str, api_host: str, environ: Mapping[str, str]) -> str:
    """Give the directory under the user's state directory, one for each token and host."""
    if environ.get("XDG_STATE_HOME"):
        state = Path(environ["XDG_STATE_HOME"])
    elif sys.platform == "darwin":
        state = Path.home() / "Library" / "Application Support"
    else:
        state = Path.home() / ".local" / "state"
    digest = hashlib.sha256(f"{token} {api_host}".encode()).hexdigest()[:12]
    host = re.sub(r"[^0-9A-Za-z.-]", "-", urlsplit(api_host).netloc)
    return str(state / "mixpanel-visitor" / f"{host}-{digest}")


def _is_loopback(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _part(value: Any, name: str) -> str:
    part = value.get(name) if hasattr(value, "get") else getattr(value, name, None)
    return str(part) if part else ""
