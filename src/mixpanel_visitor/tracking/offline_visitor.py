"""OfflineVisitor: a visitor outside of a request, as jobs, scripts and tests have it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import context
from .visitor import Visitor

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Token
    from types import TracebackType
    from typing import Self

    from mixpanel_visitor.core.detached_exchange import DetachedExchange

    from .event_builder import EventBuilder


class OfflineVisitor(Visitor):
    """A visitor outside of a request: with `with`, its events are stored together at the block's end."""

    __slots__ = ("_end", "_exchange", "_tokens")

    def __init__(
        self,
        exchange: DetachedExchange,
        event_builder: EventBuilder,
        *,
        fresh_id: Callable[[], str],
        end: Callable[[DetachedExchange], None],
    ) -> None:
        super().__init__(exchange, event_builder, fresh_id=fresh_id)
        self._exchange = exchange
        self._end = end
        self._tokens: list[Token[Visitor | None]] = []

    def __enter__(self) -> Self:
        """Make this the current visitor until the end of the block."""
        self._exchange.begin_batch()
        self._tokens.append(context.enter(self))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        context.leave(self._tokens.pop())
        if not self._tokens:
            self._end(self._exchange)
