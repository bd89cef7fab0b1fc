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

What a request puts into a schedule passes through no middleware, and says for whom it is:
`pay_invoice.kicker().with_labels(mixpanel_visitor=current_visitor.export()).schedule_by_time(...)`.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from .errors import MissingExtraError
from .tracking import context
from .tracking.context import current_visitor
from .tracking.tracker import Tracker, engine_of
from .tracking.visitor_exports import MAX_AGE_S

try:
    from taskiq import TaskiqMiddleware
    from taskiq.exceptions import NoResultError
except ImportError as error:  # pragma: no cover
    raise MissingExtraError("taskiq", "taskiq") from error

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Token

    from taskiq import TaskiqMessage, TaskiqResult

    from .tracking.visitor import Visitor

__all__ = ["LABEL", "VisitorMiddleware", "current_visitor"]

LABEL = "mixpanel_visitor"
"""The label of a task that says who its visitor is; one that you give yourself is kept."""

DRAIN_S = 3.0
"""So long a worker that ends waits for Mixpanel; what is not delivered then stays in the spool."""

_entered: ContextVar[tuple[tuple[str, Token[Visitor | None]], ...]] = ContextVar("taskiq tasks", default=())
"""The tasks that run here, by their IDs; with a broker in memory, one may run inside of another."""


class VisitorMiddleware(TaskiqMiddleware):
    """Give each task the visitor who is current where it is sent.

    When the broker starts, it puts this before all other middleware: so those that send tasks after a task
    send them for its visitor. Tasks that run more than `max_age_s` after the request (7 days at most) track
    nothing.
    """

    def __init__(self, tracker: Tracker | Callable[[], Tracker], *, max_age_s: float = MAX_AGE_S) -> None:
        """Take a tracker, or a function that returns it when it is needed, as Django's `get_tracker`."""
        super().__init__()
        if not (isinstance(tracker, Tracker) or callable(tracker)):
            raise TypeError(f"it takes a mixpanel_visitor.Tracker, or a function for one, not {tracker!r}")
        self._given = tracker
        self._max_age_s = max_age_s

    def startup(self) -> None:
        """Come before all other middleware; in a worker, begin to deliver."""
        # In a new list, for the broker is going through the other one.
        self.broker.middlewares = [self, *(each for each in self.broker.middlewares if each is not self)]
        if self.broker.is_worker_process:
            self._tracker.start()

    async def shutdown(self) -> None:
        """Deliver what is left, in a worker; an application does so at its own end."""
        if self.broker.is_worker_process:
            await asyncio.to_thread(engine_of(self._tracker).drain, DRAIN_S)

    def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:
        """Note the visitor in a task that is sent, unless there is one in it already."""
        visitor = context.get_current()
        if visitor is not None and LABEL not in message.labels:
            message.labels[LABEL] = visitor.export()
        return message

    def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        """Make the task's visitor the current one; of a task that has none, nobody is."""
        exported = message.labels.get(LABEL)
        visitor = None if exported is None else self._tracker.resume(exported, max_age_s=self._max_age_s)
        _entered.set((*_entered.get(), (message.task_id, context.enter(visitor))))
        return message

    def post_execute(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        """Bring back who was current before, if the result is not saved, as in a retry."""
        if isinstance(result.error, NoResultError):
            _leave(message)

    def post_save(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:  # noqa: ARG002
        """Bring back who was current before; only now, for others send the next task when this is saved."""
        _leave(message)

    @property
    def _tracker(self) -> Tracker:
        return self._given if isinstance(self._given, Tracker) else self._given()


def _leave(message: TaskiqMessage) -> None:
    entered = list(_entered.get())
    while entered:
        task_id, token = entered.pop()
        if task_id == message.task_id:
            # What is above it has been broken off by an error of another middleware, and goes with it.
            context.leave(token)
            _entered.set(tuple(entered))
            return
