"""Client: from an address to a Redis client; the only module that imports `redis`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from mixpanel_visitor.errors import MissingExtraError, SettingsError, SpoolUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from urllib.parse import SplitResult

    from mixpanel_visitor.settings.redis_address import RedisAddress

NAMES_IN_CLUSTERS = 6
"""The first redis-py that checks them there; older ones drop the option that asks for it."""

TIMEOUT_S = 0.25
"""To connect and for each answer: a request's thread may be the one that waits."""


def connector(address: RedisAddress) -> Callable[[], Any]:
    """Return a call that makes a client, which connects at its first command.

    Raises MissingExtraError, and SettingsError for what the library does not understand.
    """
    try:
        import redis  # noqa: PLC0415
        from redis import backoff, cluster, retry, sentinel  # noqa: PLC0415
    except ImportError:
        raise MissingExtraError("redis", "redis") from None
    parts = urlsplit(address.url)
    common: dict[str, Any] = {
        "socket_timeout": TIMEOUT_S,
        "socket_connect_timeout": TIMEOUT_S,
        "decode_responses": False,
        "client_name": "mixpanel-visitor",
    }

    if parts.scheme.startswith("rediss"):
        _check_names(parts, redis.__version__, common)

    def retries(count: int) -> Any:
        # At once: an idle connection may have been closed by whatever is in between. The library's own
        # way waits for up to ten seconds.
        return retry.Retry(backoff.NoBackoff(), count)

    def alone() -> Any:
        return redis.Redis.from_url(address.url, retry=retries(1), **common)

    def clustered() -> Any:
        return cluster.RedisCluster.from_url(address.url.replace("+cluster", ""), retry=retries(3), **common)

    def watched() -> Any:
        hosts = [_host_port(each, 26379) for each in parts.netloc.rpartition("@")[2].split(",")]
        service, _, database = parts.path.strip("/").partition("/")
        credentials = {
            "username": unquote(parts.username or "") or None,
            "password": unquote(parts.password or "") or None,
        }
        watchers = sentinel.Sentinel(hosts, sentinel_kwargs=common)  # type: ignore[no-untyped-call]
        return watchers.master_for(service, db=int(database or 0), retry=retries(1), **credentials, **common)  # type: ignore[no-untyped-call]

    if parts.scheme == "redis+sentinel":
        return watched
    if parts.scheme.endswith("+cluster"):
        return clustered
    try:
        alone().close()
    except (TypeError, ValueError) as error:
        raise SettingsError([f"spool: {error}"]) from None
    return alone


def _check_names(parts: SplitResult, version: str, options: dict[str, Any]) -> None:
    """Have the host's name compared with the certificate's; before version 6 the library does not by itself.

    `ssl_check_hostname=false` or `ssl_cert_reqs=none` in the address still count.
    """
    given = dict(parse_qsl(parts.query))
    if given.get("ssl_cert_reqs", "").lower() == "none":
        return
    if parts.scheme.endswith("+cluster") and int(version.partition(".")[0]) < NAMES_IN_CLUSTERS:
        problem = (
            f"redis-py {version} does not compare the names of a cluster's hosts with their certificates"
        )
        raise SettingsError([f"spool: {problem}; pip install 'redis>={NAMES_IN_CLUSTERS}'"])
    options["ssl_check_hostname"] = True


def unavailable(error: Exception) -> SpoolUnavailableError | None:
    """Return the error of ours for one of the library's; None for a mistake in the code."""
    from redis.exceptions import RedisError  # noqa: PLC0415

    if not isinstance(error, (RedisError, OSError)):
        return None
    text = str(error) or type(error).__name__
    return SpoolUnavailableError(f"Redis did not do it ({type(error).__name__}: {text})")


def _host_port(text: str, default: int) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return (host, int(port)) if host and port.isdigit() else (text, default)
