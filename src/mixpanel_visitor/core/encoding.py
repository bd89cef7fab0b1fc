"""Encoding: Python values to the JSON that Mixpanel understands, each event once and for good.

Decimal, UUID, Enum, dates, dataclasses, sets, bytes and numpy values are encoded sensibly; NaN and infinity,
which JSON does not have, become null. A datetime with a zone becomes UTC, because Mixpanel reads dates
without one as UTC ("Property data types").
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import orjson

from mixpanel_visitor.errors import InvalidEventError

MAX_RECORD_BYTES = 1_000_000
"""Mixpanel takes events and updates under 1 MB (reference: import-events)."""

_USUAL_OPTIONS = (
    orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS
)
_DATE_TIME = "%Y-%m-%dT%H:%M:%S"
_OPTIONS = _USUAL_OPTIONS | orjson.OPT_NON_STR_KEYS  # which takes half as long again
_MAX_INT = 2**63 - 1
_JSON_TYPES: tuple[Any, ...] = (str, int, float, dict, list, tuple)
_MAX_DEPTH = 50


def encode(record: Mapping[str, Any]) -> bytes:
    """Encode one event or update; raises `InvalidEventError` where that cannot be done."""
    try:
        body = orjson.dumps(record, default=_plain, option=_USUAL_OPTIONS)
    except (TypeError, ValueError, RecursionError):
        body = _encode_repaired(record)
    return checked_size(body)


def encode_text(text: str) -> bytes:
    """Encode one string."""
    try:
        return orjson.dumps(text, option=_USUAL_OPTIONS, default=_plain)
    except (TypeError, ValueError):
        return orjson.dumps(_repaired(str(text), 0))


def encode_part(properties: Mapping[str, Any]) -> bytes:
    """Encode properties without the braces around them, to be joined with others by commas."""
    try:
        return orjson.dumps(properties, default=_plain, option=_USUAL_OPTIONS)[1:-1]
    except (TypeError, ValueError, RecursionError):
        return _encode_repaired(properties)[1:-1]


def checked_size(body: bytes) -> bytes:
    """Give the body of a record that Mixpanel will not find too large."""
    if len(body) >= MAX_RECORD_BYTES:
        raise InvalidEventError(
            "too_large",
            f"it is {len(body):,} bytes of JSON and Mixpanel takes less than {MAX_RECORD_BYTES:,}; "
            "send fewer or shorter properties",
        )
    return body


def _encode_repaired(record: Mapping[str, Any]) -> bytes:
    try:
        with contextlib.suppress(TypeError, ValueError, RecursionError):
            return orjson.dumps(record, default=_plain, option=_OPTIONS)
        return orjson.dumps(_repaired(record, 0), default=_plain, option=_OPTIONS)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidEventError(
            "not_serialisable",
            f"it cannot be written as JSON ({error}); pass strings, numbers, booleans, dates, lists",
        ) from error


def _plain(value: Any) -> Any:
    """Give JSON's nearest to a value that orjson leaves to us; raises TypeError where there is none."""
    if isinstance(value, dt.datetime):
        if value.tzinfo is not None:
            value = value.astimezone(dt.UTC)
        return value.strftime(_DATE_TIME)
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return int(value) if value.is_finite() and value == value.to_integral_value() else float(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=str)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).decode("utf-8", "replace")
    for base in _JSON_TYPES:
        if isinstance(value, base):
            return base(value)
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "tolist"):  # numpy values and arrays that orjson does not take, pandas
        return value.tolist()
    raise TypeError(f"a value of type {type(value).__name__} has no JSON form")


def _repaired(value: Any, depth: int) -> Any:
    """Replace what orjson refuses outright: lone surrogates and integers beyond 64 bits."""
    if depth > _MAX_DEPTH:
        raise TypeError("it is nested too deeply, or holds itself")
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return int(value) if -_MAX_INT <= value <= _MAX_INT else str(int(value))
    if isinstance(value, dict):
        return {
            _repaired(key, depth + 1) if isinstance(key, (str, int)) else key: _repaired(item, depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_repaired(item, depth + 1) for item in value]
    if isinstance(value, (set, frozenset, Decimal)):
        return _repaired(_plain(value), depth + 1)
    return value
