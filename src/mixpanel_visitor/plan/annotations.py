"""Annotations: the JSON Schema of a Python type's values once they are encoded.

How our encoder encodes each type is decided in `core.events.value_types`: an Enum becomes its value, a
Decimal a number, a datetime a string. The schemas of pydantic and msgspec describe their own encoders, which
differ (a Decimal and a timedelta are strings there), and dataclasses have none: so all are made here.
"""

from __future__ import annotations

import datetime as dt
import types
import typing
import uuid
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from enum import Enum
from typing import Any

from .models import fields_of, is_model

MAX_DEPTH = 3
"""Mixpanel takes three levels; deeper values may be anything."""

# The order matters: bool is an int, a datetime is a date.
_SCHEMA_BY_TYPE: tuple[tuple[type, dict[str, Any]], ...] = (
    (bool, {"type": "boolean"}),
    (int, {"type": "integer"}),
    (float, {"type": "number"}),
    (Decimal, {"type": "number"}),
    (dt.timedelta, {"type": "number"}),
    (str, {"type": "string"}),
    (uuid.UUID, {"type": "string"}),
    (bytes, {"type": "string"}),
    (dt.datetime, {"type": "string", "format": "date-time"}),
    (dt.date, {"type": "string", "format": "date"}),
    (dt.time, {"type": "string"}),
    (Mapping, {"type": "object"}),
    (Collection, {"type": "array"}),
)
_TYPES: dict[type, str] = {bool: "boolean", int: "integer", float: "number", str: "string"}


def object_schema(cls: type, depth: int = 0) -> dict[str, Any]:
    """Return the schema of a model; NameError where an annotation names what is not defined (yet)."""
    properties: dict[str, Any] = {}
    required: list[str] = []
    for field in fields_of(cls):
        schema = type_schema(field.annotation, depth + 1)
        if not schema and field.schema:
            schema = dict(field.schema)
        if field.description:
            schema = {**schema, "description": field.description}
        properties[field.name] = schema
        if field.required:
            required.append(field.name)
    return {"type": "object", "properties": properties, "required": required}


def type_schema(annotation: Any, depth: int = 0) -> dict[str, Any]:
    """Return the schema of an annotation; an empty one takes anything."""
    if annotation is None or annotation is type(None):
        return {"type": "null"}
    if hasattr(annotation, "__supertype__"):  # NewType
        return type_schema(annotation.__supertype__, depth)
    if type(annotation).__name__ == "TypeAliasType":  # the statement `type X = ...` of Python 3.12
        return type_schema(annotation.__value__, depth)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _with_description(type_schema(arguments[0], depth), arguments[1:])
    if origin in (typing.Required, typing.NotRequired, typing.Final):
        return type_schema(arguments[0], depth)
    if origin is typing.Literal:
        return _enum_schema(arguments)
    if origin in (typing.Union, types.UnionType):
        return _union([type_schema(each, depth) for each in arguments])
    return _class_schema(origin or annotation, arguments, depth)


def _class_schema(cls: Any, arguments: tuple[Any, ...], depth: int) -> dict[str, Any]:
    if not isinstance(cls, type) or cls is object:
        return {}
    if is_model(cls):
        return object_schema(cls, depth) if depth <= MAX_DEPTH else {"type": "object"}
    if issubclass(cls, Enum):
        return _enum_schema(tuple(cls))
    schema = next((schema for base, schema in _SCHEMA_BY_TYPE if issubclass(cls, base)), {})
    if cls is Iterable:
        schema = {"type": "array"}
    if schema.get("type") == "array" and arguments:
        is_homogeneous = not issubclass(cls, tuple) or arguments[1:] == (...,)
        items = type_schema(arguments[0], depth + 1) if is_homogeneous else {}
        return {**schema, "items": items} if items else dict(schema)
    return dict(schema)


def _with_description(schema: dict[str, Any], metadata: tuple[Any, ...]) -> dict[str, Any]:
    """Take a description from `Annotated`: plain text, `Doc` (PEP 727), or msgspec's `Meta`."""
    for item in metadata:
        text = item if isinstance(item, str) else None
        for attribute in ("documentation", "description"):
            text = text or getattr(item, attribute, None)
        if isinstance(text, str):
            return {**schema, "description": text}
    return schema


def _enum_schema(choices: tuple[Any, ...]) -> dict[str, Any]:
    values = [choice.value if isinstance(choice, Enum) else choice for choice in choices]
    schema: dict[str, Any] = {"enum": values}
    kinds = {_TYPES.get(type(value)) for value in values if value is not None}
    if len(kinds) == 1 and None not in kinds:
        schema = {"type": kinds.pop(), "enum": [value for value in values if value is not None]}
        return _union([schema, {"type": "null"}]) if None in values else schema
    return schema


def _union(schemas: list[dict[str, Any]]) -> dict[str, Any]:
    alternatives = [each for schema in schemas for each in schema.get("anyOf", [schema])]
    if {} in alternatives:
        return {}
    distinct: list[dict[str, Any]] = []
    for each in alternatives:
        if each not in distinct:
            distinct.append(each)
    return distinct[0] if len(distinct) == 1 else {"anyOf": distinct}
