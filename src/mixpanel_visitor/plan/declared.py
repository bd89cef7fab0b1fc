"""Declared: what can stand in a tracking plan, for type checkers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

if TYPE_CHECKING:
    from dataclasses import Field


class DataclassInstance(Protocol):
    """An instance of a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


class PydanticInstance(Protocol):
    """An instance of a pydantic model."""

    __pydantic_fields__: ClassVar[dict[str, Any]]


class MsgspecInstance(Protocol):
    """An instance of a msgspec struct."""

    __struct_fields__: ClassVar[tuple[str, ...]]


Declared: TypeAlias = DataclassInstance | PydanticInstance | MsgspecInstance
"""An event as an instance of its class."""
