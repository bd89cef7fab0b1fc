"""A copy of the package without its metadata delivers as an installed one does."""

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.waiting import PATIENCE_S

import mixpanel_visitor
from mixpanel_visitor import release
from mixpanel_visitor.emulator import LocalMixpanel

PACKAGE = Path(mixpanel_visitor.__file__).parent
NEEDED = ("click", "itsdangerous", "orjson", "urllib3", "mixpanel", "werkzeug", "markupsafe")

TRACKING = """
import importlib.metadata, sys
from mixpanel_visitor import Tracker
tracker = Tracker(token="t", secret_key="a-key-of-some-length", api_host=sys.argv[1], spool=sys.argv[2])
tracker.track("u-1", "Paid")
print(tracker.flush(timeout_s=float(sys.argv[3])), tracker.stats()["sender"]["last_error"])
"""


@pytest.fixture(params=["vendored", "zipped", "damaged"])
def copy(request, tmp_path):
    """Copy the package without metadata; gives what the module search path is to be."""
    libraries = tmp_path / "libraries"
    libraries.mkdir()
    for name in NEEDED:
        try:
            found = Path(importlib.import_module(name).__file__).parent
        except ImportError:
            continue
        (libraries / name).symlink_to(found)
    source = tmp_path / "source"
    shutil.copytree(PACKAGE, source / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    if request.param == "zipped":
        source = Path(shutil.make_archive(str(tmp_path / "app"), "zip", source))
    if request.param == "damaged":
        (source / "mixpanel_visitor-0.1.0.dist-info").mkdir()
    return os.pathsep.join(map(str, (source, libraries)))


def run(path, *arguments):
    """Run Python with nothing but the standard library and this on its path; gives what it has said."""
    ended = subprocess.run(
        [sys.executable, "-S", "-X", "utf8", *arguments],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_events_are_delivered(copy, tmp_path):
    """What names the version must not be in the way."""
    with LocalMixpanel() as mixpanel:
        said = run(copy, "-c", TRACKING, mixpanel.url, str(tmp_path / "spool"), "20")
    assert said == "True"


def test_the_version_is_known(copy):
    """It stands in the package itself, and the commands say it."""
    assert run(copy, "-m", "mixpanel_visitor", "version") == release.VERSION
    assert run(copy, "-m", "mixpanel_visitor", "--version") == f"mixpanel-visitor {release.VERSION}"
