"""PlanGuard: compares what is tracked with the plan; raises in tests, logs and counts in production."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mixpanel_visitor.core.identity.identity import IDENTIFIED_EVENT
from mixpanel_visitor.errors import InvalidEventError
from mixpanel_visitor.observability.rate_limited_log import call_site
from mixpanel_visitor.quoting import quoted

if TYPE_CHECKING:
    from mixpanel_visitor.observability.counters import EventCounters
    from mixpanel_visitor.observability.rate_limited_log import RateLimitedLog

    from .differences import Difference
    from .plan import Plan

_MOST_LOGGED = 5


class PlanGuard:
    """What a writer asks before it writes an event, where there is a plan."""

    def __init__(self, plan: Plan, *, counters: EventCounters, log: RateLimitedLog) -> None:
        self._plan = plan
        self._counters = counters
        self._log = log

    def __call__(self, event: Any, properties: Any, *, strict: bool) -> tuple[str, Any]:
        """Return an event's name and properties, read from an instance if that is what was given.

        `InvalidEventError` for what is no event at all, and where it differs from the plan and `strict`.
        """
        if not isinstance(event, str):
            event, values = self._plan.read(event)
            properties = {**values, **properties} if isinstance(properties, Mapping) else properties or values
        if event == IDENTIFIED_EVENT or not (properties is None or isinstance(properties, Mapping)):
            return event, properties
        try:
            differences = self._plan.differences(event, properties)
        except Exception:
            # Such as a type that is named in an annotation and not defined: the event is not to blame.
            if strict:
                raise
            self._counters.note("plan_failed")
            self._log(
                logging.ERROR,
                "plan failed",
                "event %s could not be compared with the plan; it was sent as it is. See why with: "
                "mixpanel-visitor plan check",
                quoted(event),
                exc_info=True,
            )
            return event, properties
        if differences:
            if strict:
                raise InvalidEventError("off_plan", describe(event, differences))
            self._counters.note("off_plan")
            self._warn(event, differences)
        return event, properties

    def _warn(self, event: str, differences: list[Difference]) -> None:
        site = call_site()
        self._log(
            logging.WARNING,
            f"plan {site} {differences[0].path}",
            "event %s at %s differs from the plan and was sent as it is: %s",
            quoted(event),
            site,
            _LazyDescription(differences),
        )


class _LazyDescription:
    """What differs, in words, which are made when a log line is written: most of the time none is."""

    def __init__(self, differences: list[Difference]) -> None:
        self._differences = differences

    def __str__(self) -> str:
        lines = [each.without_value for each in self._differences[:_MOST_LOGGED]]
        more = len(self._differences) - _MOST_LOGGED
        return "; ".join(lines) + (f" and {more} more" if more > 0 else "")


def describe(event: str, differences: Sequence[Difference], *, in_one_line: bool = False) -> str:
    """Say for whoever reads a failed test, or a check's output, what is other than planned."""
    if not differences[0].path:
        return f"{event!r} {differences[0]}"
    start, separator = (" ", "; ") if in_one_line else ("\n  ", "\n  ")
    return f"{event!r} differs from the plan:{start}{separator.join(map(str, differences))}"
