"""The spool's location: a directory, a Redis or `memory:`, and the default directory."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import redis_address

if TYPE_CHECKING:
    from collections.abc import Mapping

MEMORY = "memory:"
HAS_FILE_LOCKS = find_spec("fcntl") is not None
NO_FILE_LOCKS = f"run it in WSL, take a Redis (redis://host:6379/0), or {MEMORY!r} for development"

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://|((?:redis|rediss|valkey)[a-z+]*):")
_MEMORY_LOOKALIKES = ("memory", ":memory:", "memory:/", "memory://")


def spool(value: Any) -> str:
    """Parse a directory (as it is, but for a leading `~`), its `file:///` URL, a Redis, or `memory:`."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
        if value.lower() in _MEMORY_LOOKALIKES:
            value = f"./{value}"  # a path object cannot mean anything but a directory
    if not isinstance(value, str):
        raise ValueError(f"must be a directory or {MEMORY!r}, not {type(value).__name__}")
    if not value.strip() or "\0" in value:
        raise ValueError(f"must be the name of a directory, or {MEMORY!r}")
    if value == MEMORY:
        return value
    if value.lower() in _MEMORY_LOOKALIKES:
        raise ValueError(f"did you mean {MEMORY!r}? A directory of that name is './memory'")
    scheme = _SCHEME.match(value)
    if scheme is not None and (scheme[1] or "").lower() == "file":
        if not value[len("file://") :].startswith(("/", "localhost/")):
            raise ValueError("must have three slashes as a file URL: file:///a/directory")
        _need_file_locks()
        return value
    if scheme is not None:
        name = (scheme[1] or scheme[2]).lower()
        if name in redis_address.SCHEMES and scheme[1]:
            redis_address.parse(value)
            return value
        if name.startswith(("redis", "valkey")):
            raise ValueError("a Redis is written with two slashes: redis://host:6379/0")
        raise ValueError(f"there is no {name} spool; give a directory as a plain path, or {MEMORY!r}")
    _need_file_locks()
    if not value.startswith("~"):
        return value
    try:
        return str(expanded(value))
    except RuntimeError:
        raise ValueError("the home directory in it is not known; give an absolute path") from None


def _need_file_locks() -> None:
    if not HAS_FILE_LOCKS:
        raise ValueError(f"a directory needs file locks, which this system has none of: {NO_FILE_LOCKS}")


def home_directory(environ: Mapping[str, str]) -> Path | None:
    """Return the user's home: HOME where it is absolute, else what the system says; None: there is none.

    With an empty or relative HOME the spool would be in the root, or in another place after a `chdir`.
    """
    home = Path(environ.get("HOME", ""))
    if home.is_absolute():
        return home
    try:
        import pwd  # noqa: PLC0415  # not on Windows

        home = Path(pwd.getpwuid(os.getuid()).pw_dir)
    except (ImportError, KeyError):
        return None
    return home if home.is_absolute() else None


def expanded(location: str) -> Path:
    """Return the path with a leading `~` replaced; RuntimeError where the home is not known."""
    path = Path(location)
    if path.parts[:1] != ("~",):
        return path.expanduser() if location.startswith("~") else path
    home = home_directory(os.environ)
    if home is None:
        raise RuntimeError("the home directory is not known")
    return home.joinpath(*path.parts[1:])


def default_spool(
    token: str, api_host: str, environ: Mapping[str, str], *, platform: str = sys.platform
) -> str:
    """Return a directory under the user's state directory, one for each token and host.

    The disk is not touched. Raise ValueError where the user has no home (arbitrary UIDs in containers).
    """
    if not HAS_FILE_LOCKS:
        return MEMORY
    host = api_host.partition("://")[2]
    digest = hashlib.sha256(f"{token}{host}".encode()).hexdigest()[:8]
    name = re.sub(r"[^0-9a-z.]+", "-", host.lower()).strip("-.")[:80]
    return str(_state_home(environ, platform) / "mixpanel-visitor" / f"{digest}-{name}")


def _state_home(environ: Mapping[str, str], platform: str) -> Path:
    state = Path(environ.get("XDG_STATE_HOME", ""))
    if state.is_absolute():  # "If ... not absolute ... ignore it" (XDG Base Directory Specification)
        return state
    home = home_directory(environ)
    if home is None:
        raise ValueError(
            "this user has no home directory to keep the spool in; give spool='/some/directory' "
            "(MIXPANEL_VISITOR_SPOOL)"
        )
    return home / ("Library/Application Support" if platform == "darwin" else ".local/state")
