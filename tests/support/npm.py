"""Packages of npm that tests run with: installed once, in the versions that stand in a package.json."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

_CACHE = Path(__file__).parents[2] / "build" / "npm"
_INSTALL_S = 120


def installed(name: str, package_json: Path) -> Path:
    """Return the directory `node_modules` of what is asked for; `name` is the cache's, version included."""
    home = _CACHE / name
    if not home.is_dir():
        _CACHE.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix="installing-", dir=_CACHE))
        try:
            shutil.copy(package_json, made)
            _install(made, name)
            made.rename(home)  # atomic: whoever finds it finds all of it
        except OSError:
            if not home.is_dir():  # another worker was not faster: this is an error
                raise
        finally:
            shutil.rmtree(made, ignore_errors=True)
    return home / "node_modules"


def _install(directory: Path, name: str) -> None:
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock"]
    done = subprocess.run(
        [*command, "--prefix", directory],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=_INSTALL_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"npm could not install {name}:\n{done.stdout}{done.stderr}")
