"""The door for Dramatiq: an actor tracks for the visitor whose request has sent its message.

```python
broker = RedisBroker()
broker.add_middleware(VisitorMiddleware(tracker))
dramatiq.set_broker(broker)


@dramatiq.actor
def pay_invoice(amount):
    current_visitor.track("Invoice paid", amount=amount)
```

A message that is sent while there is a visitor has what `visitor.export()` returns as its option
`mixpanel_visitor`. It keeps it through delays and retries. What its actor sends, also by pipelines, groups
and callbacks, is its visitor's as well. For visitors who may not be tracked the option is empty, and what the
actor tracks is refused. A message that was sent without a visitor has no option, and its actor no current
visitor. Site and worker need the same token and secret key.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from .errors import MissingExtraError
from .tracking import context
from .tracking.context import current_visitor
from .tracking.job_visitors import JOB_KEY, JobVisitors, exported_visitor
from .tracking.visitor_exports import MAX_AGE_S

try:
    from dramatiq import Middleware
except ImportError as error:  # pragma: no cover
    raise MissingExtraError("dramatiq", "dramatiq") from error

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from dramatiq import Broker, Message, Worker
    from dramatiq.broker import MessageProxy
    from dramatiq.worker import ConsumerThread, WorkerThread

    from .tracking.tracker import Tracker

__all__ = ["OPTION", "VisitorMiddleware", "current_visitor"]

OPTION = JOB_KEY
"""The option of a message that says who its visitor is; one that you give yourself is kept."""


class VisitorMiddleware(Middleware):
    """Carry the visitor who is current where a message is sent to its actor, and make them current there.

    A worker puts it before all other middleware, wherever it was added: so those that send messages after an
    actor, as Pipelines and Callbacks do, send them for its visitor. Messages that are processed more than
    `max_age_s` after the request (7 days at most) track nothing.
    """

    def __init__(self, tracker: Tracker | Callable[[], Tracker], *, max_age_s: float = MAX_AGE_S) -> None:
        """Take a tracker, or a function that returns it when it is needed, as Django's `get_tracker`."""
        self._visitors = JobVisitors(tracker, max_age_s=max_age_s)
        self._here = _ThreadState()

    def before_enqueue(self, broker: Broker, message: Message[Any], delay: int | None) -> None:  # noqa: ARG002
        """Note the visitor in a message that is sent, unless there is one in it already."""
        if OPTION in message.options:
            return
        text = exported_visitor()
        if text is not None:
            message.options[OPTION] = text
            self._here.noted_in = message.options

    def after_enqueue(self, broker: Broker, message: Message[Any], delay: int | None) -> None:  # noqa: ARG002
        """Forget it again: an application may keep a message, and send it for the next visitor as well."""
        if self._here.noted_in is message.options:
            message.options.pop(OPTION, None)
        self._here.noted_in = None

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:  # noqa: ARG002
        """Make the message's visitor the current one; of a message that has none, nobody is."""
        block = self._visitors.of(message.options.get(OPTION))
        block.__enter__()
        self._here.entered.append((message, block))

    def after_process_message(
        self,
        broker: Broker,  # noqa: ARG002
        message: MessageProxy,
        *,
        result: Any = None,  # noqa: ARG002
        exception: BaseException | None = None,  # noqa: ARG002
    ) -> None:
        """Bring back who was current before, however the actor has ended."""
        self._leave(message)

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:  # noqa: ARG002
        """Bring back who was current before."""
        self._leave(message)

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:  # noqa: ARG002
        """Begin to deliver, and come before all other middleware."""
        # In a new list, for Dramatiq is going through the other one.
        broker.middleware = [self, *(each for each in broker.middleware if each is not self)]
        self._visitors.begin()

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:  # noqa: ARG002
        """Deliver what is left, when the last actor has ended."""
        self._visitors.end()

    def after_worker_thread_boot(self, broker: Broker, thread: WorkerThread) -> None:  # noqa: ARG002
        """Begin without a visitor: free-threaded Python gives a thread the context of who started it."""
        context.enter(None)

    def after_consumer_thread_boot(self, broker: Broker, thread: ConsumerThread) -> None:  # noqa: ARG002
        """Begin without a visitor: delayed messages are sent again from here."""
        context.enter(None)

    def _leave(self, message: MessageProxy) -> None:
        # Dramatiq comes here twice where an actor's time is over just as it ends, and also with messages that
        # another middleware has skipped before we have seen them.
        entered = self._here.entered
        if entered and entered[-1][0] is message:
            entered.pop()[1].__exit__(None, None, None)


class _ThreadState(threading.local):
    """What a thread has begun and not ended."""

    def __init__(self) -> None:
        self.noted_in: dict[str, Any] | None = None
        self.entered: list[tuple[MessageProxy, AbstractContextManager[object]]] = []
