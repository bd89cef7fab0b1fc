"""The defects of `tests/support/mutants/`, planted one by one: each has to turn the test of its row red."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from processes import TESTS, Result, say

if TYPE_CHECKING:
    from argparse import Namespace

ALL_S = 3600
"""A run that takes longer hangs."""

_COUNTED = re.compile(r"(\d+) (passed|failed|skipped)")


def run(_options: Namespace) -> Result:
    """Run them two at a time; a defect that nobody noticed is a failed test."""
    began_s = time.monotonic()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--numprocesses", "2"),
            *("-m", "mutants or not mutants", str(TESTS / "faults" / "test_mutants.py")),
        ],
        cwd=TESTS.parent,
        capture_output=True,
        text=True,
        timeout=ALL_S,
        check=False,
    )
    last = done.stdout.strip().rpartition("\n")[2]
    counts = {word: int(number) for number, word in _COUNTED.findall(last)}
    result = Result(
        "mutants",
        ("defects noticed", "not noticed", "not planted, for want of a server", "seconds"),
        [
            (
                *(counts.get(word, 0) for word in ("passed", "failed", "skipped")),
                round(time.monotonic() - began_s),
            )
        ],
    )
    if done.returncode != 0:
        say(done.stdout)
        result.missed.append(last)
    return result
