"""The installation: versions of what is here."""

from __future__ import annotations

import importlib.metadata
import platform
import re
from typing import TYPE_CHECKING

from mixpanel_visitor import release

from .findings import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_PACKAGE = "mixpanel-visitor"
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?>=([0-9.]+)(.*)")
_NOT_OURS = ("dev", "demo")
_THREADS_SINCE = (2, 0, 27)
"""From then on uWSGI lets threads run unasked."""


def check_system() -> Iterator[Finding]:
    """Check which versions are installed."""
    if _installed(_PACKAGE) is None:
        yield Finding(
            "W010",
            f"{_PACKAGE} has no metadata here: a vendored, zipped or frozen copy",
            "whether what it needs is recent enough is not known",
            "install it with pip; for PyInstaller give --copy-metadata mixpanel-visitor",
        )
    else:
        yield from old_packages(importlib.metadata.requires(_PACKAGE) or [], _installed)
    version = release.VERSION
    yield Finding(
        "ok",
        f"{_PACKAGE} {version}, Python {platform.python_version()}, {platform.system()} {platform.release()}",
    )
    yield from old_uwsgi(_installed)


def old_packages(requirements: Sequence[str], installed: Callable[[str], str | None]) -> Iterator[Finding]:
    """Find what is missing or too old; a package of an extra, or of some systems, may be missing."""
    for requirement in requirements:
        matched = _REQUIREMENT.match(requirement.replace(" ", ""))
        if matched is None:
            continue
        name, minimum, marker = matched.groups()
        extra = re.search(r"extra==['\"](.*?)['\"]", marker)
        if extra is not None and extra[1] in _NOT_OURS:
            continue
        version = installed(name)
        if version is None:
            if not marker:
                yield Finding(
                    "E011",
                    f"{name} is not installed",
                    f"{_PACKAGE} needs it",
                    f"pip install '{name}>={minimum}'",
                )
        elif _numbers(version) < _numbers(minimum):
            yield Finding(
                "E012",
                f"{name} {version} is older than {minimum}",
                f"{_PACKAGE} is not tested with it",
                f"pip install '{name}>={minimum}'",
            )


def old_uwsgi(installed: Callable[[str], str | None]) -> Iterator[Finding]:
    """Find a uWSGI that runs threads only if its configuration says so, which cannot be read from here."""
    for name in ("uwsgi", "pyuwsgi"):
        version = installed(name)
        if version is not None and _numbers(version) < _THREADS_SINCE:
            yield Finding(
                "W013",
                f"{name} {version} runs no threads unless told to",
                "without them the thread that delivers stands still between requests: events arrive late",
                "update it to 2.0.27, or give it enable-threads = true and ignore this finding",
            )


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    numbers = [int(digits) for digits in re.findall(r"\d+", version.partition("+")[0])]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
