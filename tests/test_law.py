"""The law of imports: each of these, planted into a copy of the package, is refused by import-linter."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.waiting import PATIENCE_S

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "mixpanel_visitor"

LINT = "from importlinter.cli import lint_imports_command as run; run(['--no-cache'])"

PLANTED = [
    ("delivery/sending/sender.py", "import urllib3"),
    ("tracking/event_builder.py", "import mixpanel"),
    ("tracking/pipeline.py", "import redis"),
    ("tracking/pipeline.py", "import mixpanel"),
    ("tracking/event_builder.py", "import flask"),
    ("tracking/event_builder.py", "import starlette"),
    ("observability/counters.py", "import starlette"),
    ("testing.py", "import flask"),
    ("tracking/logins.py", "import flask_login"),
    ("core/identity/identity.py", "import requests"),
    ("core/exchange.py", "import urllib3"),
    ("core/policy.py", "import threading"),
    ("core/request.py", "from mixpanel_visitor.delivery import spool"),
    ("delivery/memory.py", "from mixpanel_visitor.core import policy"),
    ("observability/counters.py", "from mixpanel_visitor.tracking import tracker"),
    ("process/fork.py", "from mixpanel_visitor.observability import counters"),
    ("core/policy.py", "from mixpanel_visitor.core.enrichment import bots"),
    ("fastapi.py", "import django"),
    ("requests.py", "import aiohttp"),
    ("tracking/visitor_exports.py", "import dramatiq"),
    ("tracking/visitor_exports.py", "import taskiq"),
    ("dramatiq.py", "from mixpanel_visitor import taskiq"),
    ("tracking/job_visitors.py", "import celery"),
    ("tracking/job_visitors.py", "import rq"),
    ("settings/settings.py", "if TYPE_CHECKING:\n    from mixpanel_visitor.plan import Plan"),
    ("core/site_rules.py", "if TYPE_CHECKING:\n    from .exchange import Exchange"),
    ("tracking/visitor.py", "if TYPE_CHECKING:\n    from mixpanel import Mixpanel as Official"),
]
"""Where it is planted, and what: a library outside its door, an import upwards, a circle; some for types."""


def verdict(directory):
    """Run import-linter on the package in a directory; return the names of the contracts that it broke."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            LINT,
        ],
        cwd=directory,
        env={"PYTHONPATH": str(directory), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert "Contracts:" in done.stdout, done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if " BROKEN" in line]


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """Return a directory with a copy of the package and its law."""
    directory = tmp_path_factory.mktemp("house")
    shutil.copytree(PACKAGE, directory / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", directory)
    return directory


def test_the_package_as_it_is_keeps_the_law(house):
    """The copy is read as the package is: without a wrong import nothing is broken."""
    assert verdict(house) == []


@pytest.mark.parametrize(("module", "statement"), PLANTED, ids=str)
def test_a_wrong_import_is_refused(house, module, statement):
    """Whichever module it stands in, without a list that has to name it."""
    path = house / PACKAGE.name / module
    text = path.read_text("utf-8")
    path.write_text(f"{text}\n{statement}\n", "utf-8")
    try:
        assert verdict(house) != []
    finally:
        path.write_text(text, "utf-8")
