"""Diagnostics: counts and logs the calls that go wrong, with the application's line."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from mixpanel_visitor.observability.rate_limited_log import call_site
from mixpanel_visitor.quoting import quoted, type_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from mixpanel_visitor.core.request import RequestFacts
    from mixpanel_visitor.observability.counters import EventCounters
    from mixpanel_visitor.observability.rate_limited_log import RateLimitedLog


class Diagnostics:
    """Counts each problem, and logs it once a minute for each kind and line of the application."""

    def __init__(
        self, counters: EventCounters, log: RateLimitedLog, notify_local: Callable[[str], None] | None
    ) -> None:
        self._counters = counters
        self._log = log
        self._notify_local = notify_local
        self._has_logged_bots = False

    def refused(self, reason: str, subject: str, message: str) -> None:
        """Count a call that was accepted and cannot become a record."""
        self._counters.refuse(reason)
        site = call_site()
        self._log(
            logging.WARNING,
            f"{reason} {site}",
            "%s was not accepted (%s) at %s: %s",
            subject,
            reason,
            site,
            message,
        )

    def refused_bot(self, facts: RequestFacts | None) -> None:
        """Count an event of a bot; the first one is logged."""
        self._counters.refuse("bot")
        # One line is enough for those who wonder why nothing arrives.
        if self._has_logged_bots:
            return
        self._has_logged_bots = True
        user_agent = "" if facts is None else facts.header("user-agent")
        message = (
            f"Events of bots are dropped and counted (the first here: {quoted(user_agent, 100)}). If that "
            "is a person, or you want them, say bots='tag' or 'keep'."
        )
        self._log(logging.WARNING, "bots", "%s", message)
        if self._notify_local is not None:
            self._notify_local(message)

    def bad_flag_key(self, key: object) -> None:
        """Log that a feature flag was asked for with a key that is no str."""
        site = call_site()
        message = "visitor.flag at %s has its default: the key of a flag is a str, not %s."
        self._log(logging.WARNING, f"flag key {site}", message, site, type_name(type(key)))

    def flags_off(self, key: object) -> None:
        """Log that a feature flag was asked for where none are evaluated."""
        site = call_site()
        message = (
            "visitor.flag(%s) at %s has its default: feature flags are off. Set flags='local' "
            "(MIXPANEL_VISITOR_FLAGS=local)."
        )
        self._log(logging.WARNING, f"flags off {site}", message, quoted(key), site)

    def identity_in_properties(self, event: object) -> None:
        """Log that the visitor's own properties were given, and left out."""
        site = call_site()
        self._log(
            logging.WARNING,
            f"identity {site}",
            "event %s at %s: token, distinct_id, $device_id and $user_id are the visitor's own and cannot be "
            "given as properties; they were left out. Use visitor.identify(...) or tracker.track(...).",
            quoted(event),
            site,
        )

    def secret(self, name: str) -> None:
        """Count and log that a value was replaced because of its property's name."""
        self._counters.note("scrubbed")
        site = call_site()
        self._log(
            logging.WARNING,
            f"secret {site}",
            "the property %s at %s looks like a secret by its name and was replaced. Leave it out; if it is "
            "none, say which names are with scrub=[...].",
            quoted(name),
            site,
        )

    def stringified(self, name: str, kind: type) -> None:
        """Count and log that a value became its text, because JSON has nothing for its type."""
        self._counters.note("stringified")
        site = call_site()
        self._log(
            logging.WARNING,
            f"stringified {site}",
            "the property %s at %s holds a value of type %s, for which JSON has nothing: its text was sent, "
            "255 characters at most. Pass a string, number, boolean, date, list or dict.",
            quoted(name),
            site,
            type_name(kind),
        )

    def naive_time(self) -> None:
        """Count and log that a time without a zone was read as this machine's local time."""
        self._counters.note("naive_time")
        site = call_site()
        self._log(
            logging.WARNING,
            f"naive time {site}",
            "the time given at %s has no zone and was taken for the local time of this process. Give it one: "
            "datetime.now(UTC).",
            site,
        )

    def extra_properties_failed(self, error: Exception) -> None:
        """Count and log that events go without `extra_properties`; called from an except block."""
        self._counters.note("extra_properties_failed")
        self._log(
            logging.ERROR,
            "extra_properties",
            "extra_properties raised, or Mixpanel does not take it (%s: %s); events go without. Mend the "
            "setting: a dict of properties, or a callable that returns one.",
            type(error).__name__,
            error,
            exc_info=True,
        )
