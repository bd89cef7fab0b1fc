"""The door for RQ: a job tracks for the visitor of the request that has enqueued it.

```python
queue = Queue(connection=redis, job_class=VisitorJob)


class Worker(VisitorWorker):  # rq worker --worker-class worker.Worker
    tracker = tracker


def charge(order):
    ...
    current_visitor.track("Invoice paid", amount=12)
```

Each job carries the exported visitor in its `meta`, also when it is tried again or waits for another. A
visitor who may not be tracked is exported as the empty text. Without a current visitor `meta` has no entry,
and the job has no visitor. With `is_async=False` it has its caller's.

RQ ends the process of each job by `os._exit`. The worker itself delivers what its jobs store, if the spool is
one that processes share, as the default is.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

from .errors import MissingExtraError
from .tracking.context import current_visitor
from .tracking.job_visitors import JOB_KEY, JobVisitors, exported_visitor
from .tracking.tracker import Tracker
from .tracking.visitor_exports import MAX_AGE_S

try:
    from rq import Worker
    from rq.job import Job
except ImportError as error:  # pragma: no cover
    raise MissingExtraError("rq", "rq") from error

__all__ = ["VisitorJob", "VisitorWorker", "VisitorWorkerMixin", "current_visitor"]


class VisitorJob(Job):
    """A job with the visitor for whom it was enqueued: `Queue(..., job_class=VisitorJob)`."""

    @classmethod
    def create(cls, *args: Any, **kwargs: Any) -> Self:
        """Make a job, as RQ's own class does, with the current visitor in its `meta`."""
        job: Self = super().create(*args, **kwargs)  # type: ignore[assignment]  # RQ 2 says Job
        text = exported_visitor()
        if text is not None:
            job.meta = {JOB_KEY: text, **job.meta}
        return job


class VisitorWorkerMixin:
    """Makes a class of workers run each job for its visitor; it comes before RQ's own class.

    `class Worker(VisitorWorkerMixin, SpawnWorker)`: processes that RQ spawns import the class, and so get
    the tracker.
    """

    tracker: ClassVar[Tracker | None] = None
    """The tracker of the jobs; None: one is made from the environment."""

    max_age_s: ClassVar[float] = MAX_AGE_S
    """How long after the request a job still has its visitor, in seconds; 7 days at most."""

    _job_visitors: JobVisitors | None = None

    def work(self, *args: Any, **kwargs: Any) -> bool:
        """Work, and deliver meanwhile; wrong settings raise here."""
        visitors = self._visitors()
        visitors.begin()
        try:
            return bool(super().work(*args, **kwargs))  # type: ignore[misc]
        finally:
            visitors.end()

    def perform_job(self, *args: Any, **kwargs: Any) -> bool:
        """Perform a job for its visitor; RQ calls this."""
        job: Job = args[0] if args else kwargs["job"]
        visitors = self._visitors()
        try:
            with visitors.of(job.meta.get(JOB_KEY)):
                return bool(super().perform_job(*args, **kwargs))  # type: ignore[misc]
        finally:
            if super().is_horse:  # type: ignore[misc]  # RQ ends this process by os._exit
                visitors.end()

    def _visitors(self) -> JobVisitors:
        if self._job_visitors is None:
            tracker = self.tracker
            self._job_visitors = JobVisitors(
                Tracker.from_env() if tracker is None else tracker, max_age_s=self.max_age_s
            )
        return self._job_visitors


class VisitorWorker(VisitorWorkerMixin, Worker):
    """RQ's usual worker, which runs each job for its visitor: `rq worker --worker-class ...`."""
