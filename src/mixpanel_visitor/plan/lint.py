"""Lint: mistakes of a plan itself, each with the fix."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from mixpanel_visitor.core.events.record_builder import (
    IDENTITY_PROPERTIES,
    MAX_NAME_CHARS,
    MAX_PROPERTIES,
)
from mixpanel_visitor.core.events.redaction import Redactor

from .lexicon import types_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .event import Event

RESERVED_PREFIXES = ("$", "mp_")
RESERVED_PROPERTIES = (*IDENTITY_PROPERTIES, "time")


def find_problems(events: Iterable[Event]) -> list[str]:
    """Return what is wrong with these events, one line each."""
    readable: list[Event] = []
    problems: list[str] = []
    for event in events:
        problems += _name_problems("event", event.name)
        try:
            event.schema  # noqa: B018  # the property builds it
        except Exception as error:
            problems.append(f"{event.name!r}: the types of {event.cls.__qualname__} cannot be read: {error}")
        else:
            readable.append(event)
    for event in readable:
        problems += _property_problems(event)
    problems += _case_duplicates("events", [event.name for event in readable])
    problems += _case_duplicates(
        "properties", [name for event in readable for name in event.schema["properties"]]
    )
    problems += _type_conflicts(readable)
    return problems


def _name_problems(kind: str, name: str, event: str = "") -> Iterator[str]:
    subject = f"{event!r}: property {name[:80]!r}" if event else f"{kind} {name[:80]!r}"
    if not name.strip():
        yield f"{subject}: the name is empty"
    if len(name) > MAX_NAME_CHARS:
        yield f"{subject}: the name has {len(name)} characters, Mixpanel takes {MAX_NAME_CHARS}"
    if name != name.strip():
        yield f"{subject}: the name begins or ends with white space; take it off"
    if name.startswith(RESERVED_PREFIXES):
        yield f"{subject}: names that begin with '$' or 'mp_' are Mixpanel's own; choose another"


def _property_problems(event: Event) -> Iterator[str]:
    properties = event.schema["properties"]
    if len(properties) >= MAX_PROPERTIES:
        yield f"{event.name!r}: has {len(properties)} properties, Mixpanel takes fewer than {MAX_PROPERTIES}"
    is_secret = Redactor().is_secret
    for name, schema in properties.items():
        yield from _name_problems("property", name, event.name)
        if name in RESERVED_PROPERTIES:
            yield f"{event.name!r}: property {name!r} is Mixpanel's own; choose another name"
        elif is_secret(name):
            yield (
                f"{event.name!r}: property {name!r} looks like a secret: its values become REDACTED; "
                "rename it, or say with scrub=[...] which names are secret"
            )
        types = types_of(schema)
        if len(types) > 1:
            yield (
                f"{event.name!r}: property {name!r} may be {' or '.join(types)}, and Mixpanel reports "
                "on a property by one type; declare one"
            )


def _case_duplicates(kind: str, names: Iterable[str]) -> Iterator[str]:
    spellings_by_name: dict[str, dict[str, None]] = defaultdict(dict)
    for name in names:
        spellings_by_name[name.casefold().strip()][name] = None
    for spellings in spellings_by_name.values():
        if len(spellings) > 1:
            yield (
                f"{kind} {' and '.join(map(repr, spellings))} differ only by case: Mixpanel keeps them "
                "apart, so a report shows one of them; choose one spelling"
            )


def _type_conflicts(events: Iterable[Event]) -> Iterator[str]:
    uses: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for event in events:
        for name, schema in event.schema["properties"].items():
            types = types_of(schema)
            if len(types) == 1:
                # Mixpanel has one type for all numbers.
                uses[name]["number" if types[0] == "integer" else types[0]].append(event.name)
    for name, by_type in uses.items():
        if len(by_type) > 1:
            uses_text = " and ".join(
                f"{kind} in {', '.join(map(repr, names))}" for kind, names in by_type.items()
            )
            yield f"property {name!r} is {uses_text}: one name has one type in Mixpanel's reports; rename one"
