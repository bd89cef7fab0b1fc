"""The long set of fault tests as one command; see the README beside this directory."""

from __future__ import annotations

import argparse
import datetime as dt
import importlib
import os
import platform
import random
import sys
from pathlib import Path

from processes import say

README = Path(__file__).parent.parent / "README.md"
PARTS = (
    "kill", "outage", "drain", "network", "rows", "serverless", "jobs", "collector", "hostile", "mutants",
)  # fmt: skip


def record(part: str, text: str) -> None:
    """Put a part's result into its marked place of the README."""
    page = README.read_text()
    begin, end = f"<!-- {part} -->\n", f"<!-- /{part} -->"
    before, _, rest = page.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"{README} has no place for {part}")
    README.write_text(f"{before}{begin}{text}\n{end}{after}")


def machine() -> str:
    """Say when and where this is."""
    now = dt.datetime.now(dt.UTC)
    return f"{now:%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, {platform.system()} {platform.machine()}, "


def main() -> int:
    """Run the parts that were asked for; 1: a goal was missed."""
    parser = argparse.ArgumentParser(prog="scripts/faults", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--rounds", type=int, help="kill, collector: kills (300); rows: rounds (3)")
    parser.add_argument("--events", type=int, help="kill, drain: events (1,000,000)")
    parser.add_argument(
        "--requests",
        type=int,
        help="outage: requests to each application (3,000); serverless: requests (1,000); jobs: jobs (200)",
    )
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--record", action="store_true", help="write the result into the README")
    parser.add_argument("--note", default="", help="what else the record should say of the machine")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    say(f"seed {options.seed}")
    failed = False
    for part in options.parts or PARTS:
        result = importlib.import_module(part).run(options)
        failed = failed or bool(result.missed)
        note = f"; {options.note}" if options.note else ""
        text = f"{machine()}Python {platform.python_version()}{note}.\n\n{result.table()}"
        sys.stdout.write(f"\n## {part}\n\n{text}\n")
        sys.stdout.flush()
        if options.record:
            record(part, text)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
