"""What some tests need besides: at home a missing one skips with a clear line, in CI it fails."""

from __future__ import annotations

import importlib.util
import os
import shutil

import pytest


def needs(program: str) -> pytest.MarkDecorator:
    """Skip where the program is not installed, unless this is CI."""
    missing = shutil.which(program) is None and not os.environ.get("CI")
    return pytest.mark.skipif(missing, reason=f"{program} is not installed")


def needs_module(name: str) -> pytest.MarkDecorator:
    """Skip where the Python package is not installed, unless this is CI; to be imported in fixtures only."""
    missing = importlib.util.find_spec(name) is None and not os.environ.get("CI")
    return pytest.mark.skipif(missing, reason=f"the Python package {name} is not installed")
