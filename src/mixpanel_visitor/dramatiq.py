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
"""The option of a message with its visitor; one that you set yourself is kept."""


class VisitorMiddleware(Middleware):
    """Carry the visitor who is current where a message is sent to its actor, and make them current there.

    A worker puts it before all other middleware, wherever it was added: so those that send messages after an
    actor, as Pipelines and Callbacks do, send them for its visitor. Messages that are processed more than
    `max_age_s` after the request (7 days at most) track nothing.
    """

    def __init__(self, tracker: Tracker | Callable[[], Tracker], *, max_age_s: float = MAX_AGE_S) -> None:
        """Take a tracker, or a function that returns it when it is needed, as Django's `get_tracker`."""
        self._visitors = JobVisitors(tracker, max_age_s=max_age_s)
        self._thread_state = _ThreadState()

    def before_enqueue(self, broker: Broker, message: Message[Any], delay: int | None) -> None:  # noqa: ARG002
        """Add the visitor to a message that is sent, unless it has one."""
        if OPTION in message.options:
            return
        text = exported_visitor()
        if text is not None:
            message.options[OPTION] = text
            self._thread_state.added_to = message.options

    def after_enqueue(self, broker: Broker, message: Message[Any], delay: int | None) -> None:  # noqa: ARG002
        """Remove the visitor again: an application may send the same message for the next visitor."""
        if self._thread_state.added_to is message.options:
            message.options.pop(OPTION, None)
        self._thread_state.added_to = None

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:  # noqa: ARG002
        """Make the message's visitor the current one; without one there is no current visitor."""
        block = self._visitors.of(message.options.get(OPTION))
        block.__enter__()
        self._thread_state.blocks.append((message, block))

    def after_process_message(
        self,
        broker: Broker,  # noqa: ARG002
        message: MessageProxy,
        *,
        result: Any = None,  # noqa: ARG002
        exception: BaseException | None = None,  # noqa: ARG002
    ) -> None:
        """Restore the visitor that was current before, also when the actor has failed."""
        self._leave(message)

    def after_skip_message(self, broker: Broker, message: MessageProxy) -> None:  # noqa: ARG002
        """Restore the visitor that was current before."""
        self._leave(message)

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:  # noqa: ARG002
        """Begin to deliver, and come before all other middleware."""
        # A new list, because Dramatiq is iterating over the other one.
        broker.middleware = [self, *(each for each in broker.middleware if each is not self)]
        self._visitors.begin()

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:  # noqa: ARG002
        """Deliver what is left, when the last actor has ended."""
        self._visitors.end()

    def after_worker_thread_boot(self, broker: Broker, thread: WorkerThread) -> None:  # noqa: ARG002
        """Begin without a visitor: in free-threaded Python a thread inherits the context of its starter."""
        context.enter(None)

    def after_consumer_thread_boot(self, broker: Broker, thread: ConsumerThread) -> None:  # noqa: ARG002
        """Begin without a visitor: delayed messages are sent again from here."""
        context.enter(None)

    def _leave(self, message: MessageProxy) -> None:
        # Dramatiq calls this twice if an actor's time limit is reached just as it ends, and also for messages
        # that another middleware has skipped, without `before_process_message`.
        blocks = self._thread_state.blocks
        if blocks and blocks[-1][0] is message:
            blocks.pop()[1].__exit__(None, None, None)


class _ThreadState(threading.local):
    """The messages that a thread is sending and processing."""

    def __init__(self) -> None:
        self.added_to: dict[str, Any] | None = None
        self.blocks: list[tuple[MessageProxy, AbstractContextManager[object]]] = []
