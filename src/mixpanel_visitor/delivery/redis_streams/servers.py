"""Servers: from an address to a Redis client; the only place that imports `redis`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from mixpanel_visitor.errors import MissingExtraError, SettingsError, SpoolUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEMES = (
    "redis",
    "rediss",
    "unix",
    "valkey",
    "valkeys",
    "redis+cluster",
    "rediss+cluster",
    "redis+sentinel",
)
TIMEOUT_S = 0.25
"""To connect and for each answer: a request's thread may be the one that waits."""

MAX_PARTITIONS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A Redis to keep the spool in: `url` as given, less what is ours.

    `partitions` must be the same for all who share it; `idle_s` is how long a worker may be silent before
    others take what it has in hand; `prefix` is that of all keys; `fallback` a directory for the records of
    this machine while Redis is away.
    """

    url: str
    partitions: int = 1
    idle_s: float = 300.0
    prefix: str = "mpv"
    fallback: str = ""


def parse(location: str) -> Address:
    """Read an address; raises SettingsError that says what is wrong with it and what it should be."""
    parts = urlsplit(location)
    scheme = parts.scheme.lower()
    if scheme not in SCHEMES:
        raise SettingsError(
            [f"spool is {_hidden(location)!r}: there is no {scheme} spool; known are {', '.join(SCHEMES)}"]
        )
    if scheme != "unix" and not parts.hostname:
        raise SettingsError(
            [f"spool is {_hidden(location)!r}: it names no host; write {scheme}://redis.internal:6379/0"]
        )
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    clustered = scheme.endswith("+cluster")
    try:
        address = Address(
            url="",
            partitions=int(given.pop("partitions", 16 if clustered else 1)),
            idle_s=float(given.pop("idle_s", 300)),
            prefix=given.pop("prefix", "mpv"),
            fallback=given.pop("fallback", ""),
        )
    except ValueError as error:
        raise SettingsError(
            [f"spool is {_hidden(location)!r}: partitions and idle_s are numbers ({error})"]
        ) from None
    if not 1 <= address.partitions <= MAX_PARTITIONS or not 1 <= address.idle_s <= 86_400:
        raise SettingsError(
            [f"spool is {_hidden(location)!r}: partitions are 1 to {MAX_PARTITIONS}, idle_s 1 to 86400"]
        )
    if not address.prefix or set(address.prefix) & set("{} \t\r\n"):
        raise SettingsError([f"spool is {_hidden(location)!r}: a prefix has no braces and no spaces"])
    url = urlunsplit((scheme.replace("valkey", "redis"), parts.netloc, parts.path, urlencode(given), ""))
    return Address(
        url=url,
        partitions=address.partitions,
        idle_s=address.idle_s,
        prefix=address.prefix,
        fallback=address.fallback,
    )


def connector(address: Address) -> Callable[[], Any]:
    """Check that the library is there; gives a call that makes a client, which connects at its first command.

    Raises MissingExtraError, and SettingsError for what the library does not understand.
    """
    try:
        import redis  # noqa: PLC0415
    except ImportError:
        raise MissingExtraError("redis", "redis") from None
    parts = urlsplit(address.url)
    common: dict[str, Any] = {
        "socket_timeout": TIMEOUT_S,
        "socket_connect_timeout": TIMEOUT_S,
        "decode_responses": False,
        "client_name": "mixpanel-visitor",
    }

    def plain() -> Any:
        # One more try, at once: a connection that was idle may have been closed by whatever is in between.
        retry = redis.retry.Retry(redis.backoff.NoBackoff(), 1)
        return redis.Redis.from_url(
            address.url, retry=retry, retry_on_error=[redis.exceptions.ConnectionError], **common
        )

    def cluster() -> Any:
        return redis.cluster.RedisCluster.from_url(address.url.replace("+cluster", ""), **common)

    def sentinel() -> Any:
        hosts = [_host_port(each, 26379) for each in parts.netloc.rpartition("@")[2].split(",")]
        service, _, database = parts.path.strip("/").partition("/")
        credentials = {
            "username": unquote(parts.username or "") or None,
            "password": unquote(parts.password or "") or None,
        }
        watchers = redis.sentinel.Sentinel(hosts, sentinel_kwargs=common)  # type: ignore[no-untyped-call]
        return watchers.master_for(service, db=int(database or 0), **credentials, **common)  # type: ignore[no-untyped-call]

    if parts.scheme == "redis+sentinel":
        if not parts.path.strip("/"):
            raise SettingsError(
                [
                    "spool names no service: write redis+sentinel://host:26379,host:26379/SERVICE or .../SERVICE/DB"
                ]
            )
        return sentinel
    if parts.scheme.endswith("+cluster"):
        return cluster
    try:
        plain().close()
    except (TypeError, ValueError) as error:
        raise SettingsError([f"spool is {_hidden(address.url)!r}: {error}"]) from None
    return plain


def unavailable(error: Exception) -> SpoolUnavailableError | None:
    """Give the error of ours for one of the library's; None for a mistake in the code."""
    import redis  # noqa: PLC0415

    if not isinstance(error, (redis.exceptions.RedisError, OSError)):
        return None
    text = str(error) or type(error).__name__
    return SpoolUnavailableError(f"Redis did not do it ({type(error).__name__}: {text})")


def _host_port(text: str, default: int) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return (host, int(port)) if host and port.isdigit() else (text, default)


def _hidden(location: str) -> str:
    parts = urlsplit(location)
    if parts.password is None:
        return location
    return location.replace(f":{parts.password}@", ":***@")
