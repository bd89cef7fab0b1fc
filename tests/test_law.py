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
    ("delivery/sending/sender.py", "import urllib3", "urllib3"),
    ("tracking/event_builder.py", "import mixpanel", "mixpanel"),
    ("tracking/pipeline.py", "import redis", "redis"),
    ("tracking/pipeline.py", "import mixpanel", "mixpanel"),
    ("tracking/event_builder.py", "import flask", "flask"),
    ("tracking/event_builder.py", "import starlette", "starlette"),
    ("observability/counters.py", "import starlette", "starlette"),
    ("testing.py", "import flask", "flask"),
    ("tracking/logins.py", "import flask_login", "flask_login"),
    ("core/identity/identity.py", "import requests", "requests"),
    ("core/exchange.py", "import urllib3", "urllib3"),
    ("core/policy.py", "import threading", "threading"),
    ("core/request.py", "from mixpanel_visitor.delivery import spool", "mixpanel_visitor.delivery.spool"),
    ("delivery/memory.py", "from mixpanel_visitor.core import policy", "mixpanel_visitor.core.policy"),
    (
        "observability/counters.py",
        "from mixpanel_visitor.tracking import tracker",
        "mixpanel_visitor.tracking.tracker",
    ),
    (
        "process/fork.py",
        "from mixpanel_visitor.observability import counters",
        "mixpanel_visitor.observability.counters",
    ),
    ("fastapi.py", "import django", "django"),
    ("requests.py", "import aiohttp", "aiohttp"),
    ("tracking/visitor_exports.py", "import dramatiq", "dramatiq"),
    ("tracking/visitor_exports.py", "import taskiq", "taskiq"),
    ("dramatiq.py", "from mixpanel_visitor import taskiq", "mixpanel_visitor.taskiq"),
    ("tracking/job_visitors.py", "import celery", "celery"),
    ("tracking/job_visitors.py", "import rq", "rq"),
    (
        "settings/settings.py",
        "if TYPE_CHECKING:\n    from mixpanel_visitor.plan import Plan",
        "mixpanel_visitor.plan",
    ),
    ("tracking/visitor.py", "if TYPE_CHECKING:\n    from mixpanel import Mixpanel as Official", "mixpanel"),
]
"""Module, statement, and what that imports: a library outside its door, or a room upwards; some for types."""

CIRCLES = [
    ("core/policy.py", "from mixpanel_visitor.core.enrichment import bots"),
    ("core/site_rules.py", "if TYPE_CHECKING:\n    from .exchange import Exchange"),
]
"""Module and statement. Of a circle import-linter names one import, which may be another than the planted."""


def lint(directory):
    """Run import-linter on the package in a directory; return what it printed, in one line."""
    done = subprocess.run(
        [sys.executable, "-c", LINT],
        cwd=directory,
        env={"PYTHONPATH": str(directory), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert "Contracts:" in done.stdout, done.stdout + done.stderr
    return " ".join(done.stdout.split())


def plant(directory, module, statement):
    """Write a statement at the end of a module."""
    with (directory / PACKAGE.name / module).open("a", encoding="utf-8") as file:
        file.write(f"\n{statement}\n")


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """Return a function that makes a directory with a copy of the package and its law."""

    def copy():
        directory = tmp_path_factory.mktemp("house")
        shutil.copytree(PACKAGE, directory / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", directory)
        return directory

    return copy


@pytest.fixture(scope="module")
def refused(house):
    """Return what import-linter says of a copy with all of them planted: module and import of each."""
    directory = house()
    for module, statement, _ in PLANTED:
        plant(directory, module, statement)
    return lint(directory)


def test_the_package_as_it_is_keeps_the_law(house):
    """The copy is read as the package is: without a wrong import nothing is broken."""
    printed = lint(house())
    assert " BROKEN" not in printed
    assert " -> " not in printed


@pytest.mark.parametrize(("module", "statement", "imported"), PLANTED, ids=str)
def test_a_wrong_import_is_refused(refused, module, statement, imported):
    """Whichever module it stands in, without a list that has to name it."""
    importer = ".".join(Path(PACKAGE.name, module).with_suffix("").parts)
    assert f"- {importer} -> {imported} (l." in refused


@pytest.mark.parametrize(("module", "statement"), CIRCLES, ids=str)
def test_an_import_that_closes_a_circle_is_refused(house, module, statement):
    """On any floor, also if it is for types only."""
    directory = house()
    plant(directory, module, statement)
    assert "No circles, on any floor BROKEN" in lint(directory)
