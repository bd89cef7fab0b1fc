"""Masked: addresses without their secrets, even where the address is malformed."""

from __future__ import annotations

import re

MASK = "***"

_HARMLESS = {
    *("db", "fallback", "health_check_interval", "idle_s", "max_connections", "partitions", "prefix"),
    *("journal", "protocol", "socket_connect_timeout", "socket_keepalive", "socket_timeout", "ssl_ca_certs"),
    *("ssl_ca_path", "ssl_cert_reqs", "ssl_certfile", "ssl_check_hostname", "ssl_keyfile", "wait"),
}
"""Query parameters whose values are shown; of all others, also misspelt ones, only the names are."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_USER = re.compile(r"([^:@/?#]*):[^:@/?#]*")
"""A user name before a password; alone, it may be a password without its colon."""

_HOST = r"(?:\[[0-9A-Fa-f:.%]*\]|[^\[\]:@]*)(?::[0-9]*)?"
_HOSTS = re.compile(rf"{_HOST}(?:,{_HOST})*")


def without_userinfo(address: str) -> str:
    """Mask the password; also the user name and what follows, where the password's start is unclear.

    >>> without_userinfo("redis://ann:hush@db:6379/0"), without_userinfo("redis://ann:hush/0")
    ('redis://ann:***@db:6379/0', 'redis://***')
    """
    if address.startswith(("/", ".", "~")):
        return address  # a path
    head, slashes, remainder = address.partition("//")
    if not slashes or not re.fullmatch(f"({_SCHEME.pattern})?", head):
        scheme = _SCHEME.match(address)
        head, slashes, remainder = (scheme[0] if scheme else "", "", address[scheme.end() if scheme else 0 :])
        if scheme and head.startswith(("redis", "valkey")):
            return f"{head}{MASK}"
    if "@" in remainder:
        # The last @: a password may contain @ / ? # as well.
        userinfo, _, after = remainder.rpartition("@")
        user = _USER.fullmatch(userinfo)
        return f"{head}{slashes}{f'{user[1]}:' if user else ''}{MASK}@{after}"
    authority = re.split(r"[/?#]", remainder, maxsplit=1)[0]
    if slashes and (authority.startswith(":") or not _HOSTS.fullmatch(authority)):
        return f"{head}{slashes}{MASK}"  # a password without its @, or with a slash in it
    return address


def without_secrets(address: str) -> str:
    """Mask user name, password, and the values of query parameters that are not known to be harmless.

    >>> without_secrets("redis://db/0?password=hush&wait=1")
    'redis://db/0?password=***&wait=1'
    """
    masked, question, query = without_userinfo(address).partition("?")
    if not question or "//" not in masked:
        return f"{masked}{question}{query}"
    parts = (_pair(pair) for pair in re.split(r"([&;])", query))
    return f"{masked}?{''.join(parts)}"


def _pair(text: str) -> str:
    name, equals, _ = text.partition("=")
    return text if not equals or name in _HARMLESS else f"{name}={MASK}"
