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

    from .plan import Event

RESERVED_PREFIXES = ("$", "mp_")
RESERVED_PROPERTIES = (*IDENTITY_PROPERTIES, "time")


def review(events: Iterable[Event]) -> list[str]:
    """Return what is wrong with these events, one line each."""
    readable: list[Event] = []
    found: list[str] = []
    for event in events:
        found += _of_name("event", event.name)
        try:
            event.schema  # noqa: B018  # it is made by being asked for
        except Exception as error:
            found.append(f"{event.name!r}: the types of {event.cls.__qualname__} cannot be read: {error}")
        else:
            readable.append(event)
    for event in readable:
        found += _of_properties(event)
    found += _twins("events", [event.name for event in readable])
    found += _twins("properties", [name for event in readable for name in event.schema["properties"]])
    found += _conflicts(readable)
    return found


def _of_name(what: str, name: str, event: str = "") -> Iterator[str]:
    where = f"{event!r}: property {name[:80]!r}" if event else f"{what} {name[:80]!r}"
    if not name.strip():
        yield f"{where}: the name is empty"
    if len(name) > MAX_NAME_CHARS:
        yield f"{where}: the name has {len(name)} characters, Mixpanel takes {MAX_NAME_CHARS}"
    if name != name.strip():
        yield f"{where}: the name begins or ends with white space; take it off"
    if name.startswith(RESERVED_PREFIXES):
        yield f"{where}: names that begin with '$' or 'mp_' are Mixpanel's own; choose another"


def _of_properties(event: Event) -> Iterator[str]:
    properties = event.schema["properties"]
    if len(properties) >= MAX_PROPERTIES:
        yield f"{event.name!r}: has {len(properties)} properties, Mixpanel takes fewer than {MAX_PROPERTIES}"
    is_secret = Redactor().is_secret
    for name, schema in properties.items():
        yield from _of_name("property", name, event.name)
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


def _twins(what: str, names: Iterable[str]) -> Iterator[str]:
    alike: dict[str, dict[str, None]] = defaultdict(dict)
    for name in names:
        alike[name.casefold().strip()][name] = None
    for same in alike.values():
        if len(same) > 1:
            yield (
                f"{what} {' and '.join(map(repr, same))} differ only by case: Mixpanel keeps them apart, and "
                "nobody will find both; choose one"
            )


def _conflicts(events: Iterable[Event]) -> Iterator[str]:
    uses: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for event in events:
        for name, schema in event.schema["properties"].items():
            types = types_of(schema)
            if len(types) == 1:
                # Mixpanel has one type for all numbers.
                uses[name]["number" if types[0] == "integer" else types[0]].append(event.name)
    for name, by_type in uses.items():
        if len(by_type) > 1:
            told = " and ".join(f"{kind} in {', '.join(map(repr, names))}" for kind, names in by_type.items())
            yield f"property {name!r} is {told}: one name has one type in Mixpanel's reports; rename one"
