"""JobVisitors: what the doors to job queues have in common."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from mixpanel_visitor.process.exit_hooks import EXIT_TIMEOUT_S

from . import context
from .tracker import Tracker, engine_of
from .visitor_exports import MAX_AGE_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from contextvars import Token

    from .visitor import Visitor

JOB_KEY = "mixpanel_visitor"
"""The name under which a message or a job has the text of its visitor."""

_NO_BLOCK = nullcontext()


def exported_visitor() -> str | None:
    """Return the current visitor as text, for a job that is enqueued now; None: there is no visitor."""
    visitor = context.get_current()
    return None if visitor is None else visitor.export()


class JobVisitors:
    """The visitors of the jobs of one tracker. Methods raise for mistakes in the settings only."""

    def __init__(self, tracker: Tracker | Callable[[], Tracker], *, max_age_s: float = MAX_AGE_S) -> None:
        """Take a tracker, or a function that returns it and is called when it is needed."""
        if not (isinstance(tracker, Tracker) or callable(tracker)):
            raise TypeError(f"it takes a mixpanel_visitor.Tracker, or a function for one, not {tracker!r}")
        self._tracker = tracker
        self._max_age_s = max_age_s

    @property
    def tracker(self) -> Tracker:
        """The tracker; a function for it is called each time."""
        return self._tracker if isinstance(self._tracker, Tracker) else self._tracker()

    def of(self, text: object) -> AbstractContextManager[object]:
        """Return a block for a job, in which its visitor is the current one.

        `text` is the exported visitor of the job; None: it has none, and the block no current visitor.
        """
        if text is not None:
            return engine_of(self.tracker).resume(text, max_age_s=self._max_age_s)
        return _NO_BLOCK if context.get_current() is None else _NoVisitor()

    def begin(self) -> None:
        """Begin to deliver, where a worker process starts: it may be the only one that uses its spool."""
        engine = engine_of(self.tracker)
        try:
            engine.start()
        except Exception:
            engine.failed("the worker's start")

    def end(self) -> None:
        """Deliver, where a worker process ends; the rest stays in the spool for the next process."""
        engine = engine_of(self.tracker)
        try:
            engine.drain(EXIT_TIMEOUT_S)
        except Exception:
            engine.failed("the worker's end")


class _NoVisitor:
    """A block without a current visitor, also inside of a visitor's block."""

    __slots__ = ("_token",)

    _token: Token[Visitor | None]

    def __enter__(self) -> None:
        self._token = context.enter(None)

    def __exit__(self, *_error: object) -> None:
        context.leave(self._token)
