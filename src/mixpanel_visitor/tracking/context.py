"""The current visitor: one ContextVar, and the only place that sets and resets it."""

from __future__ import annotations

import functools
import logging
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from mixpanel_visitor.errors import NoVisitorError
from mixpanel_visitor.observability.counters import Tally
from mixpanel_visitor.observability.rate_limited_log import RateLimitedLog, call_site

from . import forced_flags

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Token

    from .visitor import Visitor

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_current: ContextVar[Visitor | None] = ContextVar("mixpanel_visitor", default=None)
_log = RateLimitedLog()
_refused_calls = Tally()


enter = _current.set
"""Make a visitor the current one; return the token for `leave`. A function around it would cost as much."""


def leave(token: Token[Visitor | None]) -> None:
    """Bring back the visitor that was current before."""
    try:
        _current.reset(token)
    except ValueError:
        # An async generator or a server ends the request in another context than the one that began it.
        _current.set(None)


def get_current() -> Visitor | None:
    """Return the visitor of this request, or None."""
    visitor = _current.get()
    if visitor is None:
        for fallback in _fallbacks:
            visitor = fallback()
            if visitor is not None:
                break
    return visitor


_fallbacks: list[Callable[[], Visitor | None]] = []


def add_fallback(fallback: Callable[[], Visitor | None]) -> None:
    """Ask `fallback` where our variable has no visitor: Flask copies its own context into threads."""
    _fallbacks.append(fallback)


def keep_visitor(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Return a function that runs for the visitor who is current now, in whichever thread it is called.

    A thread of a pool has no visitor of its own: `pool.submit(keep_visitor(send), mail)`. Without a current
    visitor, the function runs without one in every thread. `asyncio.to_thread` and tasks do not need this.

    >>> from concurrent.futures import ThreadPoolExecutor
    >>> from mixpanel_visitor import Tracker, current_visitor, keep_visitor
    >>> def user():
    ...     return current_visitor.user_id
    >>> with ThreadPoolExecutor() as pool, Tracker(enabled=False).visitor("user-42"):
    ...     pool.submit(keep_visitor(user)).result()
    'user-42'
    """
    import inspect  # noqa: PLC0415  # late: its import takes longer than all other imports of this module

    visitor = get_current()
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def call_async(*args: Any, **kwargs: Any) -> Any:
            token = enter(visitor)
            try:
                return await function(*args, **kwargs)
            finally:
                leave(token)

        return cast("Callable[Parameters, Result]", call_async)

    @functools.wraps(function)
    def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        token = enter(visitor)
        try:
            return function(*args, **kwargs)
        finally:
            leave(token)

    return call


class CurrentVisitor:
    """The visitor of the request that is running here, as Flask's `current_user` is its user.

    Outside of a request it is falsy; reading an ID raises `NoVisitorError`; tracking is refused, logged and
    counted, never raised, because a helper that tracks may also run in a cron job.

    >>> from mixpanel_visitor import Tracker, current_visitor
    >>> bool(current_visitor)
    False
    >>> with Tracker(enabled=False).visitor("user-42"):
    ...     current_visitor.user_id
    'user-42'
    """

    __slots__ = ()

    def __bool__(self) -> bool:
        return get_current() is not None

    def __repr__(self) -> str:
        visitor = get_current()
        return "<no current visitor>" if visitor is None else repr(visitor)

    def __eq__(self, other: object) -> bool:
        return get_current() is other

    def __hash__(self) -> int:
        return hash(get_current())

    def __getattr__(self, name: str) -> Any:
        visitor = get_current()
        if visitor is not None:
            return getattr(visitor, name)
        if name in ("flag", "flags"):
            return _default_flag if name == "flag" else _no_flags
        if name.startswith(("people_", "group_")) or name in _TRACKING_METHODS:
            return _refuse(name)
        if name.startswith("__"):
            raise AttributeError(name)
        raise NoVisitorError(
            f"current_visitor.{name}: there is no request here, so there is no visitor. {_ADVICE}"
        )


def _default_flag(key: str, default: Any = False) -> Any:
    """Return what a test forces, else the default: outside of a request there is no visitor."""
    forced = forced_flags.active()
    return default if forced is None else forced.get(key, default)


def _no_flags() -> dict[str, Any]:
    return dict(forced_flags.active() or {})


_ADVICE = (
    "In a job, use `with tracker.resume(exported):` with what `visitor.export()` returned in the request, or "
    "the package's door to your job queue; where no request was, `with tracker.visitor('user-42'):`. In a "
    "thread of a pool, use keep_visitor: `pool.submit(keep_visitor(function), ...)`."
)
_TRACKING_METHODS = ("track", "identify", "alias", "reset", "register", "set_group", "opt_out", "opt_in")


def _refuse(name: str) -> Callable[..., None]:
    def refuse_call(*_args: object, **_kwargs: object) -> None:
        _refused_calls.add_one()
        site = call_site()
        _log(
            logging.WARNING,
            f"outside {site}",
            "current_visitor.%s(...) at %s was ignored: there is no request here. %s",
            name,
            site,
            _ADVICE,
        )

    return refuse_call


def refused_outside() -> int:
    """Count the calls that were refused because there was no request, in this process so far."""
    return _refused_calls.value


current_visitor: Visitor = CurrentVisitor()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
