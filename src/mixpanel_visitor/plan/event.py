"""Event: one declared event of a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .annotations import object_schema
from .models import docstring

if TYPE_CHECKING:
    from collections.abc import Sequence


class Event:
    """One declared event: its name, its class, and its texts in Lexicon."""

    def __init__(
        self,
        name: str,
        cls: type,
        *,
        description: str = "",
        display_name: str = "",
        tags: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.cls = cls
        self.description = description or docstring(cls)
        self.display_name = display_name
        self.tags = tuple(tags)
        self._schema: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"<Event {self.name!r} as {self.cls.__name__}>"

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON Schema of its properties; NameError where a named type is not defined (yet)."""
        if self._schema is None:
            self._schema = object_schema(self.cls)
        return self._schema
