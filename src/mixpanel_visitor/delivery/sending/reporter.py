"""Reporter: the counts and the log lines about one endpoint's requests."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from mixpanel_visitor.observability.rate_limited_log import place_of
from mixpanel_visitor.quoting import several

from .responses import server_time_s

if TYPE_CHECKING:
    from collections.abc import Callable

    from mixpanel_visitor.records import Endpoint

    from .responses import StatusClass, Verdict
    from .stats import SenderStats
    from .transport import Outcome

_ADVICE: dict[StatusClass, str] = {
    "config": "Check MIXPANEL_TOKEN and MIXPANEL_REGION.",
    "internal": "Nothing is lost. Please report this line.",
    "garbage": "Look for a proxy or a captive portal between this host and Mixpanel.",
    "network": "Check that this host reaches Mixpanel: name service, firewall, proxy, certificates.",
    "rate_limited": "If this lasts, the project sends more than Mixpanel admits (30,000 events a second).",
    "server": "Nothing needs to be done here; Mixpanel's status page may tell more.",
}


class LogFunction(Protocol):
    """Writes to the log; `RateLimitedLog` is one."""

    def __call__(self, level: int, kind: str, message: str, *args: object) -> None:
        """Log one line, at most once a minute for each `kind`."""
        ...


class Reporter:
    """Counts the outcomes of one endpoint's records, in the `stats` of all endpoints, and logs failures."""

    def __init__(
        self, endpoint: Endpoint, *, stats: SenderStats, log: LogFunction, clock: Callable[[], float]
    ) -> None:
        self._endpoint = endpoint
        self._stats = stats
        self._log = log
        self._clock = clock

    def answered(self, outcome: Outcome) -> None:
        """Count a request, and log if Mixpanel has counted fewer records or has another time."""
        clock_was_wrong = self._stats.clock_is_wrong
        self._stats.record(
            outcome.response,
            outcome.verdict,
            outcome.count,
            now_s=outcome.at_s,
            server_s=server_time_s(outcome.response.headers),
            ambiguous=outcome.ambiguous,
        )
        if outcome.verdict.shortfall:
            self._log(
                logging.WARNING,
                f"shortfall {self._endpoint}",
                "Mixpanel accepted a batch for /%s but counted %d of %s less. They count as "
                "delivered here; compare with the project's own figures.",
                *(self._endpoint, outcome.verdict.shortfall, several(outcome.count, "record")),
            )
        if self._stats.clock_is_wrong and not clock_was_wrong:
            self._log(
                logging.WARNING,
                "clock",
                "This host's clock differs from Mixpanel's by %.0f s. Mixpanel rewrites times in the future, "
                "which also defeats its deduplication: synchronise the clock (NTP).",
                self._stats.clock_offset_s,
            )

    def recovered(self) -> None:
        """Log that sending works again."""
        self._log(logging.INFO, f"recovered {self._endpoint}", "Sending to /%s works again.", self._endpoint)

    def failed(self, level: int, verdict: Verdict, wait_s: float) -> None:
        """Log a request that is tried again after a pause of `wait_s` seconds."""
        self._log(
            level,
            f"{verdict.status_class} {self._endpoint}",
            "Sending to /%s failed: %s. Events are kept in the spool and sending pauses for %.0f s. %s",
            *(self._endpoint, verdict.message, wait_s, _ADVICE.get(verdict.status_class, "")),
        )

    def raised(self, error: Exception, reason: str, wait_s: float) -> None:
        """Count and log an exception of this package or of the spool, after which sending pauses."""
        self._stats.errors += 1
        self._stats.failed(reason, now_s=self._clock())
        self._log(
            logging.ERROR,
            f"error {self._endpoint}",
            "Sending to /%s met an error of its own or of the spool (%s at %s: %s). Its records are "
            "kept, the next try is in %.0f s.",
            *(self._endpoint, type(error).__name__, place_of(error), error, wait_s),
        )

    def refused(self, verdict: Verdict) -> None:
        """Log records that Mixpanel did not take."""
        self._log(
            logging.WARNING,
            f"refused {self._endpoint}",
            "Mixpanel did not take everything sent to /%s: %s. Refused records are in the dead letters, "
            "with Mixpanel's reasons; correct the code that makes them.",
            *(self._endpoint, verdict.message),
        )

    def rejections(self, count: int, wait_s: float) -> None:
        """Log that `count` single records in a row were rejected."""
        self._log(
            logging.ERROR,
            f"poisons {self._endpoint}",
            "Mixpanel refused %d records in a row sent to /%s and took none between. That is more likely the "
            "configuration than the records: sending pauses for %.0f s. Check MIXPANEL_TOKEN and any proxy.",
            *(count, self._endpoint, wait_s),
        )

    def ambiguous(self, count: int) -> None:
        """Log records that Mixpanel may have applied; `answered` has counted them."""
        self._log(
            logging.WARNING,
            f"ambiguous {self._endpoint}",
            "Nobody knows whether Mixpanel has applied %s with $add, $append or $remove: now in the dead "
            "letters. See `mixpanel-visitor spool dead list`; send again with `... dead retry`, "
            "or have that done always with on_ambiguous='retry'.",
            several(count, "update"),
        )

    def inherited_ambiguous(self, count: int) -> None:
        """Count and log records whose outcome is unknown because the process that sent them has died."""
        self.ambiguous(count)
        self._stats.ambiguous += count
        self._stats.dead += count

    def crashing(self, count: int, crashes: int) -> None:
        """Count and log records that are set aside because processes die of them."""
        self._stats.dead += count
        self._log(
            logging.ERROR,
            f"lethal {self._endpoint}",
            "A record for /%s is in the dead letters because the process that sends it has died %d times. "
            "Look at it with `mixpanel-visitor spool dead list` before you send it again.",
            *(self._endpoint, crashes),
        )
