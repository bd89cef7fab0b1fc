"""The installation: versions, and whether the server that runs here lets threads run."""

from __future__ import annotations

import configparser
import contextlib
import importlib.metadata
import platform
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mixpanel_visitor import release

from .findings import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_PACKAGE = "mixpanel-visitor"
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?>=([0-9.]+)(.*)")
_NOT_OURS = ("dev", "demo")
_THREADS = re.compile(r"-{0,2}(enable-threads|threads|gevent|asyncio|T)\b")
_UWSGI = re.compile(r"uwsgi([-_][a-z0-9.]+)*")
_THREADS_SINCE = (2, 0, 27)
"""From then on uWSGI lets threads run unasked."""

_CANNOT_TELL = (".yml", ".yaml", ".json", ".xml")


def look_at_system() -> Iterator[Finding]:
    """Judge what is installed here, and what runs."""
    if _installed(_PACKAGE) is None:
        yield Finding(
            "W010",
            f"{_PACKAGE} has no metadata here: a vendored, zipped or frozen copy",
            "its version is not known, and whether what it needs is recent enough",
            "install it with pip; for PyInstaller give --copy-metadata mixpanel-visitor",
        )
    else:
        yield from old_packages(importlib.metadata.requires(_PACKAGE) or [], _installed)
    version = release.version()
    yield Finding(
        "ok",
        f"{_PACKAGE} {version}, Python {platform.python_version()}, {platform.system()} {platform.release()}",
    )
    yield from threadless_servers(Path("/proc"), _installed)


def old_packages(requirements: Sequence[str], installed: Callable[[str], str | None]) -> Iterator[Finding]:
    """Find what is required and missing or too old; an extra's package may be missing, but not be too old."""
    for requirement in requirements:
        matched = _REQUIREMENT.match(requirement.replace(" ", ""))
        if matched is None:
            continue
        name, least, rest = matched.groups()
        extra = re.search(r"extra==['\"](.*?)['\"]", rest)
        if extra is not None and extra[1] in _NOT_OURS:
            continue
        version = installed(name)
        if version is None:
            if extra is None:
                yield Finding(
                    "E011",
                    f"{name} is not installed",
                    f"{_PACKAGE} needs it",
                    f"pip install '{name}>={least}'",
                )
        elif _numbers(version) < _numbers(least):
            yield Finding(
                "E012",
                f"{name} {version} is older than {least}",
                f"{_PACKAGE} is not tested with it",
                f"pip install '{name}>={least}'",
            )


def threadless_servers(proc: Path, installed: Callable[[str], str | None]) -> Iterator[Finding]:
    """Find an old uWSGI that runs here without threads, as far as this user may read how it was started."""
    version = installed("uwsgi") or installed("pyuwsgi")
    if version is not None and _numbers(version) >= _THREADS_SINCE:
        return
    found = []
    for path in sorted(proc.glob("[0-9]*")):
        with contextlib.suppress(OSError):
            words = (path / "cmdline").read_text(errors="replace").split("\0")
            # With pyuwsgi it is a script, so that Python stands before it.
            is_uwsgi = any(_UWSGI.fullmatch(Path(word).name) for word in words[:2])
            if is_uwsgi and not _has_threads(path, words[1:]):
                found.append(path.name)
    if found:
        yield Finding(
            "W013",
            f"uWSGI runs without threads (process {', '.join(found)})",
            "the thread that delivers stands still between requests: events arrive late",
            "give uWSGI enable-threads = true (since 2.0.27 that is the default); or deliver elsewhere",
        )


def _has_threads(process: Path, words: Sequence[str]) -> bool:
    """Return whether threads are turned on, or may be: there are more ways to say it than are read here."""
    if "\0UWSGI_ENABLE_THREADS=" in "\0" + (process / "environ").read_text(errors="replace"):
        return True
    for word in words:
        if _THREADS.match(word) or word.endswith(_CANNOT_TELL):
            return True
        if word.endswith(".ini") and _ini_has_threads((process / "cwd").resolve() / word.rpartition("=")[2]):
            return True
    return False


def _ini_has_threads(path: Path) -> bool:
    ini = configparser.ConfigParser(strict=False, interpolation=None, allow_no_value=True)
    try:
        ini.read_string(path.read_text(encoding="utf-8"))
    except (configparser.Error, OSError, UnicodeDecodeError):
        return True
    options = dict(ini["uwsgi"]) if ini.has_section("uwsgi") else {}
    return any(_THREADS.match(name) and value not in ("false", "0") for name, value in options.items())


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    found = [int(number) for number in re.findall(r"\d+", version.partition("+")[0])]
    while found and found[-1] == 0:
        found.pop()
    return tuple(found)
