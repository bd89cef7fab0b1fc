"""`mixpanel-visitor version` and the group of commands."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys

import pytest
from click.testing import CliRunner
from support.waiting import PATIENCE_S

from mixpanel_visitor.cli import COMMANDS, main

VERSION = importlib.metadata.version("mixpanel-visitor")


def test_version_prints_the_version():
    """One line, for people."""
    result = CliRunner().invoke(main, ["version"])
    assert (result.exit_code, result.output) == (0, f"{VERSION}\n")


def test_version_prints_json():
    """One object, for programs."""
    result = CliRunner().invoke(main, ["version", "--json"])
    assert json.loads(result.output) == {"version": VERSION}


def test_the_module_is_the_command():
    """`python -m mixpanel_visitor` does the same."""
    done = subprocess.run(
        [sys.executable, "-m", "mixpanel_visitor", "--version"],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    )
    assert done.stdout == f"mixpanel-visitor {VERSION}\n"


def test_help_lists_every_command_without_importing_any():
    """A command costs nothing until it is used."""
    script = (
        "import sys\n"
        "from mixpanel_visitor.cli import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "print([name for name in sys.modules if name.startswith('mixpanel_visitor.cli.')])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=PATIENCE_S
    )
    listed, _, imported = done.stdout.rstrip().rpartition("\n")
    assert all(f"\n  {name} " in listed for name in COMMANDS)
    assert imported == "[]"


def test_version_imports_no_other_command():
    """It answers at once."""
    script = (
        "import sys\n"
        "from mixpanel_visitor.cli import main\n"
        "main(['version'], standalone_mode=False)\n"
        "print(*sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=PATIENCE_S
    )
    modules = set(done.stdout.splitlines()[-1].split())
    heavy = {"mixpanel_visitor.cli.dev", "mixpanel_visitor.emulator", "mixpanel", "urllib3", "http.server"}
    assert modules & heavy == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name):
    """It is there, it can be imported, and it explains itself."""
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: main {name}")


@pytest.mark.parametrize("arguments", [["nothing"], ["version", "--loud"], ["dev", "--port", "x"]])
def test_a_usage_error_is_2(arguments):
    """And says what is wrong."""
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "Error: " in result.output
