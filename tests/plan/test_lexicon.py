"""The export is what Mixpanel's Lexicon Schemas API takes, by its own description."""

import datetime as dt
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import jsonschema

from mixpanel_visitor.plan import Plan

# Mixpanel's OpenAPI, "Lexicon Schemas API": the body of `POST /projects/{projectId}/schemas`. Its example has
# `examples` and `format` in properties besides what the description lists.
PROPERTY = {
    "type": "object",
    "required": ["type"],
    "properties": {
        "type": {"enum": ["array", "boolean", "integer", "null", "number", "object", "string"]},
        "description": {"type": "string"},
        "examples": {"type": "array"},
        "format": {"const": "date-time"},
    },
    "additionalProperties": False,
}
SCHEMA = {
    "type": "object",
    "properties": {
        "$schema": {"const": "http://json-schema.org/draft-07/schema"},
        "description": {"type": "string"},
        "properties": {"type": "object", "additionalProperties": PROPERTY},
        "required": {"type": "array", "items": {"type": "string"}},
        "additionalProperties": {"const": True},
        "metadata": {
            "type": "object",
            "properties": {
                "com.mixpanel": {
                    "type": "object",
                    "properties": {
                        "displayName": {"type": "string"},
                        "tags": {"type": "array", "items": {"type": "string"}},
                    },
                    "additionalProperties": False,
                }
            },
        },
    },
    "additionalProperties": False,
}
BODY = {
    "type": "object",
    "properties": {
        "entries": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "entityType": {"enum": ["event", "profile"]},
                    "name": {"type": "string"},
                    "schemaJson": SCHEMA,
                },
                "required": ["name", "entityType", "schemaJson"],
                "additionalProperties": False,
            },
        },
        "truncate": {"type": "boolean"},
    },
    "required": ["entries"],
    "additionalProperties": False,
}


def test_the_export_is_what_lexicon_takes():
    """One type for each property, and what its readers want to know."""
    plan = Plan()

    @dataclass
    class Item:
        sku: str

    @plan.event("Bought", display_name="Bought something", tags=["Shop"])
    @dataclass
    class Bought:
        """Somebody has bought something."""

        tier: Annotated[Literal["free", "pro"], "What was chosen"]
        price: float | int
        on: dt.date | None = None
        items: list[Item] = field(default_factory=list)
        first: Item | None = None
        mode: Literal[1, 2] = 1
        whatever: Any = None

    plan.event("Left")(dataclass(type("Left", (), {})))
    exported = plan.lexicon()
    jsonschema.validate(exported, BODY)
    bought, left = exported["entries"]
    assert bought == {
        "entityType": "event",
        "name": "Bought",
        "schemaJson": {
            "$schema": "http://json-schema.org/draft-07/schema",
            "description": "Somebody has bought something.",
            "properties": {
                "tier": {
                    "type": "string",
                    "description": "What was chosen. One of 'free' or 'pro'.",
                    "examples": ["free", "pro"],
                },
                "price": {"type": "number"},
                "on": {"type": "string", "format": "date-time"},
                "items": {"type": "array"},
                "first": {"type": "object"},
                "mode": {"type": "integer", "description": "One of 1 or 2.", "examples": [1, 2]},
                "whatever": {"type": "string"},
            },
            "required": ["tier", "price"],
            "additionalProperties": True,
            "metadata": {"com.mixpanel": {"displayName": "Bought something", "tags": ["Shop"]}},
        },
    }
    assert "metadata" not in left["schemaJson"]


def test_a_schema_takes_what_the_plan_takes():
    """It is JSON Schema: an event that is right is valid."""
    plan = Plan()

    @plan.event("Bought")
    @dataclass
    class Bought:
        tier: str

    (entry,) = plan.lexicon()["entries"]
    validator = jsonschema.Draft7Validator(entry["schemaJson"])
    assert validator.is_valid({"tier": "pro", "$browser": "Chrome"})
    assert not validator.is_valid({"tier": 1})
    assert not validator.is_valid({})
