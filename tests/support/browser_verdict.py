"""Verdict: whose the events are that arrived, and whether that is as it should be."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

JOINING = ("$identify", "Visitor identified")
"""Events that only join IDs, the browser SDK's and ours: ID mode and SDK decide which of them come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One event that arrived. `label` is its name and what it was about: "Ordered tea", "Page viewed /"."""

    label: str
    side: str
    person: str | None
    distinct_id: str | None
    device_id: str | None
    user_id: str | None


def seen(event: dict[str, Any]) -> Seen:
    """Read an event of the local Mixpanel's listing."""
    properties = event["properties"]
    about = properties.get("item") or properties.get("current_url_path")
    name = event["event"].removeprefix("$mp_")
    return Seen(
        label=f"{name} {about}" if about else event["event"],
        side="browser" if properties.get("mp_lib") == "web" else "server",
        person=event["person"],
        distinct_id=properties.get("distinct_id"),
        device_id=properties.get("$device_id"),
        user_id=properties.get("$user_id"),
    )


def judge(events: list[Seen], groups: tuple[tuple[str, ...], ...]) -> tuple[list[str], str]:
    """Tell whose each group of labels is, and what is wrong with that; `""`: nothing.

    Exactly these events are to be there, and each group is to be one person's, of his own. Those in `JOINING`
    are not listed, but have to belong to one of these people.
    """
    wanted = Counter(label for group in groups for label in group)
    assert max(wanted.values()) == 1, "label events so that each is the only one of its kind"
    listed = Counter(event.label for event in events if event.label not in JOINING)
    if listed != wanted:
        return [], f"missing {dict(wanted - listed)}, not expected {dict(listed - wanted)}"
    people: list[str] = []
    for group in groups:
        persons = {event.person for event in events if event.label in group}
        if len(persons) != 1:
            return [], f"{len(persons)} people instead of one: {group}"
        person = persons.pop()
        if person is None:
            return [], f"Mixpanel knows no person for {group}"
        people.append(person)
    if len(set(people)) != len(people):
        return people, f"merged, and must not be: {people}"
    strays = {event.person for event in events} - set(people)
    return people, f"IDs of somebody else were joined: {strays}" if strays else ""


def table(events: list[Seen]) -> list[str]:
    """Tell who sent what under which IDs, in lines."""
    columns = ("side", "label", "person", "distinct_id", "device_id", "user_id")
    rows = [columns, *(tuple(str(getattr(event, name)) for name in columns) for event in events)]
    widths = [max(len(row[number]) for row in rows) for number in range(len(columns))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
