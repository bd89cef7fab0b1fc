"""Models: the fields of a dataclass, pydantic model, msgspec struct or TypedDict, and the values of one.

pydantic and msgspec are used only for their own classes, so they are installed then.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import typing
import uuid
from decimal import Decimal
from enum import Enum
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from mixpanel_visitor.core.events.encoding import plain_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

EVENT_NAME = "__mixpanel_event__"
"""Attribute of a declared class with the event's name, for tests that assert on its instances."""

PROPERTY_NAME = "name"
DESCRIPTION = "description"
"""Keys of a dataclass's `field(metadata={...})` for the name and description of a property."""

MAX_DEPTH = 3
MAX_ITEMS = 255
"""Mixpanel's limits within a property."""

_CLASSES_CACHED = 1024
_ENCODED_BY_US = (str, int, float, dt.datetime, dt.date, dt.timedelta, Decimal, Enum, uuid.UUID, bytes)


class Field(NamedTuple):
    """One field: its name as a property, its annotation, whether it is required, and its description.

    `schema` is the library's own, for annotations that only the library understands.
    """

    name: str
    annotation: Any
    required: bool
    description: str = ""
    schema: Mapping[str, Any] | None = None


def is_model(cls: Any) -> bool:
    """Return whether a class has fields: a dataclass, pydantic model, msgspec struct or TypedDict."""
    return isinstance(cls, type) and (
        dataclasses.is_dataclass(cls) or _is_pydantic(cls) or _is_struct(cls) or typing.is_typeddict(cls)
    )


def fields_of(cls: type) -> list[Field]:
    """Return the fields of a model; NameError where an annotation names what is not defined (yet)."""
    if _is_pydantic(cls):
        return list(_pydantic_fields(cls))
    if _is_struct(cls):
        return list(_struct_fields(cls))
    hints = typing.get_type_hints(cls, include_extras=True)
    if typing.is_typeddict(cls):
        required = vars(cls)["__required_keys__"]
        return [Field(name, annotation, name in required) for name, annotation in hints.items()]
    return [
        Field(
            str(field.metadata.get(PROPERTY_NAME, field.name)),
            hints.get(field.name, Any),
            _is_required(field),
            str(field.metadata.get(DESCRIPTION, "")),
        )
        for field in dataclasses.fields(cls)
    ]


def values_of(instance: Any) -> dict[str, Any]:
    """Return the properties of an instance. A field that is None is null if required, else left out.

    >>> @dataclasses.dataclass
    ... class SignedUp:
    ...     plan: str
    ...     coupon: str | None = None
    >>> values_of(SignedUp(plan="pro"))
    {'plan': 'pro'}
    """
    return _values(instance, ())


def _values(instance: Any, path: tuple[int, ...]) -> dict[str, Any]:
    cls: Any = type(instance)
    if _is_pydantic(cls):
        values = _merged(instance.model_dump(by_alias=True), instance.model_dump(by_alias=True, mode="json"))
    elif _is_struct(cls):
        import msgspec  # noqa: PLC0415  # a struct means that it is installed

        values = msgspec.to_builtins(
            instance,
            builtin_types=(dt.datetime, dt.date, dt.time, dt.timedelta, Decimal, uuid.UUID, bytes),
            enc_hook=partial(plain_value, name=cls.__name__),
        )
    else:
        inner = (*path, id(instance))
        values = {
            str(field.metadata.get(PROPERTY_NAME, field.name)): _nested(getattr(instance, field.name), inner)
            for field in dataclasses.fields(instance)
        }
    return {name: value for name, value in values.items() if value is not None or name in _required(cls)}


@lru_cache(_CLASSES_CACHED)
def _required(cls: Any) -> frozenset[str]:
    """Return the names of the required properties."""
    if _is_pydantic(cls):
        return frozenset(
            _property_name(name, info) for name, info in cls.model_fields.items() if info.is_required()
        )
    if _is_struct(cls):
        return frozenset(field.name for field in _struct_fields(cls) if field.required)
    return frozenset(
        str(field.metadata.get(PROPERTY_NAME, field.name))
        for field in dataclasses.fields(cls)
        if _is_required(field)
    )


def docstring(cls: type) -> str:
    """Return a class's own docstring in one line; empty where it is generated or inherited."""
    text = " ".join((vars(cls).get("__doc__") or "").split())
    return "" if text.startswith(f"{cls.__name__}(") else text


def _is_pydantic(cls: Any) -> bool:
    return hasattr(cls, "model_fields") and hasattr(cls, "model_json_schema")


def _is_struct(cls: Any) -> bool:
    return hasattr(cls, "__struct_fields__")


def _pydantic_fields(cls: Any) -> Iterator[Field]:
    if not cls.__pydantic_complete__:
        cls.model_rebuild()  # raises where a name is still not defined
    try:
        document = cls.model_json_schema(mode="serialization")
    except Exception:  # a type that JSON Schema does not know: pydantic has several errors for that
        document = {}
    definitions = document.get("$defs", {})
    if "$ref" in document:  # a recursive model
        document = definitions.get(document["$ref"].rpartition("/")[2], {})
    schemas = document.get("properties", {})
    for name, info in cls.model_fields.items():
        alias = _property_name(name, info)
        schema = _inlined(schemas.get(alias), definitions)
        yield Field(alias, info.annotation, info.is_required(), info.description or "", schema)
    for name, info in cls.model_computed_fields.items():
        alias = info.alias or name
        yield Field(alias, info.return_type, required=False, description=info.description or "")


def _merged(value: Any, as_json: Any) -> Any:
    """Return the values that our encoder knows, and for all others pydantic's JSON."""
    if value is None or isinstance(value, _ENCODED_BY_US):
        return value
    if isinstance(value, dict):
        return {
            name: _merged(each, as_json[name]) for name, each in zip(as_json, value.values(), strict=True)
        }
    if isinstance(value, (list, tuple)):
        return [_merged(*each) for each in zip(value, as_json, strict=True)]
    return as_json


def _nested(value: Any, path: tuple[int, ...]) -> Any:
    """Replace the models within a value by their properties: the encoder does not know their aliases.

    Values that are too deep, too wide or recursive are left to the encoder, which refuses or cuts them.
    """
    if len(path) > MAX_DEPTH or id(value) in path:
        return value
    inner = (*path, id(value))
    if isinstance(value, (list, tuple)) and len(value) < MAX_ITEMS:
        return [_nested(each, inner) for each in value]
    if isinstance(value, dict) and len(value) < MAX_ITEMS:
        return {name: _nested(each, inner) for name, each in value.items()}
    return _values(value, path) if is_model(type(value)) else value


def _property_name(name: str, info: Any) -> str:
    return str(info.serialization_alias or info.alias or name)


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _struct_fields(cls: Any) -> Iterator[Field]:
    import msgspec  # noqa: PLC0415

    config = cls.__struct_config__
    if config.tag is not None:
        yield Field(config.tag_field, typing.Literal[config.tag], required=False)
    for field in msgspec.structs.fields(cls):
        yield Field(field.encode_name, field.type, field.required)


def _inlined(schema: Any, definitions: Mapping[str, Any], depth: int = 0) -> Any:
    """Replace references by their definitions; below Mixpanel's nesting limit by `{}`, which is anything."""
    if isinstance(schema, list):
        return [_inlined(each, definitions, depth) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        if depth > MAX_DEPTH:
            return {}
        return _inlined(definitions.get(schema["$ref"].rpartition("/")[2], {}), definitions, depth + 1)
    return {name: _inlined(each, definitions, depth) for name, each in schema.items()}
