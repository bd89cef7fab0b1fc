"""Everything this package raises on purpose.

```
MixpanelVisitorError
├── SettingsError            a mistake in the configuration; the only one raised into a host application
├── InvalidEventError        bad input to `track` and its like; raised only with `on_error="raise"`
├── NoVisitorError           an ID was asked for outside of a request
├── NoRequestError           a `consent` callable has read a request, and a job asks it
├── MissingExtraError        an optional package is not installed
└── SpoolError               the spool did not take or give records
    ├── SpoolFullError       the bound on its size was reached
    └── SpoolUnavailableError  the disk or the server behind it failed
```
"""

from __future__ import annotations

from typing import ClassVar

from .quoting import several


class MixpanelVisitorError(Exception):
    """Base of every error of this package."""


class SettingsError(MixpanelVisitorError, ValueError):
    """The configuration has mistakes: all of them are listed in `problems`, each with its fix."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = list(problems)
        head = several(len(problems), "mistake")
        lines = "\n".join(f"  - {problem}" for problem in problems)
        super().__init__(f"mixpanel-visitor: {head} in the settings:\n{lines}")


class InvalidEventError(MixpanelVisitorError, ValueError):
    """An event or profile update that Mixpanel would refuse; `reason` is the key it is counted under."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class NoVisitorError(MixpanelVisitorError, AttributeError, RuntimeError):
    """The current visitor was asked for its ID, but there is no request here.

    An AttributeError as well: whoever only probes (`hasattr`, `getattr` with a default, inspect, mocks) is to
    find nothing, as in any object that lacks the attribute.
    """


class NoRequestError(MixpanelVisitorError):
    """A request was read of where there is none: in a job that resumes the visitor of one.

    Who does not catch it in a `consent` callable has its answer of the request count in the job.
    """


class MissingExtraError(MixpanelVisitorError, ImportError):
    """An optional dependency is missing; the message holds the command that installs it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"{package} is not installed. Install it with: pip install 'mixpanel-visitor[{extra}]'"
        )


class SpoolError(MixpanelVisitorError):
    """The spool did not take the records; `reason` is the key they are counted under."""

    reason: ClassVar[str] = "spool_error"


class SpoolFullError(SpoolError):
    """The spool has reached its bound: new records are refused, stored ones are kept."""

    reason = "spool_full"


class SpoolUnavailableError(SpoolError):
    """The disk (or server) behind the spool failed; the message says how."""

    reason = "spool_unavailable"
