"""The door for taskiq: a task tracks for the visitor whose request has sent it.

```python
broker = RedisStreamBroker("redis://...")
broker.add_middlewares(VisitorMiddleware(tracker))


@broker.task
async def pay_invoice(amount: int) -> None:
    current_visitor.track("Invoice paid", amount=amount)
```

A task that is sent while there is a visitor has what `visitor.export()` returns as its label
`mixpanel_visitor`. It keeps it through retries, and what it sends is its visitor's as well. For visitors who
may not be tracked the label is empty, and what the task tracks is refused. A task that was sent without a
visitor has no label, and no current visitor. Site and worker need the same token and secret key.

A task that a request puts into a schedule passes through no middleware; give it the label yourself:
`pay_invoice.kicker().with_labels(mixpanel_visitor=current_visitor.export()).schedule_by_time(...)`.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from .errors import MissingExtraError
from .tracking.context import current_visitor
from .tracking.job_visitors import JOB_KEY, JobVisitors, exported_visitor
from .tracking.visitor_exports import MAX_AGE_S

try:
    from taskiq import TaskiqMiddleware
    from taskiq.exceptions import NoResultError
except ImportError as error:  # pragma: no cover
    raise MissingExtraError("taskiq", "taskiq") from error

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from taskiq import TaskiqMessage, TaskiqResult

    from .tracking.tracker import Tracker

__all__ = ["LABEL", "VisitorMiddleware", "current_visitor"]

LABEL = JOB_KEY
"""The label of a task with its visitor; one that you set yourself is kept."""

_open_blocks: ContextVar[tuple[tuple[str, AbstractContextManager[object]], ...]] = ContextVar(
    "taskiq tasks", default=()
)
"""The running tasks by ID, with their blocks; with a broker in memory tasks run inside of another."""


class VisitorMiddleware(TaskiqMiddleware):
    """Carry the visitor who is current where a task is sent to where it runs, and make them current there.

    When the broker starts, it puts this before all other middleware: so those that send tasks after a task
    send them for its visitor. Tasks that run more than `max_age_s` after the request (7 days at most) track
    nothing.
    """

    def __init__(self, tracker: Tracker | Callable[[], Tracker], *, max_age_s: float = MAX_AGE_S) -> None:
        """Take a tracker, or a function that returns it when it is needed, as Django's `get_tracker`."""
        super().__init__()
        self._visitors = JobVisitors(tracker, max_age_s=max_age_s)

    def startup(self) -> None:
        """Come before all other middleware; in a worker, begin to deliver."""
        # A new list, because the broker is iterating over the other one.
        self.broker.middlewares = [self, *(each for each in self.broker.middlewares if each is not self)]
        if self.broker.is_worker_process:
            self._visitors.begin()

    async def shutdown(self) -> None:
        """Deliver what is left, in a worker; an application does so at its own end."""
        if self.broker.is_worker_process:
            await asyncio.to_thread(self._visitors.end)

    def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:
        """Add the visitor to a task that is sent, unless it has one."""
        text = None if LABEL in message.labels else exported_visitor()
        if text is not None:
            message.labels[LABEL] = text
        return message

    def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        """Make the task's visitor the current one; without one there is no current visitor."""
        block = self._visitors.of(message.labels.get(LABEL))
        block.__enter__()
        _open_blocks.set((*_open_blocks.get(), (message.task_id, block)))
        return message

    def post_execute(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        """Restore the visitor that was current before, if the result is not saved, as in a retry."""
        if isinstance(result.error, NoResultError):
            _leave(message)

    def post_save(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:  # noqa: ARG002
        """Restore the visitor that was current before; other middleware sends the next task before this."""
        _leave(message)


def _leave(message: TaskiqMessage) -> None:
    open_blocks = list(_open_blocks.get())
    if message.task_id not in dict(open_blocks):
        return
    task_id = None
    while task_id != message.task_id:
        # The blocks above it were left open by an error of another middleware.
        task_id, block = open_blocks.pop()
        block.__exit__(None, None, None)
    _open_blocks.set(tuple(open_blocks))
