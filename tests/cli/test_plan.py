"""`mixpanel-visitor plan`: the plan and the sources are checked in CI, and the plan is exported."""

import itertools
import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner
from support.waiting import PATIENCE_S

from mixpanel_visitor.cli import main

PLAN = """
from dataclasses import dataclass
from mixpanel_visitor.plan import Plan

plan = Plan()
number = 3


class Shop:
    plan = plan


@plan.event("Signed up")
@dataclass
class SignedUp:
    seats: int = 1


@plan.event("Left")
@dataclass
class Left:
    pass
"""
_numbers = itertools.count()


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Make the directory a project with a plan in it; give the name of its module, a new one each time."""
    monkeypatch.chdir(tmp_path)
    name = f"planned_{os.getpid()}_{next(_numbers)}"
    (tmp_path / f"{name}.py").write_text(PLAN)
    yield name
    sys.modules.pop(name, None)


def run(*arguments):
    return CliRunner().invoke(main, ["plan", *arguments])


def test_a_sound_plan_passes(module):
    """Exit code 0, and what was looked at."""
    path = sys.path.copy()
    result = run("check", f"{module}:plan")
    assert (result.exit_code, result.output) == (0, "No problems; 2 events.\n")
    assert run("check", module).exit_code == run("check", f"{module}:Shop.plan").exit_code == 0
    assert sys.path == path


def test_sources_are_compared(module, tmp_path):
    """Each problem with file and line, as editors and CI know it."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src/views.py").write_text("v.track('Singed up')\nv.track('Signed up')\nv.track(name)\n")
    result = run("check", f"{module}:plan", "src")
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        "src/views.py:1: 'Singed up' is not in the plan; did you mean 'Signed up'?",
        "Tracked nowhere in these sources: Left",
        "Not checked, because the event's name is computed: 1 call",
        "1 problem; 2 events, 3 calls in 1 file.",
    ]


def test_the_check_prints_json(module, tmp_path):
    """For programs."""
    source = PLAN + "\nplan.event('left')(type(Left)('Again', (Left,), {}))\n"
    (tmp_path / f"{module}.py").write_text(source)
    (tmp_path / "views.py").write_text("v.track('Singed up')")
    result = run("check", f"{module}:plan", "views.py", "--json")
    assert result.exit_code == 1
    shown = json.loads(result.output)
    assert {name: shown[name] for name in ("events", "files", "calls", "computed")} == {
        "events": 3,
        "files": 1,
        "calls": 1,
        "computed": 0,
    }
    assert [(each["path"], each["line"]) for each in shown["problems"]] == [(None, None), ("views.py", 1)]
    assert "differ only by case" in shown["problems"][0]["problem"]
    assert shown["never_tracked"] == ["Signed up", "Left", "left"]


def test_the_plan_is_exported(module, tmp_path):
    """As the body of a request; to a file as well."""
    shown = json.loads(run("export", f"{module}:plan").output)
    assert [entry["name"] for entry in shown["entries"]] == ["Signed up", "Left"]
    assert run("export", f"{module}:plan", "-o", "plan.json", "--truncate").output == ""
    assert json.loads((tmp_path / "plan.json").read_text()) == {**shown, "truncate": True}


def test_a_file_that_cannot_be_written_is_a_failure(module):
    """With the reason."""
    result = run("export", f"{module}:plan", "-o", "nowhere/plan.json")
    assert result.exit_code == 1
    assert "nowhere/plan.json cannot be written: No such file" in result.output


def test_types_that_cannot_be_read_are_a_failure(module, tmp_path):
    """The check tells of them, the export does without itself."""
    (tmp_path / f"{module}.py").write_text(PLAN.replace("seats: int", "seats: 'Missing'"))
    for arguments in (["check"], ["export"]):
        result = run(*arguments, f"{module}:plan")
        assert result.exit_code == 1
        assert "cannot be read: name 'Missing' is not defined" in result.output


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("no_such_module:plan", "there is no module 'no_such_module' here"),
        ("{module}.below:plan", "there is no module"),
        ("{module}:plna", "has no 'plna'; did you mean 'plan'?"),
        ("{module}:x", "has no 'x'; it has plan"),
        ("{module}:number", "is no mixpanel_visitor.plan.Plan, but a int"),
        ("{module}:number.x", "has no 'x'"),
        ("", "'' is no module"),
        (".events:plan", "'.events' is no module"),
    ],
)
def test_a_plan_that_is_not_there_is_a_usage_error(module, where, told):
    """With what is there."""
    result = run("check", where.format(module=module))
    assert result.exit_code == 2
    assert told in " ".join(result.output.split())


def test_a_source_that_is_not_there_is_a_usage_error(module):
    """A typo in CI must not pass."""
    assert run("check", f"{module}:plan", "srcc").exit_code == 2


@pytest.mark.parametrize(
    ("line", "told"), [("1 / 0", "ZeroDivisionError"), ("import no_such_module", "No module named 'no_such")]
)
def test_a_module_that_cannot_be_imported_is_a_failure(module, tmp_path, line, told):
    """Not ours, but told."""
    (tmp_path / f"{module}.py").write_text(line)
    result = run("check", f"{module}:plan")
    assert result.exit_code == 1
    assert told in result.output


def test_the_command_finds_the_project_it_is_run_in(module, tmp_path):
    """As installed, from the project's directory."""
    done = subprocess.run(
        [sys.executable, "-m", "mixpanel_visitor", "plan", "check", module, "."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    assert "2 events" in done.stdout
