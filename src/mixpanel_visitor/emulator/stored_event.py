"""MutableEvent: a stored event while deliveries may still change it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .model import StoredEvent

if TYPE_CHECKING:
    from .projects import Project
    from .rules import Event, EventEndpoint


class MutableEvent:
    """The store's entry for one event; `event` is None once it is evicted.

    `own_id` and `failure` are the result of `People.record_event`; the store sets them.
    """

    __slots__ = (
        "altered",
        "deliveries",
        "digest",
        "endpoint",
        "event",
        "failure",
        "number",
        "own_id",
        "project",
        "received_at_ms",
    )

    own_id: str | None
    failure: str | None

    def __init__(
        self,
        number: int,
        endpoint: EventEndpoint,
        event: Event,
        digest: int,
        received_at_ms: int,
        project: Project,
    ) -> None:
        self.number = number
        self.endpoint: EventEndpoint = endpoint
        self.event: Event | None = event
        self.digest = digest
        self.received_at_ms = received_at_ms
        self.project = project
        self.deliveries = 1
        self.altered = False

    def evict(self) -> None:
        """Drop all but what recognises a duplicate."""
        self.event = None
        self.own_id = None
        self.failure = None

    def stored(self, event: Event) -> StoredEvent:
        """Return it as a value, with its current person."""
        return StoredEvent(
            number=self.number,
            endpoint=self.endpoint,
            event=event,
            received_at_ms=self.received_at_ms,
            deliveries=self.deliveries,
            altered=self.altered,
            own_id=self.own_id,
            person=None if self.own_id is None else self.project.people.canonical_id(self.own_id),
            identity_failure=self.failure,
            token=self.project.token,
        )
