"""Rows 37 to 41 of the fault table again and again, each round in another order and with other chances."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from processes import TESTS, Result, say

if TYPE_CHECKING:
    from argparse import Namespace

ROWS = {
    "37, hostile Redis": ("faults/test_redis_hostile.py",),
    "38 and 40, descriptors and directories": ("delivery/test_places.py",),
    "39, threads refused": ("faults/test_processes.py",),
    "41, re-entry": ("process/test_reentry.py",),
}
ROUNDS = 3
ROUND_S = 900
"""A round that takes longer hangs."""

_PASSED = re.compile(r"(\d+) passed")


def run(options: Namespace) -> Result:
    """Run the tests of each row `--rounds` times (3), in the order that `--seed` draws."""
    chance = random.Random(options.seed)
    rounds = options.rounds or ROUNDS
    result = Result("rows", ("row", "rounds", "tests passed in each", "failed rounds", "seconds", "seed"), [])
    for row, files in ROWS.items():
        began_s, passed, failed = time.monotonic(), set(), 0
        for number in range(rounds):
            say(f"row {row}: round {number + 1} of {rounds}")
            seed = str(chance.randrange(2**32))
            done = subprocess.run(
                [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--randomly-seed={seed}"]
                + [str(TESTS / file) for file in files],
                cwd=TESTS.parent,
                capture_output=True,
                text=True,
                timeout=ROUND_S,
                check=False,
            )
            passed |= set(_PASSED.findall(done.stdout))
            if done.returncode != 0:
                failed += 1
                say(done.stdout)
                result.missed.append(f"row {row}, seed {seed}: {done.stdout.strip().rpartition(chr(10))[2]}")
        seconds = round(time.monotonic() - began_s)
        result.rows.append((row, rounds, ", ".join(sorted(passed)), failed, seconds, options.seed))
    return result
