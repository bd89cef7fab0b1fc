"""What real workers run: `celery -A support.job_tasks`, `rq worker --worker-class support.job_tasks.Worker`.

Configured by the environment; in their processes only, so that each has a tracker of its own.
"""

from __future__ import annotations

import os
import time
from typing import Any

import celery
import rq

from mixpanel_visitor import Tracker, current_visitor
from mixpanel_visitor.celery import install
from mixpanel_visitor.rq import VisitorWorker, VisitorWorkerMixin

WORK_S = 0.05
"""So long a job that counts goes on after its first event, so that it can be killed there.

A time, for there is no event to wait for: most jobs are not killed, and who kills does so from outside.
"""

tracker = Tracker.from_env()
app = celery.Celery("jobs", broker=os.environ["JOBS_BROKER"], backend=os.environ["JOBS_RESULTS"])
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": 3},
    task_acks_late=True,
    worker_prefetch_multiplier=16,
)
install(tracker)


class Worker(VisitorWorker):
    """One process for each job, forked."""

    tracker = tracker


class SpawnWorker(VisitorWorkerMixin, rq.worker.SpawnWorker):
    """One process for each job, started anew."""

    tracker = tracker


def charge() -> str | None:
    """Track an event. Return why it was not tracked; None: it was."""
    before = tracker.stats()["refused"]
    current_visitor.track("Invoice paid", amount=12)
    after = tracker.stats()["refused"]
    return next((reason for reason in after if after[reason] > before.get(reason, 0)), None)


def count(number: int, at_s: float, run_id: str) -> None:
    """Track an event that is the same when the job runs again, and one that is another each time."""
    current_visitor.track("Counted", n=number, time=at_s, **{"$insert_id": run_id})
    time.sleep(WORK_S)
    current_visitor.track("Ran", n=number)


def count_in_rq(number: int, at_s: float) -> None:
    """Count in a job of RQ's."""
    job = rq.get_current_job()
    assert job is not None
    count(number, at_s, job.id)


app.task(charge, name="charge")


@app.task(name="count", bind=True)
def count_in_celery(self: Any, number: int, at_s: float) -> None:
    """Count in a task of Celery's."""
    count(number, at_s, self.request.id)
