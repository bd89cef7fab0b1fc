"""Two sites whose visitors cause jobs, and real workers that run them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import celery
import flask
import rq
from fastapi import FastAPI
from fastapi.testclient import TestClient

from mixpanel_visitor.celery import install
from mixpanel_visitor.fastapi import CurrentVisitor, VisitorMiddleware
from mixpanel_visitor.flask import MixpanelVisitor
from mixpanel_visitor.rq import VisitorJob
from mixpanel_visitor.tracking.context import current_visitor
from mixpanel_visitor.tracking.tracker import Tracker

from .mutants import python_path
from .trackers import SECRET_KEY, TOKEN
from .waiting import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis

    Enqueue = Callable[[], Callable[[], Any]]
    """Enqueues a job that charges the current visitor. Return what waits for its result."""

TESTS = Path(__file__).parents[1]
BROKER = "JOBS_BROKER"
RESULTS = "JOBS_RESULTS"
"""The addresses of broker and results in a worker's environment."""

_QUIET = ("--without-gossip", "--without-mingle", "--without-heartbeat")
_CELERY = ("celery", "-A", "support.job_tasks", "worker", "-c", "1", "-l", "WARNING", *_QUIET)
_RQ = ("rq.cli", "worker", "--url", "{redis}", "--logging_level", "WARNING", "jobs")

COMMANDS = {
    "celery-prefork": (*_CELERY, "-P", "prefork"),
    "celery-threads": (*_CELERY, "-P", "threads"),
    "celery-gevent": (*_CELERY, "-P", "gevent"),
    "celery-solo": (*_CELERY, "-P", "solo"),
    "rq": (*_RQ, "--worker-class", "support.job_tasks.Worker"),
    "rq-spawn": (*_RQ, "--worker-class", "support.job_tasks.SpawnWorker"),
}
"""What is run for each kind of worker, one job at a time."""


def celery_enqueues(broker: str, results: str) -> Enqueue:
    """Return what a site calls that has its jobs run by Celery; it has installed its tracker."""
    app = celery.Celery("sites", broker=broker, backend=results, set_as_current=False)

    def enqueue() -> Callable[[], Any]:
        result = app.send_task("charge")
        return lambda: result.get(timeout=PATIENCE_S, interval=0.02)

    return enqueue


def rq_enqueues(client: redis.Redis) -> Enqueue:
    """Return what a site calls that has its jobs run by RQ."""
    queue = rq.Queue("jobs", connection=client, job_class=VisitorJob)

    def enqueue() -> Callable[[], Any]:
        job = queue.enqueue("support.job_tasks.charge")
        return lambda: job.latest_result(timeout=int(PATIENCE_S)).return_value

    return enqueue


class Sites:
    """A Flask and a FastAPI site of one company; they store into `spool`, and others deliver."""

    def __init__(self, spool: Path, enqueue: Enqueue) -> None:
        self.tracker = Tracker(token=TOKEN, secret_key=SECRET_KEY, spool=str(spool), deliver=False)
        install(self.tracker)
        self.results: list[Callable[[], Any]] = []
        self._enqueue = enqueue
        flask_app, fastapi_app = self._flask(), self._fastapi()
        # Neither remembers a cookie: each request is that of another visitor.
        self._clients = {
            "flask": lambda: flask_app.test_client(use_cookies=False),
            "fastapi": lambda: TestClient(fastapi_app),
        }

    def post(self, site: str, path: str = "/pay?utm_source=mail", **headers: str) -> None:
        """Have a visitor with these headers pay at one of the two, or opt out."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        assert self._clients[site]().post(path, headers=named).status_code == 200

    def _pay(self) -> str:
        current_visitor.track("Ordered")
        self.results.append(self._enqueue())
        return "paid"

    def _flask(self) -> flask.Flask:
        app = flask.Flask("site")
        MixpanelVisitor(app, tracker=self.tracker)
        app.post("/pay")(self._pay)

        @app.post("/opt-out")
        def opt_out() -> str:
            current_visitor.opt_out()
            return "forgotten"

        return app

    def _fastapi(self) -> FastAPI:
        app = FastAPI()
        app.add_middleware(VisitorMiddleware, tracker=self.tracker)

        @app.post("/pay")
        async def pay(visitor: CurrentVisitor) -> str:
            assert visitor == current_visitor
            return self._pay()

        return app


class Worker:
    """A real worker and its processes, whose log is in `directory`."""

    def __init__(self, kind: str, directory: Path, **environment: str) -> None:
        self._log = (directory / "worker.log").open("ab")
        self.log_path = directory / "worker.log"
        self._process = subprocess.Popen(
            [sys.executable, "-m", *(part.format(redis=environment[RESULTS]) for part in COMMANDS[kind])],
            env={**os.environ, "PYTHONPATH": python_path(TESTS), **environment},
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def end(self) -> int:
        """Ask it to end, as a deployment does. Return its exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(PATIENCE_S)

    def kill(self) -> None:
        """Kill all its processes with SIGKILL: those of its session, for RQ's have groups of their own."""
        for pid in _session(self._process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(PATIENCE_S)
        self._log.close()


def _session(leader: int) -> list[int]:
    """Return the processes of a session, by proc(5)."""
    pids = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            _, _, fields = path.read_text().rpartition(")")
            if int(fields.split()[3]) == leader:
                pids.append(int(path.parent.name))
    return pids


@contextlib.contextmanager
def working(
    kind: str, directory: Path, *, broker: str, redis_url: str, mixpanel_url: str
) -> Iterator[Worker]:
    """Run a worker until the end of the block; its spool is in `directory`, as the sites' is."""
    worker = Worker(
        kind,
        directory,
        **{
            BROKER: broker,
            RESULTS: redis_url,
            "MIXPANEL_TOKEN": TOKEN,
            "MIXPANEL_API_HOST": mixpanel_url,
            "MIXPANEL_VISITOR_SECRET_KEY": SECRET_KEY,
            "MIXPANEL_VISITOR_SPOOL": str(directory / "spool"),
        },
    )
    try:
        yield worker
    finally:
        worker.kill()
