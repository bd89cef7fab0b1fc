"""What a class says of its properties, and what an instance of it holds: three libraries, one answer."""

import datetime as dt
import decimal
import enum
import sys
import typing
import uuid
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

import msgspec
import pydantic
import pytest

from mixpanel_visitor.plan.annotations import object_schema, type_schema
from mixpanel_visitor.plan.models import docstring, is_model, values_of


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Address:
    city: str
    zip: str | None = None


class Money(typing.TypedDict):
    amount: float
    currency: typing.NotRequired[str]


@dataclass
class Node:
    below: "Node | None" = None


Cents = typing.NewType("Cents", int)


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (str, {"type": "string"}),
        (bool, {"type": "boolean"}),
        (int, {"type": "integer"}),
        (float, {"type": "number"}),
        (decimal.Decimal, {"type": "number"}),
        (dt.timedelta, {"type": "number"}),
        (uuid.UUID, {"type": "string"}),
        (dt.datetime, {"type": "string", "format": "date-time"}),
        (dt.date, {"type": "string", "format": "date"}),
        (None, {"type": "null"}),
        (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (typing.Optional[int], {"anyOf": [{"type": "integer"}, {"type": "null"}]}),  # noqa: UP045
        (Any | int, {}),
        (object, {}),
        (list[str], {"type": "array", "items": {"type": "string"}}),
        (set[int], {"type": "array", "items": {"type": "integer"}}),
        (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
        (tuple[int, str], {"type": "array"}),
        (list, {"type": "array"}),
        (typing.Sequence[str], {"type": "array", "items": {"type": "string"}}),
        (typing.Iterable[str], {"type": "array", "items": {"type": "string"}}),
        (typing.Mapping[str, int], {"type": "object"}),
        (dict[str, int], {"type": "object"}),
        (ValueError, {}),
        (list[Any], {"type": "array"}),
        (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
        (Literal[1, "b"], {"enum": [1, "b"]}),
        (
            Literal["a", None],  # noqa: PYI061  # people write it
            {"anyOf": [{"type": "string", "enum": ["a"]}, {"type": "null"}]},
        ),
        (Color, {"type": "string", "enum": ["red", "blue"]}),
        (Literal[Color.RED], {"type": "string", "enum": ["red"]}),
        (Cents, {"type": "integer"}),
        (Annotated[int, "How many"], {"type": "integer", "description": "How many"}),
        (
            Money,
            {
                "type": "object",
                "properties": {"amount": {"type": "number"}, "currency": {"type": "string"}},
                "required": ["amount"],
            },
        ),
    ],
)
def test_a_type_is_what_it_is_once_it_has_been_encoded(annotation, schema):
    """As JSON Schema says it; an empty one takes anything."""
    assert type_schema(annotation) == schema


def test_a_class_that_holds_itself_ends_where_mixpanel_does():
    """It takes three levels."""
    schema = object_schema(Node)
    for _ in range(3):
        schema = schema["properties"]["below"]["anyOf"][0]
    assert schema["properties"]["below"]["anyOf"][0] == {"type": "object"}


@dataclass
class AsDataclass:
    """Somebody has paid."""

    amount: decimal.Decimal
    how: Annotated[Literal["card", "cash"], "How it was paid"]
    paid_on: dt.date = field(metadata={"name": "Paid on", "description": "The day"})
    address: Address | None = None
    coupons: list[str] = field(default_factory=list)


class AsPydantic(pydantic.BaseModel):
    """Somebody has paid."""

    amount: decimal.Decimal
    how: Literal["card", "cash"] = pydantic.Field(description="How it was paid")
    paid_on: dt.date = pydantic.Field(serialization_alias="Paid on", description="The day")
    address: Address | None = None
    coupons: list[str] = []


class AsStruct(msgspec.Struct, rename={"paid_on": "Paid on"}, kw_only=True):
    """Somebody has paid."""

    amount: decimal.Decimal
    how: Annotated[Literal["card", "cash"], msgspec.Meta(description="How it was paid")]
    paid_on: Annotated[dt.date, msgspec.Meta(description="The day")]
    address: Address | None = None
    coupons: list[str] = []


KINDS = pytest.mark.parametrize("cls", [AsDataclass, AsPydantic, AsStruct])


@KINDS
def test_dataclass_pydantic_and_msgspec_say_the_same(cls):
    """Names, types, what has to be given, and what people read of it."""
    assert is_model(cls)
    assert docstring(cls) == "Somebody has paid."
    assert object_schema(cls) == {
        "type": "object",
        "properties": {
            "amount": {"type": "number"},
            "how": {"type": "string", "enum": ["card", "cash"], "description": "How it was paid"},
            "Paid on": {"type": "string", "format": "date", "description": "The day"},
            "address": {
                "anyOf": [
                    {
                        "type": "object",
                        "properties": {
                            "city": {"type": "string"},
                            "zip": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                        },
                        "required": ["city"],
                    },
                    {"type": "null"},
                ]
            },
            "coupons": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["amount", "how", "Paid on"],
    }


@KINDS
def test_an_instance_gives_its_properties(cls):
    """Under the names that they are sent with, a Decimal still a number; what is None is left out."""
    day = dt.date(2026, 11, 25)
    values = values_of(cls(amount=decimal.Decimal("9.50"), how="card", paid_on=day))
    assert values == {"amount": decimal.Decimal("9.50"), "how": "card", "Paid on": day, "coupons": []}


@KINDS
def test_what_is_nested_is_read_too(cls):
    """Whichever library it is of."""
    day = dt.date(2026, 11, 25)
    values = values_of(cls(amount=1, how="card", paid_on=day, address=Address("Oslo")))
    assert values["address"]["city"] == "Oslo"


def test_a_model_in_a_dataclass_is_read():
    """The encoder would not know it."""

    class Inner(pydantic.BaseModel):
        city: str

    class Cell(msgspec.Struct, rename="camel"):
        cell_no: int

    @dataclass
    class Outer:
        inner: Inner
        cells: list[Cell]

    outer = Outer(Inner(city="Oslo"), [Cell(1)])
    assert values_of(outer) == {"inner": {"city": "Oslo"}, "cells": [{"cellNo": 1}]}


def test_types_of_pydantics_own_are_what_pydantic_makes_of_them():
    """In the schema and in the values."""

    class Visited(pydantic.BaseModel):
        url: pydantic.HttpUrl
        prices: list[decimal.Decimal] = []

        @pydantic.computed_field
        @property
        def is_long(self) -> bool:
            return len(str(self.url)) > 20

    properties = object_schema(Visited)["properties"]
    assert properties["url"]["type"] == "string"
    assert properties["is_long"] == {"type": "boolean"}
    values = values_of(Visited(url="http://example.com/", prices=["1.50"]))
    assert values == {"url": "http://example.com/", "prices": [decimal.Decimal("1.5")], "is_long": False}


def test_a_pydantic_model_that_refers_to_itself_has_an_end():
    """References are followed as deep as Mixpanel nests."""

    class Thing(pydantic.BaseModel):
        url: pydantic.HttpUrl
        parts: "list[Thing]" = []

    properties = object_schema(Thing)["properties"]
    assert properties["url"]["type"] == "string"
    assert properties["parts"]["items"]["properties"]["url"]["type"] == "string"


def test_the_tag_of_a_struct_is_a_property():
    """It is sent, so it is planned."""

    class Tagged(msgspec.Struct, tag="tagged", tag_field="kind"):
        size: int

    assert object_schema(Tagged)["properties"]["kind"]["enum"] == ["tagged"]
    assert values_of(Tagged(1)) == {"kind": "tagged", "size": 1}


def test_a_made_up_docstring_is_none():
    """A dataclass without one shows its signature."""
    assert docstring(Node) == ""


def test_what_pydantic_cannot_describe_takes_anything():
    """Such as a class of the application's own."""

    class Opaque:
        pass

    class Seen(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
        what: Opaque
        where: str

    assert object_schema(Seen)["properties"] == {"what": {}, "where": {"type": "string"}}


def test_a_pydantic_model_may_be_completed_later():
    """Its types are read when they are needed; until then it is a mistake that is told."""

    class Seen(pydantic.BaseModel):
        what: "Later"

    with pytest.raises(Exception, match="Later"):
        object_schema(Seen)
    Later = int  # noqa: N806  # what model_rebuild looks for
    Seen.model_rebuild()
    assert object_schema(Seen)["properties"] == {"what": {"type": "integer"}}


def test_models_within_a_dict_are_read():
    """By their values."""

    @dataclass
    class Outer:
        by_name: dict[str, Address]

    assert values_of(Outer({"home": Address("Oslo")})) == {"by_name": {"home": {"city": "Oslo"}}}


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the statement is new in Python 3.12")
def test_a_type_statement_is_followed():
    """As if what it names stood there."""
    names = {}
    exec("type Size = int | None", names)  # a syntax error to older Pythons
    assert type_schema(names["Size"]) == type_schema(int | None)


@dataclass
class BoughtDataclass:
    coupon: str | None
    price: typing.Optional[float]  # noqa: UP045
    whatever: Any
    note: str | None = None


class BoughtPydantic(pydantic.BaseModel):
    coupon: str | None
    price: float | None
    whatever: Any
    note: str | None = None


class BoughtStruct(msgspec.Struct):
    coupon: str | None
    price: float | None
    whatever: Any
    note: str | None = None


BOUGHT = pytest.mark.parametrize("cls", [BoughtDataclass, BoughtPydantic, BoughtStruct])


@BOUGHT
def test_null_is_a_value_where_a_field_has_to_be_given(cls):
    """Absent and null are two things; what may be left out and is None is left out."""
    bought = cls(coupon=None, price=None, whatever=None)
    assert values_of(bought) == {"coupon": None, "price": None, "whatever": None}


@BOUGHT
def test_null_is_a_value_within_a_value_too(cls):
    """At any depth, whichever library the class is of."""

    @dataclass
    class Order:
        first: cls
        lines: list[cls]

    bought = cls(coupon=None, price=2.5, whatever=None)
    values = values_of(Order(bought, [bought]))
    for inner in (values["first"], *values["lines"]):
        assert (inner["coupon"], inner["price"], inner["whatever"]) == (None, 2.5, None)


def test_an_instance_that_holds_itself_is_read():
    """It is the encoder that cuts it."""
    node = Node()
    node.below = node
    assert values_of(node) == {"below": node}


def test_a_struct_may_hold_what_its_library_does_not_know():
    """The encoder knows more."""

    class Placed(msgspec.Struct):
        where: Any

    assert values_of(Placed(PurePosixPath("/a"))) == {"where": "/a"}
