"""Lexicon: a plan as Mixpanel's data dictionary takes it.

The body of `POST /projects/{projectId}/schemas` (Mixpanel's OpenAPI, "Lexicon Schemas API"): there a property
has exactly one type, a description, examples and a format, and no choices; so choices become examples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .differences import expected

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .event import Event

DRAFT = "http://json-schema.org/draft-07/schema"
MAX_EXAMPLES = 20


def lexicon(events: Iterable[Event]) -> dict[str, Any]:
    """Return `{"entries": [...]}` with an entry for each event."""
    return {
        "entries": [
            {"entityType": "event", "name": event.name, "schemaJson": _schema(event)} for event in events
        ]
    }


def _schema(event: Event) -> dict[str, Any]:
    schema = event.schema
    body: dict[str, Any] = {"$schema": DRAFT}
    if event.description:
        body["description"] = event.description
    body["properties"] = {name: _property(each) for name, each in schema["properties"].items()}
    body["required"] = list(schema["required"])
    body["additionalProperties"] = True  # the plan does not list the properties of every event
    metadata: dict[str, Any] = {}
    if event.display_name:
        metadata["displayName"] = event.display_name
    if event.tags:
        metadata["tags"] = list(event.tags)
    if metadata:
        body["metadata"] = {"com.mixpanel": metadata}
    return body


def types_of(schema: Mapping[str, Any]) -> list[str]:
    """Return the JSON types that a property may have, null left out; none: anything."""
    options = schema.get("anyOf") or schema.get("oneOf") or [schema]
    types = dict.fromkeys(str(option["type"]) for option in options if "type" in option)
    types.pop("null", None)
    if "number" in types:
        types.pop("integer", None)
    return list(types)


def _property(schema: Mapping[str, Any]) -> dict[str, Any]:
    options = [each for each in schema.get("anyOf", [schema]) if each.get("type") != "null"]
    body: dict[str, Any] = {"type": next(iter(types_of(schema)), "string")}
    choices = [choice for each in options for choice in each.get("enum", ()) if choice is not None]
    description = str(schema.get("description", "")).strip()
    if choices:
        full_stop = "." if description and description[-1].isalnum() else ""
        description = f"{description}{full_stop} One of {expected({'enum': choices[:MAX_EXAMPLES]})}.".strip()
    if description:
        body["description"] = description
    if len(options) == 1 and str(options[0].get("format", "")).startswith("date"):
        body["format"] = "date-time"
    if choices:
        body["examples"] = choices[:MAX_EXAMPLES]
    return body
