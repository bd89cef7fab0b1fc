"""Opening: from what a setting says to a spool."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from mixpanel_visitor.delivery.journal import Journal
from mixpanel_visitor.delivery.memory import MemorySpool
from mixpanel_visitor.errors import SettingsError

if TYPE_CHECKING:
    import os

    from mixpanel_visitor.delivery.spool import Spool

_FORMS = "a directory, file:///a/directory, or memory:"


def open_spool(location: str | os.PathLike[str], *, project: str = "", max_bytes: int | None = None) -> Spool:
    """Make the spool at `location`; nothing is opened or created before its first use.

    A directory (`~` is the user's home), `file://` and a directory, or `memory:`. SettingsError for what is
    none of these. `project` names a directory of its own inside of it: whoever leads a spool delivers all
    that is in there, so two projects must not share one. `max_bytes` bounds what may wait; None: the
    storage's own bound.
    """
    if not isinstance(location, str):
        return Journal(Path(location).expanduser() / project, max_bytes=max_bytes)
    scheme = location.partition(":")[0].lower() if ":" in location else ""
    if scheme == "memory":
        return MemorySpool() if max_bytes is None else MemorySpool(max_bytes)
    if scheme in ("redis", "rediss", "unix", "valkey", "valkeys"):
        raise SettingsError([f"spool is {location!r}: Redis spools are not in this version; give {_FORMS}"])
    if scheme == "file":
        parts = urlsplit(location)
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise SettingsError([f"spool is {location!r}: a file URL has three slashes, file:///a/directory"])
        return Journal(Path(unquote(parts.path)) / project, max_bytes=max_bytes)
    if "://" in location:
        raise SettingsError([f"spool is {location!r}: a spool is {_FORMS}"])
    if not location.strip():
        raise SettingsError([f"spool is empty: give {_FORMS}"])
    return Journal(Path(location).expanduser() / project, max_bytes=max_bytes)
