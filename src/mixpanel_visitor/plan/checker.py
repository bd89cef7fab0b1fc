"""PlanGuard: compares each event with the plan; raises in tests, logs and counts in production."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mixpanel_visitor.core.flags.exposures import EVENT as EXPOSURE_EVENT
from mixpanel_visitor.core.identity.identity import IDENTIFIED_EVENT
from mixpanel_visitor.errors import InvalidEventError
from mixpanel_visitor.observability.rate_limited_log import call_site
from mixpanel_visitor.quoting import quoted

if TYPE_CHECKING:
    from mixpanel_visitor.observability.counters import EventCounters
    from mixpanel_visitor.observability.rate_limited_log import RateLimitedLog

    from .differences import Difference
    from .plan import Plan

_MAX_LOGGED = 5
_OWN_EVENTS = (IDENTIFIED_EVENT, EXPOSURE_EVENT)
"""Events that this package tracks itself; no plan has them."""


class PlanGuard:
    """Checks events before they are encoded; one for each tracker that has a plan."""

    def __init__(self, plan: Plan, *, counters: EventCounters, log: RateLimitedLog) -> None:
        self._plan = plan
        self._counters = counters
        self._log = log

    def __call__(self, event: Any, properties: Any, *, strict: bool) -> tuple[str, Any]:
        """Return an event's name and properties; those of an instance are read from it.

        Raise `InvalidEventError` for an object of no declared class, and if `strict` for any difference.
        """
        if not isinstance(event, str):
            event, values = self._plan.read(event)
            properties = {**values, **properties} if isinstance(properties, Mapping) else properties or values
        if event in _OWN_EVENTS or not (properties is None or isinstance(properties, Mapping)):
            return event, properties
        try:
            differences = self._plan.differences(event, properties)
        except Exception:
            # For example an annotation with an undefined type: a mistake of the plan, not of the event.
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
    """Differences as text, built only when a log line is written, because most are rate-limited."""

    def __init__(self, differences: list[Difference]) -> None:
        self._differences = differences

    def __str__(self) -> str:
        lines = [each.without_value for each in self._differences[:_MAX_LOGGED]]
        not_shown = len(self._differences) - _MAX_LOGGED
        return "; ".join(lines) + (f" and {not_shown} more" if not_shown > 0 else "")


def describe(event: str, differences: Sequence[Difference], *, in_one_line: bool = False) -> str:
    """Return how an event differs from the plan, for the output of a failed test or of `plan check`.

    >>> from mixpanel_visitor.plan import Difference
    >>> describe("Signed up", [Difference("plan", "missing, must be a string")], in_one_line=True)
    "'Signed up' differs from the plan: plan: missing, must be a string"
    """
    if not differences[0].path:
        return f"{event!r} {differences[0]}"
    start, separator = (" ", "; ") if in_one_line else ("\n  ", "\n  ")
    return f"{event!r} differs from the plan:{start}{separator.join(map(str, differences))}"
