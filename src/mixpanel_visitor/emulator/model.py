"""Model: what the store has received, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from .profiles import ProfileEndpoint, Update
    from .rules import Event, EventEndpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """An event with its deliveries and identity.

    `deliveries` counts its arrivals; `altered`: a later one had other properties, and as in Mixpanel these
    are the latest ones. `number` counts from 1 in the order of first arrival. `own_id` is the distinct ID
    that Mixpanel stores before any merge, `person` the current canonical one; both are None without an ID,
    and for a duplicate of an event that was evicted from the store. `identity_failure` is Mixpanel's reason
    why it joined no IDs. `token` names the project.
    """

    number: int
    endpoint: EventEndpoint
    event: Event
    received_at_ms: int
    deliveries: int
    altered: bool
    own_id: str | None
    person: str | None
    identity_failure: str | None
    token: str = ""

    @property
    def name(self) -> str:
        """The event's name."""
        return self.event.name

    @property
    def properties(self) -> dict[str, Any]:
        """The properties as an object."""
        parsed: dict[str, Any] = orjson.loads(self.event.properties)
        return parsed


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Someone with `events` kept events in the project `token`; `ids` are all of theirs, joined ones too."""

    person: str
    ids: tuple[str, ...]
    events: int
    token: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A person's or a group's properties after all updates so far; people have no `group_key`."""

    token: str
    group_key: str
    profile_id: str | int | float
    properties: dict[str, Any]
    updates: int
    updated_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileChange:
    """One update that was applied."""

    endpoint: ProfileEndpoint
    update: Update
    received_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A record that was refused, or with `index` None a whole request; `record` is its JSON if not large."""

    endpoint: str
    status: int
    message: str
    index: int | None = None
    field: str = ""
    insert_id: str = ""
    record: bytes | None = None
    received_at_ms: int = 0


Arrival = StoredEvent | ProfileChange | Rejection
"""What a listener of the store receives."""
