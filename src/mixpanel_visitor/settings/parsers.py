"""Parsers: each returns a value in its normal form, or raises ValueError with the problem and the fix."""

from __future__ import annotations

import datetime as dt
import inspect
import ipaddress
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mixpanel_visitor.spelling import did_you_mean

from .event_plan import EventPlan

if TYPE_CHECKING:
    from collections.abc import Callable

    Network = ipaddress.IPv4Network | ipaddress.IPv6Network

BROWSER_SDKS = ("mixpanel", "spid")
MIN_COOKIE_AGE_S = 60
MAX_COOKIE_AGE_S = 400 * 86_400
"""Browsers cut a longer life to this (RFC 6265bis, 5.5)."""

MAX_DELIVERY_TIMEOUT_S = 60.0

OWN_COLLECTOR_PATH = "auto"
"""The value for a path that is made of the token."""

_IDENTIFIER = re.compile(r"[0-9A-Za-z_-]+")
_COOKIE_NAME = re.compile(r"[0-9A-Za-z!#$%&'*+.^_`|~-]{1,64}")  # a token: RFC 6265, 4.1.1
_COOKIE_PREFIXES = ("__host-", "__secure-", "__http-")  # browsers compare them without regard to case
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(rf"(?=.{{1,253}}\Z)(?:{_LABEL}\.)+{_LABEL}")
_PATH = re.compile(r"/[!-~]+")
_DOTTED = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)+")
_SEPARATORS = re.compile(r"[\s,]+")
_BOOLEANS = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}
_ANY_CLIENT = (
    "would let every client choose its own address; give the networks of your proxies, such as '10.0.0.0/8' "
    "(if only proxies can reach this server at all, say so: '0.0.0.0/0, ::/0')"
)


def optional(parse: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Make a parser that also takes None, and the word `none` where only text can be given."""

    def parse_optional(value: Any) -> Any:
        if value is None or (isinstance(value, str) and value.strip().lower() == "none"):
            return None
        return parse(value)

    return parse_optional


def one_of(*choices: str) -> Callable[[Any], str]:
    """Make a parser for one word out of a few; case does not matter."""
    quoted = [repr(choice) for choice in choices]
    listed = f"{', '.join(quoted[:-1])} or {quoted[-1]}"

    def parse_choice(value: Any) -> str:
        word = value.strip().lower() if isinstance(value, str) else ""
        if word in choices:
            return word
        raise ValueError(f"must be {listed}{did_you_mean(word, choices)}")

    return parse_choice


def identifier(value: Any) -> str:
    """Parse a token or client ID of letters, digits, `-` and `_`; Mixpanel's tokens have 32 hex digits."""
    text = _text(value, "must be a str")
    if not _IDENTIFIER.fullmatch(text):
        raise ValueError("must consist of letters, digits, '-' and '_', without white space; copy it again")
    return text


def secret(value: Any) -> str:
    """Parse a secret: text without a further form."""
    return _text(value, "must be a str")


class FrameworkKey(str):
    """A key of the framework's own cookies; it may be short, as it often is in development."""

    __slots__ = ()


def secret_keys(value: Any) -> tuple[str, ...]:
    """Parse one key or several, oldest first, the last one signs; as text, several are a JSON list.

    `()`: no key, for processes without requests.
    """
    if isinstance(value, str) and value.lstrip().startswith('["'):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError('begins like a JSON list but is none; write ["old key", "new key"]') from None
    keys = value if isinstance(value, (list, tuple)) else [value]
    return tuple(_secret_key(key) for key in keys)


def boolean(value: Any) -> bool:
    """Parse a bool, 0 or 1, or one of the usual words."""
    word = str(value).strip().lower() if isinstance(value, (bool, int, str)) else ""
    if word not in _BOOLEANS:
        raise ValueError("must be true or false (or 1/0, yes/no, on/off)")
    return _BOOLEANS[word]


def browser_sdks(value: Any) -> tuple[str, ...]:
    """Parse one SDK or several, in order; None, `()` or `none` for no SDK."""
    if value is None or (isinstance(value, str) and value.strip().lower() == "none"):
        return ()
    parse = one_of(*BROWSER_SDKS)
    try:
        return tuple(dict.fromkeys(parse(name) for name in _items(value)))
    except ValueError as error:
        raise ValueError(f"{error}; both are ('mixpanel', 'spid'), None is no SDK") from None


def networks(value: Any) -> tuple[Network, ...]:
    """Parse CIDRs and addresses, as text with commas or as a list; None for no proxy."""
    if value is None or (isinstance(value, str) and value.strip().lower() == "none"):
        return ()
    return tuple(_network(item) for item in _items(value))


def host_names(value: Any) -> tuple[str, ...]:
    """Parse names of hosts, as text with commas or as a list; `.example.com` for all below; None for none."""
    hosts = tuple(name.strip().lower() for name in names(value))
    for host in hosts:
        if not re.fullmatch(r"\.?[0-9a-z_-]+(\.[0-9a-z_-]+)*|[0-9a-f:]+", host):
            raise ValueError(
                "names hosts, such as 'billing.internal' or '.example.com', without scheme, port and *, "
                f"not {host!r}"
            )
    return hosts


def cookie_name(value: Any) -> str:
    """Parse a cookie name without the prefix that is added to it."""
    text = _text(value, "must be a str")
    if not _COOKIE_NAME.fullmatch(text):
        raise ValueError("must be up to 64 letters, digits and !#$%&'*+-.^_`|~ (RFC 6265), such as 'mpv'")
    for prefix in _COOKIE_PREFIXES:
        if text.lower().startswith(prefix):
            raise ValueError(
                "must not begin with a prefix; leave it out, __Host- is added on https where no "
                "cookie_domain is set"
            )
    return text


def persistence_name(value: Any) -> str:
    """Parse the browser SDK's `persistence_name`: its cookie is called `mp_` and this."""
    text = _text(value, "must be a str")
    if not _COOKIE_NAME.fullmatch(text):
        raise ValueError("must be up to 64 characters of a cookie name (RFC 6265), as in mixpanel.init")
    return text


def cookie_domain(value: Any) -> str:
    """Parse the domain that shares the cookie with all its sub-domains; a leading dot is dropped."""
    text = _text(value, "must be a domain as str").strip().removeprefix(".").lower()
    if not _is_domain(text):
        raise ValueError(
            "must be a domain such as 'example.com': no URL, port, IP address or single label; leave it out "
            "for a cookie of this host alone, write other alphabets as xn--..."
        )
    return text


def cookie_age(value: Any) -> int:
    """Parse whole seconds, also as text or timedelta."""
    if isinstance(value, dt.timedelta):
        value = value.total_seconds()
    if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,12}\s*", value, re.ASCII):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value // 1:
        raise ValueError("must be a whole number of seconds, such as 31536000 for 365 days")
    if not MIN_COOKIE_AGE_S <= value <= MAX_COOKIE_AGE_S:
        raise ValueError(
            f"must be between {MIN_COOKIE_AGE_S} and {MAX_COOKIE_AGE_S} seconds: browsers keep no cookie "
            "for more than 400 days"
        )
    return int(value)


def delivery_timeout(value: Any) -> float:
    """Read how long a response waits for Mixpanel's acknowledgement: over 0 and up to 60 seconds."""
    requirement = f"must be a number of seconds, over 0 and up to {MAX_DELIVERY_TIMEOUT_S:g}"
    if isinstance(value, dt.timedelta):
        value = value.total_seconds()
    if isinstance(value, bool):
        raise ValueError(f"{requirement}, not a bool")
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{requirement}, not {value!r:.80}") from None
    if not 0 < seconds <= MAX_DELIVERY_TIMEOUT_S:
        raise ValueError(f"{requirement}, not {value!r:.80}")
    return seconds


def handover_path(value: Any) -> str:
    """Parse a path below the root of the application."""
    text = _text(value, "must be a path as str, or None")
    if not _PATH.fullmatch(text) or text.startswith("//") or any(each in text for each in "?#\\"):
        # Browsers read `//` and `/\\` as the beginning of another host's address.
        raise ValueError(
            "must be a path that begins with one '/', such as '/_visitor', or None to turn it off"
        )
    return text


def collector_path(value: Any) -> str:
    """Parse a path below the root of the application, without a slash at its end, or `auto`."""
    text = _text(value, "must be a path as str, or None")
    if text.strip().lower() == OWN_COLLECTOR_PATH:
        return OWN_COLLECTOR_PATH
    try:
        path = handover_path(text).rstrip("/")
    except ValueError:
        path = ""
    if not path or "%" in path:
        raise ValueError(
            "must be a path that begins with one '/', such as '/m', 'auto' for one of this project's own, or "
            "None to turn it off"
        )
    return path


def hook(value: Any) -> Callable[..., Any] | None:
    """Parse a function, or None."""
    if value is None:
        return None
    if not callable(value):
        raise ValueError(f"must be a function or None, not {type(value).__name__}")
    if inspect.iscoroutinefunction(value):
        raise ValueError("must be a plain function, not an async one: nothing here can await it")
    function: Callable[..., Any] = value
    return function


def identify_users(value: Any) -> bool | str | Callable[..., Any]:
    """Parse a boolean, a function, or the dotted name of one, which is imported where it is needed."""
    if callable(value):
        return hook(value) or False
    if isinstance(value, str) and _DOTTED.fullmatch(value):
        return value
    try:
        return boolean(value)
    except ValueError:
        raise ValueError("must be true, false, a function, or its dotted name, as 'shop.ids.of'") from None


def properties(value: Any) -> Mapping[str, Any] | Callable[..., Any] | None:
    """Parse a mapping of names to values (copied, as settings are immutable), a function for one, or None."""
    if isinstance(value, Mapping):
        non_str_keys = [key for key in value if not isinstance(key, str)]
        if non_str_keys:
            raise ValueError(f"must have property names as keys, {non_str_keys[0]!r} is no str")
        return dict(value)
    if value is not None and not callable(value):
        raise ValueError(f"must be a mapping, or a function that gives one, not {type(value).__name__}")
    return hook(value)


def plan(value: Any) -> Any:
    """Parse a tracking plan whose types can all be read, or None."""
    if value is None:
        return None
    if isinstance(value, type) or not isinstance(value, EventPlan):
        raise ValueError(f"must be a mixpanel_visitor.plan.Plan, not {type(value).__name__}")
    value.resolve()
    return value


def bot_detector(value: Any) -> Callable[..., Any] | str | None:
    """Parse a function of the User-Agent, the name of a supported package, or None."""
    if isinstance(value, str):
        word = one_of("crawlerdetect", "none")(value)
        return None if word == "none" else word
    return hook(value)


def page_views(value: Any) -> tuple[str, ...]:
    """Parse a boolean, or patterns of paths; True is `*`, which is every path."""
    if value is None or isinstance(value, bool):
        return ("*",) if value else ()
    if isinstance(value, str) and value.strip().lower() in (*_BOOLEANS, "none"):
        return ("*",) if _BOOLEANS.get(value.strip().lower()) else ()
    patterns = tuple(_text(item, "must be True, False, or patterns of paths,") for item in _items(value))
    for pattern in patterns:
        if not pattern.removeprefix("!").startswith(("/", "*")):
            raise ValueError(f"{pattern!r} is no path: it begins with '/', '*' or '!'")
    return patterns


def names(value: Any) -> tuple[str, ...]:
    """Parse names, as text with commas or as a list; None for no name."""
    if value is None or (isinstance(value, str) and value.strip().lower() == "none"):
        return ()
    return tuple(_text(item, "must be a str, or a list of them,") for item in _items(value))


def _text(value: Any, requirement: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{requirement}, not {type(value).__name__}")
    if not value.strip():
        raise ValueError(f"{requirement} that is not empty")
    return value


def _items(value: Any) -> list[Any]:
    if isinstance(value, str):
        return [item for item in _SEPARATORS.split(value) if item]
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=str)
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _secret_key(key: Any) -> str:
    if isinstance(key, bytes):
        # Flask's documentation shows SECRET_KEY as bytes; any text will do that is always the same.
        try:
            key = key.decode()
        except UnicodeDecodeError:
            key = key.hex()
    text = _text(key, "must be a str, or a list of them (oldest first),")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must be valid UTF-8; make one of hex digits instead") from None
    return text


def _network(item: Any) -> Network:
    if isinstance(item, (ipaddress.IPv4Network, ipaddress.IPv6Network)):
        return item
    if isinstance(item, (ipaddress.IPv4Address, ipaddress.IPv6Address)):
        return ipaddress.ip_network(item)
    if not isinstance(item, str):  # ip_network() takes numbers for addresses
        raise ValueError(f"must be networks such as '10.0.0.0/8', not {type(item).__name__}")
    if item.strip() == "*":
        raise ValueError(f"'*' {_ANY_CLIENT}")
    try:
        return ipaddress.ip_network(item.strip())
    except ValueError:
        hint = _without_host_bits(item.strip())
    raise ValueError(f"{item!r} is no network; {hint}")


def _without_host_bits(text: str) -> str:
    try:
        return f"did you mean {str(ipaddress.ip_network(text, strict=False))!r}?"
    except ValueError:
        return "write '10.0.0.0/8', '192.0.2.7' or 'fd00::/8'"


def _is_domain(text: str) -> bool:
    # A last label of digits alone makes it an IPv4 address to browsers (URL Standard, "ends in a number").
    return _DOMAIN.fullmatch(text) is not None and not text.rpartition(".")[2].isdigit()
