"""A feature flag, evaluated again and again in one request, beside the official library's own evaluation.

`python tests/benchmarks/flags.py`; exit code 1 where ours, after the first, costs more than a seventh. Not
collected by pytest.
"""

from __future__ import annotations

import statistics
import sys
import timeit
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from support.facts import facts
from support.flags import OfficialFlags, a_b_test, flag_tracker
from support.trackers import known

from mixpanel_visitor.tracking.tracker import engine_of

DEVICE = "6f1c2a3b-4d5e-4f60-8a7b-9c0d1e2f3a4b"
ROUNDS, CALLS = 31, 2_000
GOAL = 7


def microseconds(call: object, calls: int) -> float:
    """Return the median of several rounds."""
    rounds = timeit.repeat(call, number=calls, repeat=ROUNDS)  # type: ignore[arg-type]
    return statistics.median(rounds) / calls * 1e6


def main() -> None:
    """Measure both in turn, and compare."""
    flag = a_b_test("checkout")
    tracker = flag_tracker(flag)
    official = OfficialFlags([flag]).provider
    context = {"distinct_id": f"$device:{DEVICE}", "device_id": DEVICE}

    def begin() -> object:
        return engine_of(tracker).begin(facts(known(DEVICE)), in_background=False)[1]

    visitor = begin()
    theirs = microseconds(lambda: official.get_variant_value("checkout", False, context), CALLS)
    ours = microseconds(lambda: visitor.flag("checkout"), CALLS)
    begun = microseconds(begin, 200)
    first = microseconds(lambda: begin().flag("checkout"), 200) - begun
    tracker.close()
    ratio = ours / theirs
    print("| | us |\n|---|---|")
    print(f"| the official library, exposures into nothing | {theirs:.2f} |")
    print(f"| visitor.flag, the first of a request | {first:.2f} |")
    print(f"| visitor.flag, each further one | {ours:.2f} (1/{theirs / ours:.0f}) |")
    sys.exit(ratio > 1 / GOAL)


if __name__ == "__main__":
    main()
