"""Value types: the conversion of a value of each type to JSON.

The types of the standard library, numpy, pandas, pydantic, msgspec, attrs and Django are known. None of these
libraries is imported: a type is recognised by its name or its attributes. A value of another type becomes its
text, which is reported to the caller.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import decimal
from collections import UserString
from collections.abc import Iterator, Mapping, MappingView, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum
from fractions import Fraction
from functools import lru_cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from mixpanel_visitor.quoting import type_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Protocol

    class Converter(Protocol):
        """Converts the parts of a value: `values.Converter`."""

        def value(self, value: Any, depth: int = 0) -> Any:
            """Return a value as a JSON value; `depth` is the number of lists and objects around it."""
            ...

        def items(self, owner: Any, items: Iterable[Any], depth: int) -> Any:
            """Return a list; `owner` is the value that holds the items."""
            ...

        def pairs(self, owner: Any, pairs: Iterable[tuple[Any, Any]], depth: int) -> Any:
            """Return an object; `owner` is the value that holds the pairs."""
            ...

        def expect_items(self, count: int) -> None:
            """Refuse a list with too many items, before it is read."""
            ...

        def expect_keys(self, count: int) -> None:
            """Refuse an object with too many keys, before it is read."""
            ...

        def spend(self, size: int) -> None:
            """Count bytes of JSON; refuse more than Mixpanel takes."""
            ...

        def text(self, value: Any) -> str:
            """Return the text of a value, cut as Mixpanel cuts it."""
            ...

        def stringified(self, text: str, kind: type) -> str:
            """Return the text in place of a value of this type, and report it."""
            ...

    Conversion = Callable[[Converter, Any, int], Any]

_DIGITS = decimal.Context(
    prec=40, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN, rounding=decimal.ROUND_HALF_EVEN, traps=[]
)
"""More digits than a number in JSON has; rounding to them bounds the time."""

_WHOLE_DIGITS = 18  # fit into 64 bits
_TYPES_KNOWN = 1_024


# --- lists and objects ----------------------------------------------------------------------------


def _list(convert: Converter, value: Any, depth: int) -> Any:
    convert.expect_items(_length(value))
    return convert.items(value, value, depth)


def _set(convert: Converter, value: Any, depth: int) -> Any:
    plain = _list(convert, value, depth)
    try:
        return sorted(plain, key=str)  # so that equal events are equal bytes
    except ValueError:
        return plain  # Python makes no text of an integer with very many digits


def _object(convert: Converter, value: Any, depth: int) -> Any:
    convert.expect_keys(_length(value))
    return convert.pairs(value, value.items(), depth)


def _array(convert: Converter, value: Any, depth: int) -> Any:
    """Convert a numpy array or scalar, or a type with the same methods."""
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple):
        size = 1
        for length in shape:
            convert.expect_items(length)
            size *= length
        convert.spend(size)
    else:
        convert.expect_items(_length(value))
    if type(value).__module__ == "numpy" and value.dtype.kind in "mM":
        value = value.astype(f"{value.dtype.kind}8[us]")
    plain = value.tolist() if hasattr(value, "tolist") else value.to_list()
    # For types that Python does not have, numpy returns its own.
    return float(plain) if type(plain) is type(value) else convert.value(plain, depth)


def _length(value: Any) -> int:
    return len(value) if hasattr(type(value), "__len__") else 0


# --- types with fields ----------------------------------------------------------------------------


def _fields(convert: Converter, value: Any, depth: int) -> Any:
    kind = type(value)
    fields = dataclasses.fields(value) if dataclasses.is_dataclass(kind) else kind.__attrs_attrs__
    names = [field.name for field in fields if not field.name.startswith("_")]
    return convert.pairs(value, ((name, getattr(value, name)) for name in names), depth)


def _struct(convert: Converter, value: Any, depth: int) -> Any:
    kind = type(value)
    fields = zip(kind.__struct_encode_fields__, kind.__struct_fields__, strict=True)
    pairs = [(name, getattr(value, field)) for name, field in fields]
    if kind.__struct_config__.tag is not None:
        pairs.insert(0, (kind.__struct_config__.tag_field, kind.__struct_config__.tag))
    set_pairs = (pair for pair in pairs if type(pair[1]).__name__ != "UnsetType")
    return convert.pairs(value, set_pairs, depth)


def _model(convert: Converter, value: Any, depth: int) -> Any:
    # The model itself excludes fields that must not be shown.
    return convert.value(value.model_dump(by_alias=True), depth)


def _namespace(convert: Converter, value: SimpleNamespace, depth: int) -> Any:
    return convert.pairs(value, list(vars(value).items()), depth)


# --- single values --------------------------------------------------------------------------------


def _enum(convert: Converter, value: Enum, depth: int) -> Any:
    # A value without a form in JSON has a name at least.
    inner: Any = value.value
    kind: Any = type(inner)
    return value.name if conversion_of(kind) is _unknown else convert.value(inner, depth)


def _decimal(convert: Converter, value: decimal.Decimal, _depth: int) -> Any:
    if not value.is_finite():
        return None
    if value.adjusted() < _WHOLE_DIGITS and value == value.to_integral_value():
        return int(value)
    rounded = _DIGITS.plus(value)
    as_float = float(rounded)
    return as_float if as_float - as_float == 0 else convert.stringified(str(rounded), decimal.Decimal)


def _fraction(_convert: Converter, value: Fraction, _depth: int) -> Any:
    return value.numerator if value.denominator == 1 else value.numerator / value.denominator


def _datetime(_convert: Converter, value: dt.datetime, _depth: int) -> Any:
    # Mixpanel reads dates without a zone as UTC ("Property data types").
    if value.tzinfo is not None:
        with contextlib.suppress(OverflowError):  # the first and last day of the calendar stay as they are
            value = value.astimezone(dt.UTC)
    return dt.datetime.isoformat(value.replace(tzinfo=None), timespec="seconds")


def _bytes(convert: Converter, value: Any, _depth: int) -> Any:
    convert.spend(value.nbytes if isinstance(value, memoryview) else len(value))
    return bytes(value).decode("utf-8", "replace")


def _text(convert: Converter, value: Any, _depth: int) -> Any:
    return convert.text(value)


def _error(convert: Converter, value: BaseException, _depth: int) -> Any:
    return convert.text(value) or type_name(type(value))


def _unknown(convert: Converter, value: Any, _depth: int) -> Any:
    return convert.stringified(convert.text(value), type(value))


def _null(_convert: Converter, _value: Any, _depth: int) -> Any:
    return None


_BY_NAME: dict[tuple[str, str], Conversion] = {
    ("uuid", "UUID"): _text,
    ("ipaddress", "_IPAddressBase"): _text,
    ("pandas", "NAType"): _null,
    ("pandas", "NaTType"): _null,
    ("pandas", "Interval"): _text,
    ("pandas", "Period"): _text,
    ("django", "__proxy__"): _text,  # is translated when its text is read
    ("flask_babel", "LazyString"): _text,
}
"""Types of other packages, by package and name."""

_BY_TYPE: tuple[tuple[type | tuple[type, ...], Conversion], ...] = (
    # The order matters: an enum may be a string or a number, a datetime is a date.
    (Enum, _enum),
    (str, lambda convert, value, _depth: convert.value(str.__str__(value))),
    (int, lambda convert, value, _depth: convert.value(int.__pos__(value))),
    (float, lambda _convert, value, _depth: float.__pos__(value)),
    (dt.datetime, _datetime),
    (dt.date, lambda _convert, value, _depth: dt.date.isoformat(value)),
    (dt.time, lambda _convert, value, _depth: dt.time.isoformat(value)),
    (dt.timedelta, lambda _convert, value, _depth: float(value.total_seconds())),
    (decimal.Decimal, _decimal),
    (Fraction, _fraction),
    ((bytes, bytearray, memoryview), _bytes),
    (Mapping, _object),
    (SimpleNamespace, _namespace),
    (BaseException, _error),
    ((complex, UserString), _text),
    # An iterator gives its items only once, to the application: it is not read.
    (Iterator, _unknown),
)


@lru_cache(_TYPES_KNOWN)
def conversion_of(kind: Any) -> Conversion:
    """Return the conversion of values of a type."""
    for base in kind.__mro__:
        conversion = _BY_NAME.get((base.__module__.partition(".")[0], base.__name__))
        if conversion is not None:
            return conversion
    for base, conversion in _BY_TYPE:
        if issubclass(kind, base):
            return conversion
    if hasattr(kind, "model_dump") and hasattr(kind, "model_fields"):
        return _model
    if hasattr(kind, "__struct_encode_fields__"):
        return _struct
    if hasattr(kind, "__dataclass_fields__") or hasattr(kind, "__attrs_attrs__"):
        return _fields
    if hasattr(kind, "tolist") or hasattr(kind, "to_list"):
        return _array
    if issubclass(kind, (Sequence, MappingView)):
        return _list
    if issubclass(kind, AbstractSet):
        return _set
    return _text if hasattr(kind, "__fspath__") else _unknown
