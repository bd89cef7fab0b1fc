"""Event callbacks: the application's callables that see each event, `extra_properties` and `before_send`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mixpanel_visitor.errors import InvalidEventError
from mixpanel_visitor.quoting import one_line, type_name

if TYPE_CHECKING:
    from collections.abc import Callable


class DroppedError(Exception):
    """`before_send` returned None."""


def last_word(before_send: Callable[[dict[str, Any]], Any], event: dict[str, Any]) -> Mapping[str, Any]:
    """Return the event as `before_send` returns it; raise `DroppedError`, or `InvalidEventError`.

    `before_send` may remove personal data, so no event is sent without it.
    """
    try:
        returned = before_send(event)
    except Exception as error:
        raise InvalidEventError(
            "before_send_failed", f"before_send raised {type_name(type(error))}: {one_line(str(error))}"
        ) from error
    if returned is None:
        raise DroppedError
    if not isinstance(returned, Mapping):
        raise InvalidEventError(
            "before_send_failed",
            f"before_send returned {type_name(type(returned))}; return the event, a dict, or None to drop it",
        )
    return returned


def with_facts(extra: Any) -> Any:
    """Return a callable that takes the request facts, of one that may take nothing."""
    if not callable(extra):
        return extra
    try:
        inspect.signature(extra).bind(None)
    except TypeError:
        return lambda _facts: extra()
    except ValueError:
        return extra  # a builtin without a signature
    return extra
