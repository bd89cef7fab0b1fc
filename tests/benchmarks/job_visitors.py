"""What the visitor of a job costs: `python tests/benchmarks/job_visitors.py`.

`visitor.export()` against what Starlette's `SessionMiddleware` adds to a request to write its cookie,
`tracker.resume()` against what it adds to read one; and what our receivers of Celery's signals add to a task
without a visitor, from call to end. Prints the median of interleaved batches in microseconds, and the ratios;
exit code 1 where a goal is missed. Not collected by pytest, because timing never fails a test.
"""

from __future__ import annotations

import contextlib
import json
import statistics
import sys
from base64 import b64encode
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import itsdangerous
from celery import signals
from celery.app.task import Context
from starlette.middleware.sessions import SessionMiddleware

sys.path.insert(0, str(Path(__file__).parent.parent))

from support.facts import BROWSER_DOCUMENT, facts
from support.trackers import SECRET_KEY, known, recording_tracker

from mixpanel_visitor.celery import install
from mixpanel_visitor.tracking.tracker import engine_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

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

SIGNALS = (signals.before_task_publish, signals.task_prerun, signals.task_postrun)

tracker, _spool = recording_tracker()
engine = engine_of(tracker)
visitor = engine.begin(facts(BROWSER, path="/shoes/7", query="utm_source=ad&page=2"), in_background=False)[1]
exported = visitor.export()
session = {"user_id": "ann", "csrf_token": "b3d8a7f0c1e24d5f9a6b", "cart": [[17, 1], [4, 2]]}
signed = itsdangerous.TimestampSigner(SECRET_KEY).sign(b64encode(json.dumps(session).encode()))


class Task:
    """As much of a task as Celery's signals say."""

    request: Context


task = Task()


async def _plain(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


async def _reading(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["session"]["user_id"]
    await _plain(scope, receive, send)


async def _writing(scope: Scope, receive: Receive, send: Send) -> None:
    scope["session"].update(session)
    await _plain(scope, receive, send)


async def _receive() -> Any:
    raise AssertionError


async def _send(_message: object) -> None:
    pass


def request(app: ASGIApp, *, with_cookie: bool) -> Callable[[], None]:
    """Return what makes one request to an application, which never waits."""
    headers = [(b"cookie", b"session=" + signed)] if with_cookie else []

    def make() -> None:
        scope = {"type": "http", "method": "GET", "path": "/", "headers": headers}
        with contextlib.suppress(StopIteration):
            app(scope, _receive, _send).send(None)  # type: ignore[attr-defined]

    return make


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
    install(tracker)
    ours = [list(each.receivers) for each in SIGNALS]
    nothing = [[(each.receivers[0][0], lambda **_signal: None)] for each in SIGNALS]
    reading = SessionMiddleware(_reading, SECRET_KEY)
    writing = SessionMiddleware(_writing, SECRET_KEY)
    cases: dict[str, tuple[Callable[[], object], list[Any]]] = {
        "request": (request(_plain, with_cookie=False), ours),
        "session read": (request(reading, with_cookie=True), ours),
        "session written": (request(writing, with_cookie=False), ours),
        "export": (visitor.export, ours),
        "resume": (resume, ours),
        "task, no receivers": (run_task, [[] for _ in SIGNALS]),
        "task, empty receivers": (run_task, nothing),
        "task, ours": (run_task, ours),
    }
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(BATCHES):
        for name, (call, receivers) in cases.items():
            for each, those in zip(SIGNALS, receivers, strict=True):
                each.receivers[:] = those
            taken[name].append(batch_us(call))
    medians = {name: statistics.median(figures) for name, figures in taken.items()}
    for name, median in medians.items():
        print(f"{name:<22} {median:8.1f} us")
    print(f"an exported visitor has {len(exported)} characters")
    ratios = {
        "export, of a session written": medians["export"] / (medians["session written"] - medians["request"]),
        "resume, of a session read": medians["resume"] / (medians["session read"] - medians["request"]),
        "no visitor, of a resume": (medians["task, ours"] - medians["task, no receivers"])
        / medians["resume"],
    }
    for name, ratio in ratios.items():
        print(f"{name:<30} {ratio:.2f} (goal {GOALS[name]})")
    beyond = (medians["task, ours"] - medians["task, empty receivers"]) / medians["resume"]
    print(f"the same without what Celery takes to call three receivers: {beyond:.2f}")
    return int(any(ratios[name] > GOALS[name] for name in GOALS))


if __name__ == "__main__":
    sys.exit(main())
