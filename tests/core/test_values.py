"""Values: what becomes of each type."""

import collections
import dataclasses
import datetime as dt
import ipaddress
import uuid
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath
from types import MappingProxyType, SimpleNamespace
from typing import NamedTuple

import msgspec
import orjson
import pydantic
import pytest
from support.components import needs_module
from support.values import Colour, Hostile, Level, Nameless, Node, of_event

from mixpanel_visitor.core.events.encoding import converted, encode

EAST = dt.timezone(dt.timedelta(hours=2))


@dataclasses.dataclass
class Size:
    width: int = 1
    _hidden: int = 2


class Point(NamedTuple):
    x: int
    y: int


class Text(str):
    __slots__ = ()


class Scalar:
    """Like a numpy value."""

    def tolist(self):
        return 1.5


class Address(pydantic.BaseModel):
    town: str
    secret: str = pydantic.Field(default="hush", exclude=True)
    amount: Decimal = Decimal("1.5")


class Order(msgspec.Struct, rename="camel", tag="order"):
    order_id: int
    note: str | msgspec.UnsetType = msgspec.UNSET


def knot():
    """A list that holds itself."""
    itself = []
    itself.append(itself)
    return itself


def ring():
    """A dataclass that holds itself, at one remove."""
    one = Node()
    one.next = [one]
    return one


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Decimal("1.50"), 1.5),
        (Decimal(7), 7),
        (Decimal("NaN"), None),
        (Decimal("sNaN"), None),
        (Decimal("-Infinity"), None),
        (Decimal("1E+30"), 1e30),
        (Decimal("1E-400"), 0.0),
        (Decimal("0." + "3" * 100_000), 1 / 3),
        (Fraction(1, 4), 0.25),
        (Fraction(8, 2), 4),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Colour.RED, "red"),
        (Colour.THING, "THING"),
        (Level.HIGH, 3),
        (dt.date(2026, 1, 2), "2026-01-02"),
        (dt.time(1, 2), "01:02:00"),
        (dt.timedelta(seconds=90), 90.0),
        (dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=EAST), "2026-01-02T01:04:05"),
        (dt.datetime(2026, 1, 2, 3, 4, 5, 6), "2026-01-02T03:04:05"),  # noqa: DTZ001
        (dt.datetime.min.replace(tzinfo=EAST), "0001-01-01T00:00:00"),
        (dt.datetime.max.replace(tzinfo=dt.timezone(-dt.timedelta(hours=2))), "9999-12-31T23:59:59"),
        (Size(), {"width": 1}),
        (Point(1, 2), [1, 2]),
        ({3, 1}, [1, 3]),
        (frozenset("ba"), ["a", "b"]),
        (b"ab\xff", "ab�"),
        (bytearray(b"ab"), "ab"),
        (memoryview(b"ab"), "ab"),
        (float("nan"), None),
        (float("inf"), None),
        (Text("x"), "x"),
        (Scalar(), 1.5),
        (2**64 - 1, 2**64 - 1),
        (2**70, str(2**70)),
        (10**100, str(10**100)),
        ([2**70, "\ud800"], [str(2**70), "?"]),
        ("\ud800", "?"),
        ((1, 2), [1, 2]),
        (range(3), [0, 1, 2]),
        (collections.deque([1, 2]), [1, 2]),
        ({"b": 1, "a": 2}.keys(), ["b", "a"]),
        ({"b": 1, "a": 2}.values(), [1, 2]),
        ({"b": 1}.items(), [["b", 1]]),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (collections.UserString("abc"), "abc"),
        (MappingProxyType({"a": 1}), {"a": 1}),
        (SimpleNamespace(a=1), {"a": 1}),
        ({1: 2}, {"1": 2}),
        ({(1, 2): 3}, {"(1, 2)": 3}),
        ({None: 1, True: 2, 1.5: 3, Colour.RED: 4}, {"null": 1, "true": 2, "1.5": 3, "red": 4}),
        ({dt.date(2026, 1, 2): 1}, {"2026-01-02": 1}),
        (PurePosixPath("/a/b"), "/a/b"),
        (Path("a"), "a"),
        (ipaddress.ip_address("10.0.0.1"), "10.0.0.1"),
        (ipaddress.ip_network("10.0.0.0/8"), "10.0.0.0/8"),
        (1 + 2j, "(1+2j)"),
        (ValueError("too bad"), "too bad"),
        (TimeoutError(), "TimeoutError"),
        (Address(town="Oslo"), {"town": "Oslo", "amount": 1.5}),
        ([Address(town="Oslo")], [{"town": "Oslo", "amount": 1.5}]),
        (Order(order_id=7), {"type": "order", "orderId": 7}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_are_encoded_sensibly(value, expected):
    """What Python has and JSON lacks becomes its nearest, without a word."""
    assert of_event(value) == (expected, [])
    assert orjson.loads(encode({"x": value})) == {"x": expected}


@pytest.mark.parametrize(
    ("value", "expected", "kind"),
    [
        (Nameless(), ("nameless " * 100)[:255], Nameless),
        (Hostile(), "<Hostile>", Hostile),
        (Nameless, str(Nameless), type),
        (10**5000, "<int of 16,610 bits>", int),
        (10**300, str(10**300)[:255], int),
        (Decimal("1E+400"), "1E+400", Decimal),
        (Decimal("1E+200000"), "1E+200000", Decimal),
        (Fraction(10**5000, 3), "<Fraction>", Fraction),
        (knot(), ["[...]"], list),
        (ring(), {"next": ["[...]"]}, Node),
        ({"a": Hostile()}, {"a": "<Hostile>"}, Hostile),
        ([Nameless(), 1], [("nameless " * 100)[:255], 1], Nameless),
    ],
    ids=lambda value: type(value).__name__,
)
def test_anything_else_becomes_its_text(value, expected, kind):
    """The event is worth more than one value; who tracks is told of property and type."""
    assert of_event(value) == (expected, [("x", kind)])


def test_an_iterator_is_not_read():
    """What it gives it gives once, and to the application."""
    items = iter([1, 2])
    sent, told = of_event(items)
    assert sent == str(items)
    assert told == [("x", type(items))]
    assert list(items) == [1, 2]


def test_names_that_are_no_strings_become_them():
    """A Counter of status codes is a dict of properties."""
    told = []
    plain = converted({200: 5, Text("a"): 1}, lambda name, kind: told.append((name, kind)))
    assert plain == {"200": 5, "a": 1}
    assert told == [("200", int)]


@needs_module("numpy")
def test_numpy_values():
    """Scalars, arrays, dates and what Python has no type for."""
    import numpy as np

    for value, expected in (
        (np.float32(1.5), 1.5),
        (np.longdouble(1.5), 1.5),
        (np.bool_(True), True),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array(7), 7),
        (np.array([1.5, float("nan")]), [1.5, None]),
        (np.array(["a", None], dtype=object), ["a", None]),
        (np.datetime64("2026-01-02T03:04:05.123456789"), "2026-01-02T03:04:05"),
        (np.datetime64("NaT", "s"), None),
        (np.array(["2026-01-02", "NaT"], "M8[ns]"), ["2026-01-02T00:00:00", None]),
        (np.timedelta64(90, "s"), 90.0),
        (np.str_("a"), "a"),
        ([np.int64(1)], [1]),
        ({np.int64(1): 2}, {"1": 2}),
    ):
        assert of_event(value) == (expected, []), repr(value)
    assert of_event(np.complex128(1))[1] == []
    assert of_event(np.clongdouble(1))[1] == [("x", np.clongdouble)]


@needs_module("pandas")
def test_pandas_values():
    """What is missing is null, and a column is a list."""
    import pandas as pd

    for value, expected in (
        (pd.NaT, None),
        (pd.NA, None),
        ([pd.NaT, 1], [None, 1]),
        (pd.Timestamp("2026-01-02T03:04:05", tz="Asia/Tokyo"), "2026-01-01T18:04:05"),
        (pd.Timedelta(seconds=90), 90.0),
        (pd.Series([1, 2]), [1, 2]),
        (pd.Series(pd.to_datetime(["2026-01-02", None])), ["2026-01-02T00:00:00", None]),
        (pd.Index(["a"]), ["a"]),
        (pd.Categorical(["a", "b"]), ["a", "b"]),
        (pd.Interval(0, 1), "(0, 1]"),
        (pd.Period("2026-01"), "2026-01"),
    ):
        assert of_event(value) == (expected, []), repr(value)
    frame = pd.DataFrame({"a": [1]})
    assert of_event(frame) == (str(frame), [("x", pd.DataFrame)])


@needs_module("django")
def test_lazy_texts_of_django():
    """They are translated when they are shown, and that is now."""
    from django.utils.functional import lazystr

    assert of_event(lazystr("abc")) == ("abc", [])


@needs_module("attrs")
def test_attrs_classes():
    """Their fields, as a dataclass's."""
    import attrs

    @attrs.define
    class Box:
        width: int
        _hidden: int = 0

    assert of_event(Box(3)) == ({"width": 3}, [])
