"""Timestamps: a caller's `time` as Mixpanel takes it, integer milliseconds since 1970.

The size of a number decides whether it is in seconds or milliseconds; all numbers of Python and numpy are
accepted. A datetime without a zone is local time of this process, as for `datetime.timestamp()`, and is
reported to the caller. A `numpy.datetime64` has no zone and is in UTC, as numpy's own "now" is.
"""

from __future__ import annotations

import datetime as dt
import operator
from decimal import Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from mixpanel_visitor.errors import InvalidEventError
from mixpanel_visitor.quoting import quoted, type_name

if TYPE_CHECKING:
    from collections.abc import Callable

EARLIEST_MS = 31_536_000_000
"""Mixpanel takes times from 1971 on."""

AHEAD_MS = 3_600_000
"""And up to an hour ahead of its clock (reference: import-events)."""

FAR_MS = 4_102_444_800_000
"""The year 2100: a later time is in another unit, even if the clock is wrong."""

_SECONDS_BELOW = 100_000_000_000  # as milliseconds this is 1973; as seconds it is the year 5138
_INT64_LIMIT = 2**63
_HINTS = ((1e14, 1e17, "microseconds", "1000"), (1e17, 1e20, "nanoseconds", "1_000_000"))


def time_ms(
    value: Any,
    *,
    now_ms: int,
    latest_ms: int | None = None,
    on_naive: Callable[[], object] = lambda: None,
) -> int:
    """Return a caller's `time` in milliseconds; None and pandas' NaT are now.

    Raise `InvalidEventError` for what is no time, and for one that Mixpanel does not take; `latest_ms` is an
    hour from now by default. `on_naive` is called for a datetime without a zone.
    """
    if value is None:
        return now_ms
    try:
        milliseconds = _milliseconds(value, on_naive)
    except Exception:  # a zone, or a number's own conversion, is foreign code
        milliseconds = None
        if isinstance(value, dt.datetime):
            raise _bad(f"{_shown(value)} is no moment that this machine knows") from None
    if milliseconds is None:
        if _is_missing(value):
            return now_ms
        raise _bad(f"it must be seconds or milliseconds since 1970, or a datetime, not {_shown(value)}")
    if milliseconds < EARLIEST_MS:
        raise _bad(f"Mixpanel takes times after 1971, {_shown(value)} is not")
    if milliseconds > (now_ms + AHEAD_MS if latest_ms is None else latest_ms):
        raise _bad(
            f"{_shown(value)} is more than an hour ahead, which Mixpanel does not take{_hint(milliseconds)}"
        )
    return milliseconds


def _milliseconds(value: Any, on_naive: Callable[[], object]) -> int | None:
    number: Any
    if isinstance(value, dt.datetime):
        if _is_missing(value):
            return None
        if value.tzinfo is None:
            on_naive()
            return round(dt.datetime.timestamp(value) * 1000)
        return round(value.timestamp() * 1000)
    kind = type(value)
    if kind.__module__ == "numpy":
        if value.shape:
            return None  # a list of times
        if value.dtype.kind == "M":
            number = value.astype("M8[ms]").astype("int64").tolist()
            return None if number == -_INT64_LIMIT else int(number)  # NaT
        value = value.tolist()
    if isinstance(value, (float, Decimal, Fraction)):
        number = float(value)
    elif isinstance(value, bool) or not hasattr(type(value), "__index__"):
        return None
    else:
        number = operator.index(value)
    if not -_INT64_LIMIT < number < _INT64_LIMIT:
        return None
    milliseconds: int = round(number * 1000) if abs(number) < _SECONDS_BELOW else round(number)
    return milliseconds


def _is_missing(value: Any) -> bool:
    """Return whether this is pandas' or numpy's value for a missing time."""
    kind = type(value)
    if kind.__module__ == "numpy":
        return bool(not value.shape and value.dtype.kind == "M" and value.astype("int64") == -_INT64_LIMIT)
    return kind.__module__.startswith("pandas") and kind.__name__ in ("NaTType", "NAType")


def _hint(milliseconds: int) -> str:
    for low, high, unit, factor in _HINTS:
        if low <= milliseconds < high:
            return f"; if these are {unit}, divide by {factor}"
    return ""


def _shown(value: Any) -> str:
    if isinstance(value, dt.datetime):
        return dt.datetime.isoformat(value.replace(tzinfo=None))
    return quoted(value) if type(value) in (str, int, float, bool) else f"<{type_name(type(value))}>"


def _bad(reason: str) -> InvalidEventError:
    return InvalidEventError("bad_time", f"time: {reason}")
