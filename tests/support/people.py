"""Events that join people, as libraries send them, and whose they are in the emulator."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from mixpanel_visitor.emulator.people import People

U = "6f1c2a3b-4d5e-4f60-8a7b-9c0d1e2f3a4b"
U2 = "0a1b2c3d-4e5f-4a6b-9c7d-8e9f0a1b2c3d"
Sent = tuple[str, dict[str, Any]]


def event(**properties: Any) -> Sent:
    """Make an ordinary event; `device` and `user` are short for the two properties of identity."""
    names = {"device": "$device_id", "user": "$user_id"}
    return "Page viewed", {names.get(key, key): value for key, value in properties.items()}


def identify(user: str, anon: str) -> Sent:
    """Make an `$identify` as a server spells it."""
    return "$identify", {"distinct_id": user, "$identified_id": user, "$anon_id": anon}


def browser_identify(user: str, anon: str) -> Sent:
    """Make an `$identify` as the browser SDK spells it."""
    device = anon.removeprefix("$device:")
    return "$identify", {
        "distinct_id": user,
        "$anon_distinct_id": anon,
        "$user_id": user,
        "$device_id": device,
    }


def alias(new: str, distinct_id: str) -> Sent:
    """Make a `$create_alias`."""
    return "$create_alias", {"distinct_id": distinct_id, "alias": new}


def merge(first: str, second: str) -> Sent:
    """Make a `$merge`, which is about the first."""
    return "$merge", {"distinct_id": first, "$distinct_ids": [first, second]}


def persons(people: Any, *sent: Sent) -> list[str | None]:
    """Return whose each of these is once all of them have come, to these people or under this ID merge."""
    people = People(people) if isinstance(people, str) else people
    own_ids = [people.record_event(name, properties)[0] for name, properties in sent]
    return [None if own_id is None else people.canonical_id(own_id) for own_id in own_ids]


def failures(people: Any, *sent: Sent) -> list[str | None]:
    """Return the reasons why these joined nothing."""
    people = People(people) if isinstance(people, str) else people
    return [people.record_event(name, properties)[1] for name, properties in sent]


def in_any_order(*sent: Sent) -> Any:
    """Run a test with these in every order of arrival."""
    return pytest.mark.parametrize("sent", list(itertools.permutations(sent)))


def anon(number: int) -> str:
    """Return the browser's anonymous ID of this number."""
    return f"$device:00000000-0000-4000-8000-{number:012}"
