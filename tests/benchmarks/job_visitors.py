"""What the visitor of a job costs: `python tests/benchmarks/job_visitors.py`.

`visitor.export()` against what Starlette's `SessionMiddleware` does to write its cookie, `tracker.resume()`
against what it does to read one; and what our receivers of Celery's signals add to a task without a visitor,
from call to end. Prints the median of interleaved batches in microseconds, and the ratios; exit code 1 where
a goal is missed. Not collected by pytest, because timing never fails a test.
"""

from __future__ import annotations

import json
import statistics
import sys
from base64 import b64decode, b64encode
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import itsdangerous
from celery import signals
from celery.app.task import Context

sys.path.insert(0, str(Path(__file__).parent.parent))

from support.facts import BROWSER_DOCUMENT, facts
from support.trackers import SECRET_KEY, known, recording_tracker

from mixpanel_visitor.celery import install
from mixpanel_visitor.tracking.tracker import engine_of

if TYPE_CHECKING:
    from collections.abc import Callable

BATCHES, CALLS = 80, 200
GOALS = {
    "export, of a session written": 1.5,
    "resume, of a session read": 1.5,
    "no visitor, of a resume": 0.1,
}
BROWSER = {
    **known(user_id="ann"),
    **BROWSER_DOCUMENT,
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142 Safari",
    "referer": "https://www.google.com/",
}

tracker, _spool = recording_tracker()
engine = engine_of(tracker)
visitor = engine.begin(facts(BROWSER, path="/shoes/7", query="utm_source=ad&page=2"), in_background=False)[1]
exported = visitor.export()
signer = itsdangerous.TimestampSigner(SECRET_KEY)
session = {"user_id": "ann", "csrf_token": "b3d8a7f0c1e24d5f9a6b", "cart": [[17, 1], [4, 2]]}
cookie = signer.sign(b64encode(json.dumps(session).encode())).decode()


class Task:
    """As much of a task as Celery's signals say."""

    request: Context


task = Task()


def write_session() -> None:
    """As Starlette 1.x has it."""
    signer.sign(b64encode(json.dumps(session).encode("utf-8"))).decode("utf-8")


def read_session() -> None:
    """As Starlette 1.x has it."""
    json.loads(b64decode(signer.unsign(cookie.encode("utf-8"), max_age=14 * 86_400)))


def resume() -> None:
    """As the doors do: with the block."""
    with tracker.resume(exported):
        pass


def run_task() -> None:
    """Send the signals of a task that is called, and runs, where nobody is current."""
    headers: dict[str, Any] = {"lang": "py", "task": "charge", "id": "7"}
    signals.before_task_publish.send(
        sender="charge", body=(), exchange="", routing_key="jobs", headers=headers
    )
    task.request = Context(headers)
    signals.task_prerun.send(sender=task, task_id="7", task=task, args=(), kwargs={})
    signals.task_postrun.send(
        sender=task, task_id="7", task=task, args=(), kwargs={}, retval=None, state="SUCCESS"
    )


def batch_us(call: Callable[[], object]) -> float:
    """Return the microseconds for each call of a batch."""
    begin_s = perf_counter()
    for _ in range(CALLS):
        call()
    return (perf_counter() - begin_s) / CALLS * 1e6


def main() -> int:
    """Measure and print."""
    cases: dict[str, Callable[[], object]] = {
        "session written": write_session,
        "export": visitor.export,
        "session read": read_session,
        "resume": resume,
        "task, not installed": run_task,
    }
    taken: dict[str, list[float]] = {name: [] for name in (*cases, "task, installed")}
    receivers = [signals.before_task_publish, signals.task_prerun, signals.task_postrun]
    install(tracker)
    installed = [list(each.receivers) for each in receivers]
    for _ in range(BATCHES):
        for each in receivers:
            each.receivers[:] = []
        for name, call in cases.items():
            taken[name].append(batch_us(call))
        for each, ours in zip(receivers, installed, strict=True):
            each.receivers[:] = ours
        taken["task, installed"].append(batch_us(run_task))
    medians = {name: statistics.median(figures) for name, figures in taken.items()}
    for name, median in medians.items():
        print(f"{name:<20} {median:8.1f} us")
    print(f"an exported visitor has {len(exported)} characters")
    added = medians["task, installed"] - medians["task, not installed"]
    ratios = {
        "export, of a session written": medians["export"] / medians["session written"],
        "resume, of a session read": medians["resume"] / medians["session read"],
        "no visitor, of a resume": added / medians["resume"],
    }
    for name, ratio in ratios.items():
        print(f"{name:<30} {ratio:.2f} (goal {GOALS[name]})")
    return int(any(ratios[name] > GOALS[name] for name in GOALS))


if __name__ == "__main__":
    sys.exit(main())
