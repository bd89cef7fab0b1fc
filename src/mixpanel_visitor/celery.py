"""The door for Celery: a task tracks for the visitor of the request that has called it.

```python
install(tracker)  # where the Celery application is made: the site imports it, and the worker


@app.task
def charge(order):
    ...
    current_visitor.track("Invoice paid", amount=12)
```

Each message carries the exported visitor in the header `mixpanel_visitor`, through retries, chains, chords,
callbacks and tasks that call tasks. A visitor who may not be tracked is exported as the empty text. Without
one (beat, scripts) there is no header, and the task has no visitor. Eager tasks have their caller's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import MissingExtraError
from .tracking.context import current_visitor
from .tracking.job_visitors import JOB_KEY, JobVisitors, exported_visitor
from .tracking.visitor_exports import MAX_AGE_S

try:
    from celery import signals
except ImportError as error:  # pragma: no cover
    raise MissingExtraError("celery", "celery") from error

if TYPE_CHECKING:
    from collections.abc import Callable

    from .tracking.tracker import Tracker

__all__ = ["current_visitor", "install"]

_BLOCK = "_mixpanel_visitor_block"
_visitors: JobVisitors | None = None


def install(tracker: Tracker | Callable[[], Tracker], *, max_age_s: float = MAX_AGE_S) -> None:
    """Make the visitor for whom a task was called the current one in it; call this in sites and workers.

    `tracker` may be a function that returns it, such as `mixpanel_visitor.django.get_tracker`. A visitor
    counts for `max_age_s` from the request on, 7 days at most, however long the task waits. There is one
    tracker in a process: that of the last call.
    """
    global _visitors
    _visitors = JobVisitors(tracker, max_age_s=max_age_s)
    # Celery connects a receiver once, however often this is called.
    signals.before_task_publish.connect(_add_header, weak=False)
    signals.task_prerun.connect(_enter, weak=False)
    signals.task_postrun.connect(_leave, weak=False)
    signals.worker_ready.connect(_begin, weak=False)
    signals.worker_process_shutdown.connect(_end, weak=False)  # a child of the prefork pool, without atexit
    signals.worker_shutdown.connect(_end, weak=False)


def _add_header(headers: dict[str, Any], **_signal: Any) -> None:
    if JOB_KEY in headers:  # a retry: its visitor is that of the first try
        return
    text = exported_visitor()
    if text is not None:
        headers[JOB_KEY] = text


def _enter(task: Any, **_signal: Any) -> None:
    request = task.request
    if _visitors is None or request.is_eager:
        return
    text = request.get(JOB_KEY)
    if text is None and request.headers:  # message protocol 1 has them only there
        text = request.headers.get(JOB_KEY)
    block = _visitors.of(text)
    block.__enter__()
    setattr(request, _BLOCK, block)


def _leave(task: Any, **_signal: Any) -> None:
    block = vars(task.request).pop(_BLOCK, None)
    if block is not None:
        block.__exit__(None, None, None)


def _begin(**_signal: Any) -> None:
    if _visitors is not None:
        _visitors.begin()


def _end(**_signal: Any) -> None:
    if _visitors is not None:
        _visitors.end()
