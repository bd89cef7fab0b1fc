"""Encoding: properties to JSON, each event once.

Plain JSON values are written as they are; `values` converts all others. NaN and infinity,
which JSON does not have, become null.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from mixpanel_visitor.errors import InvalidEventError

from .values import EVENT, MAX_RECORD_BYTES, RECORD, Converter, Limits, ignore_stringified

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .values import OnStringified


def converted(
    properties: Mapping[Any, Any],
    on_stringified: OnStringified = ignore_stringified,
    *,
    limits: Limits = EVENT,
) -> dict[str, Any]:
    """Return properties as JSON values; raise `InvalidEventError` if Mixpanel would refuse them.

    `on_stringified` is called for each value that is converted to its text, because its type is unknown.
    """
    return Converter(limits, on_stringified).properties(properties)


def plain_value(value: Any, on_stringified: OnStringified = ignore_stringified, *, name: str) -> Any:
    """Return the value of the property of this name as a JSON value."""
    return converted({name: value}, on_stringified, limits=RECORD)[name]


def encode(record: Mapping[Any, Any], on_stringified: OnStringified = ignore_stringified) -> bytes:
    """Return any values in JSON; raise `InvalidEventError` for more than Mixpanel takes."""
    return written(converted(record, on_stringified, limits=RECORD), on_stringified)


def written(record: Mapping[str, Any], on_stringified: OnStringified = ignore_stringified) -> bytes:
    """Return an event or update of plain values in JSON."""
    try:
        body = orjson.dumps(record)
    except (TypeError, ValueError):
        exact_values = {
            # `on_stringified` gets the name of a property.
            name: Converter(RECORD, on_stringified, exact=True).properties(value)
            if isinstance(value, dict)
            else Converter(RECORD, on_stringified, exact=True).value(value)
            for name, value in record.items()
        }
        body = orjson.dumps(exact_values)
    return checked_size(body)


def encode_text(text: str) -> bytes:
    """Return one string in JSON."""
    return orjson.dumps(Converter(RECORD, exact=True).value(text))


def encode_part(properties: Mapping[Any, Any], on_stringified: OnStringified = ignore_stringified) -> bytes:
    """Return plain properties without the braces around them, to be joined with others by commas."""
    try:
        return orjson.dumps(properties)[1:-1]
    except (TypeError, ValueError):
        # Half a character, or an integer beyond 64 bits.
        return orjson.dumps(Converter(EVENT, on_stringified, exact=True).properties(properties))[1:-1]


class EncodedPart(NamedTuple):
    """Plain properties, and the same in JSON without the braces around them."""

    properties: Mapping[str, Any]
    names: tuple[str, ...]
    body: bytes


def encoded(properties: Mapping[str, Any]) -> EncodedPart:
    """Return plain properties as a part that is joined with others."""
    return EncodedPart(properties, tuple(properties), encode_part(properties))


def properties_of(parts: Iterable[EncodedPart]) -> dict[str, Any]:
    """Return the properties of parts; of those with the same name the last one counts."""
    return {name: value for part in parts for name, value in part.properties.items()}


def checked_size(body: bytes) -> bytes:
    """Return the body of a record; raise `InvalidEventError` if it is too large for Mixpanel."""
    if len(body) >= MAX_RECORD_BYTES:
        raise InvalidEventError(
            "too_large",
            f"it is {len(body):,} bytes of JSON and Mixpanel takes less than {MAX_RECORD_BYTES:,}; "
            "send fewer or shorter properties",
        )
    return body
