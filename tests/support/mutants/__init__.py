"""Mutants: deliberate defects of the package, each with the test that must notice it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parent.parent.parent
PACKAGE = TESTS.parent / "src" / "mixpanel_visitor"

IN_A_MUTANT = "PLANTED_DEFECT"
"""Set in the environment of a test that is expected to fail: nobody reads its smallest example.

Not with the prefix of our settings: an unknown one is a mistake of which every tracker complains.
"""

_TEST_S = 45
"""Some defects are noticed by a test that does not end."""

_PLUGINS_OFF = ("cacheprovider", "faker", "randomly", "xdist", "sybil")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """`old`, which stands once in `file` (relative to the package), replaced by `new`.

    `defect` says in words what is broken; `rows` are those of the fault table that `test`, a node id below
    the directory of the tests, guards.
    """

    defect: str
    rows: tuple[int, ...]
    file: str
    old: str
    new: str
    test: str

    def __str__(self) -> str:
        return self.defect


def python_path(*directories: Path | str) -> str:
    """Return PYTHONPATH for a process that must see these directories, and the mutant that we are in."""
    return os.pathsep.join([*map(str, directories), *filter(None, [os.environ.get("PYTHONPATH", "")])])


def plant(mutant: Mutant, directory: Path) -> Path:
    """Copy the package into `directory` with the defect in it; give what PYTHONPATH must begin with."""
    copy = directory / "mutated"
    shutil.copytree(PACKAGE, copy / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    path = copy / PACKAGE.name / mutant.file
    text = path.read_text()
    assert text.count(mutant.old) == 1, f"{mutant.file} holds {text.count(mutant.old)} times {mutant.old!r}"
    path.write_text(text.replace(mutant.old, mutant.new))
    compile(path.read_text(), str(path), "exec")
    return copy


def run_test(test: str, package: Path, *, timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run one test against the package in this directory; pytest's exit code 1 says that it failed."""
    options = ["-x", "-q", "--no-header", f"--timeout={_TEST_S}"]
    for plugin in _PLUGINS_OFF:
        options += ["-p", f"no:{plugin}"]
    command = [sys.executable, "-m", "pytest", *options, str(TESTS / test)]
    process = subprocess.Popen(
        command,
        cwd=TESTS.parent,
        env={**os.environ, "PYTHONPATH": python_path(package), IN_A_MUTANT: "1", "PYTHONFAULTHANDLER": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            output, errors = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)  # Python tells where each thread is
            output, errors = process.communicate(timeout=timeout_s)
            raise AssertionError(f"no end after {timeout_s} s: {test}\n{output}{errors}") from None
    return subprocess.CompletedProcess(command, process.returncode, output, errors)
