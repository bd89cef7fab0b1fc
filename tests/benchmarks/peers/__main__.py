"""This package beside its peers: `python tests/benchmarks/peers [work] [calls] [delivery] [requests] ...`.

Makes an environment of its own, `.venv-peers`, with the peers' packages from PyPI and a wheel of this
checkout: everybody's bytecode is compiled. `work`: the same request with the same events in the same
application, delivered. Each runs in a process of its own against a server in another, all on this machine;
the order is shuffled anew in each round. Prints the median of the rounds, and the lowest and highest. Not
collected by pytest.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
PYTHON = ROOT / ".venv-peers" / "bin" / "python"
PARTS = ("work", "calls", "delivery", "requests", "imports")

FRAMEWORKS = ("starlette", "flask", "django")
TRACKERS = ("mixpanel_buffered", "posthog", "segment", "ours")
WORK_EVENTS = (1, 3, 10)
WORK_REQUESTS = 2_000

CALLS = [
    ("ours_in_requests", 3),
    ("mixpanel_noop", 1),
    ("posthog", 1),
    ("segment", 1),
    ("rudder", 1),
    ("amplitude", 1),
    ("snowplow", 1),
]
DELIVERIES = [
    ("ours_in_requests", 1),
    ("ours_in_requests", 10),
    ("ours_in_requests", 100),
    ("ours_with_isal", 1),
    ("ours_with_isal", 10),
    ("ours_with_isal", 100),
    ("ours", 1),
    ("mixpanel_buffered", 1),
    ("posthog", 1),
    ("segment", 1),
    ("rudder", 1),
    ("amplitude", 1),
    ("snowplow", 1),
]


def make_environment() -> None:
    """Install the peers and this checkout, once for each version of the list."""
    wanted = (HERE / "requirements.txt").read_text() + sys.version
    stamp = ROOT / ".venv-peers" / "stamp"
    pip = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if not (stamp.exists() and stamp.read_text() == wanted):
        print("Setting up .venv-peers ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", ROOT / ".venv-peers"], check=True)
        ours = f"{ROOT}[starlette,fastapi,flask,django,isal]"
        subprocess.run([*pip, "-r", HERE / "requirements.txt", ours], check=True)
        stamp.write_text(wanted)
    subprocess.run([*pip, "--force-reinstall", "--no-deps", ROOT], check=True)


@contextmanager
def server() -> Iterator[tuple[str, Callable[[], dict[str, int]]]]:
    """Run the counting server; gives its address, and what asks it for what has come since."""
    with subprocess.Popen(
        [PYTHON, HERE / "taking.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        url = f"http://127.0.0.1:{process.stdout.readline().strip()}"

        def figures() -> dict[str, int]:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            return dict(json.loads(process.stdout.readline()))

        yield url, figures
        process.stdin.close()


def one(what: str, name: str, count: int, in_request: int) -> dict[str, float]:
    """Measure one SDK once."""
    with server() as (url, figures), tempfile.TemporaryDirectory() as directory:
        found = subprocess.run(
            [PYTHON, HERE / "client.py", what, name, url, str(count), str(in_request)],
            check=True,
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "TMPDIR": directory},
        )
        came = figures()
    measured: dict[str, float] = json.loads(found.stdout)
    measured["wire_bytes"] = came["wire_bytes"] / max(1, came["events"])
    measured["lost"] = float(count - came["different"]) if what == "delivery" else 0.0
    return measured


def rounds(
    what: str, cases: list[tuple[str, int]], count: int, number: int
) -> dict[tuple[str, int], dict[str, list[float]]]:
    """Measure all, in a new order each time."""
    found: dict[tuple[str, int], dict[str, list[float]]] = {case: defaultdict(list) for case in cases}
    for _ in range(number):
        for case in random.sample(cases, len(cases)):
            for figure, value in one(what, case[0], count, case[1]).items():
                found[case][figure].append(value)
    return found


def shown(values: list[float], digits: int = 1) -> str:
    """Return the median, and the lowest and highest."""
    return f"{statistics.median(values):,.{digits}f} [{min(values):,.{digits}f}..{max(values):,.{digits}f}]"


def calls(number: int) -> None:
    """What a call costs its caller while the sender is at work."""
    print("\n## A call with eight properties, the sender running: microseconds\n")
    print("| | median | p99 | ours is, of the median |\n|---|---|---|---|")
    found = rounds("calls", CALLS, 30_000, number)
    ours = statistics.median(found[CALLS[0]]["median_us"])
    for (name, in_request), figures in found.items():
        ratio = ours / statistics.median(figures["median_us"])
        label = f"{name}, {in_request} a request" if in_request > 1 else name
        print(f"| {label} | {shown(figures['median_us'])} | {shown(figures['p99_us'])} | {ratio:.2f} |")


def delivery(number: int) -> None:
    """From the first call to the last acknowledgement."""
    print("\n## 50,000 events, from the first call to the last acknowledgement\n")
    print("| | events/s | processor us an event | bytes on the wire an event | not arrived |")
    print("|---|---|---|---|---|")
    for (name, in_request), figures in rounds("delivery", DELIVERIES, 50_000, number).items():
        label = f"{name}, {in_request} a request" if name.startswith("ours_") else name
        print(
            f"| {label} | {shown(figures['per_s'], 0)} | {shown(figures['cpu_us'])} | "
            f"{shown(figures['wire_bytes'], 0)} | {max(figures['lost']):.0f} |"
        )


def work(number: int, frameworks: Sequence[str] = FRAMEWORKS) -> None:
    """Do the same work in the same application, all in, and see that every event has arrived."""
    print("\n## A request, its events, storing and delivery: microseconds of processor time added\n")
    print("| | events | added | of what mixpanel's adds |\n|---|---|---|---|")
    for framework in frameworks:
        cases = [("alone", 0), ("session", 0), ("sentry", 0), ("ours", 0)]
        cases += [
            (who, n) for n in WORK_EVENTS for who in ("mixpanel_buffered", "posthog", "segment", "ours")
        ]
        added: dict[tuple[str, int], list[float]] = defaultdict(list)
        for _ in range(number):
            took = {case: worked(framework, *case) for case in random.sample(cases, len(cases))}
            for case, took_us in took.items():
                added[case].append(took_us - took["alone", 0])
        for (who, events), figures in sorted(added.items(), key=lambda item: (item[0][1], item[0][0])):
            against = added[("mixpanel_buffered", events) if events else ("session", 0)]
            ratio = statistics.median(figures) / statistics.median(against)
            print(f"| {framework}, {who} | {events} | {shown(figures)} | {ratio:.2f} |", flush=True)


def worked(framework: str, who: str, events: int) -> float:
    """Return the microseconds of a request; raise RuntimeError where an event is missing or came twice."""
    with server() as (url, figures), tempfile.TemporaryDirectory() as directory:
        arguments = [framework, who, url, str(WORK_REQUESTS), str(events)]
        done = subprocess.run(
            [PYTHON, HERE / "application.py", *arguments],
            check=True,
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "TMPDIR": directory},
        )
        came = figures()
    measured: dict[str, float] = json.loads(done.stdout)
    if not measured["tracked"] == came["events"] == came["different"]:
        raise RuntimeError(f"{arguments}: {measured['tracked']} were tracked, and came: {came}")
    return measured["cpu_us"]


def requests(_number: int) -> None:
    """What a middleware adds to a request, with PostHog's and Sentry's."""
    print("\n## What a middleware adds to a request\n", flush=True)
    subprocess.run([PYTHON, HERE.parent / "middlewares.py"], check=False)


def imports(number: int) -> None:
    """What an import adds to the start of a Python that has imported nothing."""
    print("\n## To import it, in milliseconds\n\n| | median |\n|---|---|")
    modules = {"nothing": "sys", "mixpanel": "mixpanel", "mixpanel_visitor": "mixpanel_visitor"}
    took: dict[str, list[float]] = defaultdict(list)
    timer = "import time; s = time.perf_counter(); import {}; print((time.perf_counter() - s) * 1e3)"
    for _ in range(5 * number):
        for name in random.sample(list(modules), len(modules)):
            run = subprocess.run(
                [PYTHON, "-c", timer.format(modules[name])], check=True, capture_output=True, text=True
            )
            took[name].append(float(run.stdout))
    for name in modules:
        print(f"| {name} | {shown(took[name])} |")
    ratio = statistics.median(took["mixpanel_visitor"]) / statistics.median(took["mixpanel"])
    print(f"| mixpanel_visitor, of mixpanel | {ratio:.2f} |")


def main() -> None:
    """Do what is asked for; all by default."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("parts", nargs="*", choices=[[], *PARTS], default=[])
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--framework", choices=FRAMEWORKS, action="append", help="work: only in this one")
    options = arguments.parse_args()
    make_environment()
    parts: dict[str, Callable[[int], Any]] = {
        "work": lambda rounds: work(rounds, options.framework or FRAMEWORKS),
        "calls": calls,
        "delivery": delivery,
        "requests": requests,
        "imports": imports,
    }
    for name in options.parts or PARTS:
        parts[name](options.rounds)


if __name__ == "__main__":
    main()
