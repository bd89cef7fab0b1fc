"""Client: makes a Redis client for an address; the only module that imports `redis`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from mixpanel_visitor.errors import MissingExtraError, SettingsError, SpoolUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from urllib.parse import SplitResult

    from mixpanel_visitor.settings.redis_address import RedisAddress

CLUSTER_NAME_CHECK_VERSION = 6
"""The first redis-py that checks the names of a cluster's hosts; older ones ignore the option for it."""

TIMEOUT_S = 0.25
"""For connecting, and for each reply: the thread of a request may wait for it."""


def connector(address: RedisAddress) -> Callable[[], Any]:
    """Return a function that makes a client, which connects at its first command.

    Raises MissingExtraError, and SettingsError for an address that the library does not understand.
    """
    try:
        import redis  # noqa: PLC0415
        from redis import backoff, cluster, retry, sentinel  # noqa: PLC0415
    except ImportError:
        raise MissingExtraError("redis", "redis") from None
    url = urlsplit(address.url)
    options: dict[str, Any] = {
        "socket_timeout": TIMEOUT_S,
        "socket_connect_timeout": TIMEOUT_S,
        "decode_responses": False,
        "client_name": "mixpanel-visitor",
    }

    if url.scheme.startswith("rediss"):
        _check_host_names(url, redis.__version__, options)

    def retries(count: int) -> Any:
        # Without a pause: a firewall may have closed an idle connection. The library's default waits for up
        # to ten seconds.
        return retry.Retry(backoff.NoBackoff(), count)

    def single() -> Any:
        return redis.Redis.from_url(address.url, retry=retries(1), **options)

    def clustered() -> Any:
        return cluster.RedisCluster.from_url(address.url.replace("+cluster", ""), retry=retries(3), **options)

    def replicated() -> Any:
        hosts = [_host_port(each, 26379) for each in url.netloc.rpartition("@")[2].split(",")]
        service, _, database = url.path.strip("/").partition("/")
        credentials = {
            "username": unquote(url.username or "") or None,
            "password": unquote(url.password or "") or None,
        }
        sentinels = sentinel.Sentinel(hosts, sentinel_kwargs=options)  # type: ignore[no-untyped-call]
        return sentinels.master_for(
            service, db=int(database or 0), retry=retries(1), **credentials, **options
        )  # type: ignore[no-untyped-call]

    if url.scheme == "redis+sentinel":
        return replicated
    if url.scheme.endswith("+cluster"):
        return clustered
    try:
        single().close()
    except (TypeError, ValueError) as error:
        raise SettingsError([f"spool: {error}"]) from None
    return single


def _check_host_names(url: SplitResult, version: str, options: dict[str, Any]) -> None:
    """Have the library compare host names with certificates, which is its default only from version 6 on.

    `ssl_check_hostname=false` or `ssl_cert_reqs=none` in the address still count.
    """
    query = dict(parse_qsl(url.query))
    if query.get("ssl_cert_reqs", "").lower() == "none":
        return
    if url.scheme.endswith("+cluster") and int(version.partition(".")[0]) < CLUSTER_NAME_CHECK_VERSION:
        problem = (
            f"redis-py {version} does not compare the names of a cluster's hosts with their certificates"
        )
        raise SettingsError([f"spool: {problem}; pip install 'redis>={CLUSTER_NAME_CHECK_VERSION}'"])
    options["ssl_check_hostname"] = True


def unavailable(error: Exception) -> SpoolUnavailableError | None:
    """Return our error for one of the library's; None for any other, which is a mistake in the code."""
    from redis.exceptions import RedisError  # noqa: PLC0415

    if not isinstance(error, (RedisError, OSError)):
        return None
    text = str(error) or type(error).__name__
    return SpoolUnavailableError(f"Redis did not do it ({type(error).__name__}: {text})")


def _host_port(address: str, default_port: int) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return (host, int(port)) if host and port.isdigit() else (address, default_port)
