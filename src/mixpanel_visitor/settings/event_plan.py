"""EventPlan: what the settings know of a tracking plan, which lives above them."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class EventPlan(Protocol):
    """A `mixpanel_visitor.plan.Plan`."""

    def resolve(self) -> None:
        """Read the types of all events; raise ValueError for one that cannot be read."""
        ...
