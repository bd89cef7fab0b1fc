"""The address of a Redis for the spool."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

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
MAX_PARTITIONS = 256
_CLUSTER_PARTITIONS = 16
_MAX_WAIT = 5
_PERCENT = "a password with / or : in it is written with %2F, %3A"


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisAddress:
    """The address, with our options apart from the `url` of redis-py.

    `partitions` must be the same for all processes that share the spool; `idle_s` is how long a worker may be
    silent before others claim its records in flight; `prefix` is that of all keys; `journal` is the directory
    of records that are not in Redis yet ("": one under the user's state directory), and `fallback` is its
    name in 0.1; `wait` is the number of replicas that must have a record before it counts as stored.
    """

    url: str = field(repr=False)  # a password may be in it
    partitions: int = 1
    idle_s: float = 300.0
    prefix: str = "mpv"
    journal: str = ""
    fallback: str = ""
    wait: int = 0
    is_cluster: bool = False


def parse(location: str) -> RedisAddress:
    """Read an address; raise ValueError that says what is wrong with it and what it should be."""
    try:
        parts = urlsplit(location)
    except ValueError:
        # The message of urlsplit may show a password.
        raise ValueError(f"is no valid address; {_PERCENT}") from None
    scheme = parts.scheme.lower()
    if scheme not in SCHEMES:
        raise ValueError(f"there is no {scheme} spool; known are {', '.join(SCHEMES)}")
    if scheme == "unix":
        if not parts.path.strip("/"):
            raise ValueError("names no socket; write unix:///run/redis/redis.sock")
    elif not parts.hostname:
        raise ValueError(f"names no host; write {scheme}://redis.internal:6379/0")
    if scheme == "redis+sentinel" and not parts.path.strip("/"):
        raise ValueError("names no service; write redis+sentinel://host:26379,host:26379/SERVICE")
    _check_port(parts)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    clustered = scheme.endswith("+cluster")
    try:
        partitions = int(options.pop("partitions", _CLUSTER_PARTITIONS if clustered else 1))
        idle_s = float(options.pop("idle_s", 300))
        wait = int(options.pop("wait", 0))
    except ValueError:
        raise ValueError("partitions, idle_s and wait must be numbers: ?partitions=8&idle_s=300") from None
    if not 1 <= partitions <= MAX_PARTITIONS:
        raise ValueError(f"partitions must be 1 to {MAX_PARTITIONS}, not {partitions}")
    if not 1 <= idle_s <= 86_400:
        raise ValueError(f"idle_s must be 1 to 86400 seconds, not {idle_s:g}")
    if not 0 <= wait <= _MAX_WAIT or (wait and clustered):
        raise ValueError(f"wait must be 0 to {_MAX_WAIT} replicas, and 0 on a cluster, not {wait}")
    prefix = options.pop("prefix", "mpv")
    if not prefix or set(prefix) & set("{} \t\r\n"):
        raise ValueError(f"prefix must be a word without braces, not {prefix!r}")
    journal, fallback = options.pop("journal", ""), options.pop("fallback", "")
    # Not urlunsplit, which omits the slashes where there is no host.
    remainder = f"?{urlencode(options)}" if options else ""
    return RedisAddress(
        url=f"{scheme.replace('valkey', 'redis')}://{parts.netloc}{parts.path}{remainder}",
        partitions=partitions,
        idle_s=idle_s,
        prefix=prefix,
        journal=journal,
        fallback=fallback,
        wait=wait,
        is_cluster=clustered,
    )


def _check_port(parts: SplitResult) -> None:
    if "," in parts.netloc:  # several hosts, each with a port
        return
    try:
        _ = parts.port
    except ValueError:
        # The message of urllib may show a part of a password.
        raise ValueError(f"the port is no number; {_PERCENT}") from None
