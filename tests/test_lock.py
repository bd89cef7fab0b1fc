"""uv.lock: what `uv sync` installs for those who work on the package."""

import re
import tomllib
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent


def test_every_dependency_is_locked():
    """Of the package, of its extras, and of the dependency groups."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    locked = {package["name"] for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]}
    extras = project["project"]["optional-dependencies"].values()
    groups = project["dependency-groups"].values()
    named = [
        Requirement(each)
        for each in chain(project["project"]["dependencies"], *extras, *groups)
        if isinstance(each, str)  # else it includes another group
    ]
    assert {canonicalize_name(each.name) for each in named} <= locked


def test_all_that_is_locked_comes_from_pypi():
    """No address of somebody's own index is left in the file."""
    text = (ROOT / "uv.lock").read_text()
    assert set(re.findall(r"https?://[^/\"]+", text)) == {
        "https://pypi.org",
        "https://files.pythonhosted.org",
    }
