"""EventPlan: a tracking plan as the settings see it; `plan` is above them in the import order."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class EventPlan(Protocol):
    """A `mixpanel_visitor.plan.Plan`."""

    def resolve(self) -> None:
        """Read the types of all events; raise ValueError for one that cannot be read."""
        ...
