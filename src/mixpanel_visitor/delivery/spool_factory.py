"""Spool factory: makes the spool that a setting names."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from mixpanel_visitor.errors import SettingsError
from mixpanel_visitor.observability.rate_limited_log import logger
from mixpanel_visitor.settings import redis_address
from mixpanel_visitor.settings.masked import without_secrets
from mixpanel_visitor.settings.spool import HAS_FILE_LOCKS, NO_FILE_LOCKS, default_spool, expanded

if TYPE_CHECKING:
    from mixpanel_visitor.settings.redis_address import RedisAddress

    from .journal import Journal
    from .spool import Spool

_FORMS = "a directory, file:///a/directory, redis://host:6379/0, or memory:"


def open_spool(
    location: str | os.PathLike[str], *, project: str = "", max_bytes: int | None = None, waits: bool = False
) -> Spool:
    """Return the spool at `location`; nothing is opened or created before its first use.

    It is a directory (`~` is the user's home), `file://` with a directory, `redis://` or its like, or
    `memory:`. Raise SettingsError for anything else, MissingExtraError without the extra `redis`. Each
    `project` has a part of its own in it, because the leader of a spool delivers all of its records.
    `max_bytes` bounds the bytes that may wait; None: the default of the spool. `waits`: a put to Redis
    returns when the records are there, not only on this machine.
    """
    if not isinstance(location, str):
        return _open_journal(expanded(str(location)) / project, max_bytes)
    scheme = location.partition(":")[0].lower() if ":" in location else ""
    if scheme == "memory":
        if not HAS_FILE_LOCKS:
            _warn_of_memory()
        from .memory import MemorySpool  # noqa: PLC0415  # each kind of spool where it is asked for

        return MemorySpool() if max_bytes is None else MemorySpool(max_bytes)
    if scheme in redis_address.SCHEMES:
        return _open_redis(location, project, max_bytes, waits=waits)
    if scheme == "file":
        parts = urlsplit(location)
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise SettingsError(
                [f"spool is {without_secrets(location)!r}: a file URL has three slashes, file:///a/directory"]
            )
        return _open_journal(Path(unquote(parts.path)) / project, max_bytes)
    if "://" in location:
        raise SettingsError([f"spool is {without_secrets(location)!r}: a spool is {_FORMS}"])
    if not location.strip():
        raise SettingsError([f"spool is empty: give {_FORMS}"])
    return _open_journal(expanded(str(location)) / project, max_bytes)


def _open_journal(directory: Path, max_bytes: int | None) -> Journal:
    if not HAS_FILE_LOCKS:
        reason = "a directory needs file locks, which this system has none of"
        raise SettingsError([f"spool is {str(directory)!r}: {reason}: {NO_FILE_LOCKS}"])
    from .journal import Journal  # noqa: PLC0415  # as above

    return Journal(directory, max_bytes=max_bytes)


@cache
def _warn_of_memory() -> None:
    logger.warning(
        "Events wait in memory and end with this process, for this system has no file locks: %s.",
        NO_FILE_LOCKS,
    )


def _open_redis(location: str, project: str, max_bytes: int | None, *, waits: bool) -> Spool:
    # Late: only a spool in Redis needs them.
    from .forwarding import LINGER_S, ForwardingSpool  # noqa: PLC0415
    from .journal import Journal  # noqa: PLC0415
    from .redis_streams import RedisSpool  # noqa: PLC0415

    server = RedisSpool(location, project=project, max_bytes=max_bytes)
    if not HAS_FILE_LOCKS:
        return server  # without a journal before it
    directory = _journal_directory(server.address, project)
    return ForwardingSpool(server, Journal(directory, refresh_every_s=LINGER_S), waits=waits)


def _journal_directory(address: RedisAddress, project: str) -> Path:
    if address.journal:
        return expanded(address.journal) / project
    if address.fallback:
        _warn_of_fallback(address.fallback)
        return expanded(address.fallback)  # as in 0.1, which may have left something there
    host = urlsplit(address.url).hostname or "local"
    try:
        return expanded(default_spool(f"{project}{address.url}", f"redis://{host}", os.environ))
    except ValueError:
        reason = "this user has no home directory to keep events in until they are forwarded to Redis"
        fix = "name one in the address: redis://host/0?journal=/some/directory"
        raise SettingsError([f"spool: {reason}; {fix}"]) from None


@cache
def _warn_of_fallback(directory: str) -> None:
    logger.warning(
        "?fallback=%s in the spool's address is an old name: it is ?journal= now, for every event is there "
        "until it is forwarded to Redis. The old name works as it did. Under the new one each project has a "
        "directory of its own in there; change it when nothing waits in the old one.",
        directory,
    )
