"""VisitorExports: turns visitors into texts for jobs and other services, and reads these texts."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from mixpanel_visitor.core.carried_exchange import HEADER
from mixpanel_visitor.core.carried_exchange import MAX_AGE_S as HEADER_MAX_AGE_S
from mixpanel_visitor.core.events.encoding import properties_of
from mixpanel_visitor.core.exported_visitor import ExportedVisitor, ExportError, VisitorExportCodec
from mixpanel_visitor.core.request import JobFacts
from mixpanel_visitor.observability.rate_limited_log import call_site

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mixpanel_visitor.core.policy import Consent
    from mixpanel_visitor.core.request import RequestFacts
    from mixpanel_visitor.observability.counters import EventCounters
    from mixpanel_visitor.observability.rate_limited_log import RateLimitedLog
    from mixpanel_visitor.settings import Settings

    from .event_builder import Sink

MAX_AGE_S = 86_400.0
"""How long after its request a job may run, by default."""

AGE_LIMIT_S = 7 * 86_400.0
"""The longest `max_age_s`: opt-outs are remembered for that long."""

_JOB_QUEUES = ("celery", "dramatiq", "rq", "taskiq")
"""The packages for which there is a door."""


class VisitorExports:
    """Makes the texts of one tracker's visitors, and reads those that come back; neither raises."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float],
        consent: Callable[[RequestFacts], Consent] | None,
        opted_out_since: Callable[[Iterable[str], int], bool],
        counters: EventCounters,
        log: RateLimitedLog,
    ) -> None:
        self._codec = VisitorExportCodec(settings.secret_key, token=settings.token)
        self._clock = clock
        self._consent = consent
        self._opted_out_since = opted_out_since
        self._counters = counters
        self._log = log
        self._has_advised = False

    def export(self, scope: Sink) -> str:
        """Return a visitor as text; `""`, counted, where they may not be tracked."""
        refusal = scope.refusal
        if refusal is not None:
            self._counters.note(f"export_{refusal}")
            return ""
        try:
            exported_at_ms = scope.exported_at_ms
            text, omitted = self._codec.encode(
                ExportedVisitor(
                    scope.identity,
                    # A resumed visitor keeps the time of the first export.
                    int(self._clock() * 1000) if exported_at_ms is None else exported_at_ms,
                    properties_of(scope.request_properties.parts),
                    scope.registered,
                    _variants(scope),
                )
            )
        except Exception as error:
            reason = error.reason if isinstance(error, ExportError) else None
            self._counters.note(reason or "export_failed")
            self._log(
                logging.ERROR,
                f"export {reason}",
                "visitor.export() at %s: a job will not track for this visitor: %s",
                call_site(),
                error,
                exc_info=reason is None,
            )
            return ""
        if omitted:
            self._counters.note("export_cut")
            self._log(
                logging.WARNING,
                f"export_cut {omitted}",
                "visitor.export() at %s had no room for %s; events of the job go without. Register fewer or "
                "shorter super properties.",
                call_site(),
                ", ".join(omitted),
            )
        return text

    def read(self, text: object, *, max_age_s: float) -> tuple[ExportedVisitor | None, str | None]:
        """Return the visitor of a text, and why they may not be tracked (None: they may)."""
        now_s = self._clock()
        try:
            visitor = self._codec.decode(text, now_s=now_s, max_age_s=min(max_age_s, AGE_LIMIT_S))
        except ExportError as error:
            self._counters.note(error.reason)
            if error.reason != "resume_empty":
                self._log(
                    logging.WARNING,
                    error.reason,
                    "tracker.resume() at %s: what this job tracks is refused (%s): %s",
                    call_site(),
                    error.reason,
                    error,
                )
            return None, error.reason
        return visitor, self._refusal(visitor)

    def as_of_now(self, text: str) -> str:
        """Return what was exported as of this moment, for a request that is made now; `""` stays `""`."""
        try:
            visitor = self._codec.decode(text, now_s=self._clock(), max_age_s=AGE_LIMIT_S)
            return self._codec.encode(visitor._replace(exported_at_ms=int(self._clock() * 1000)))[0]
        except ExportError:  # such as the visitor of another tracker
            return ""

    def read_header(self, text: str) -> tuple[ExportedVisitor | None, str | None]:
        """Return the visitor of a service's request, and why they may not be tracked (None: they may).

        The spool is not asked for opt-outs: that may block an event loop, and the text is only minutes old.
        """
        try:
            visitor = self._codec.decode(text, now_s=self._clock(), max_age_s=HEADER_MAX_AGE_S)
        except ExportError as error:
            self._counters.note(error.reason)
            self._log(
                logging.WARNING,
                f"header {error.reason}",
                "The header %s of another service is not believed (%s): %s",
                HEADER,
                error.reason,
                error,
            )
            return None, error.reason
        return visitor, self._consent_refusal(visitor)

    def advise_jobs(self) -> None:
        """Log once, where a job queue is imported, what a device ID does not tell a job."""
        job_queue = next((each for each in _JOB_QUEUES if each in sys.modules), None)
        if job_queue is None or self._has_advised:
            return
        self._has_advised = True
        self._log(
            logging.WARNING,
            "jobs",
            "tracker.visitor(device_id=...) at %s, in a process that uses %s: a job that is given IDs does "
            "not know whether the visitor has opted out or is a bot, and tracks them all the same. Give it "
            "`visitor.export()` and use `tracker.resume(...)`, or install mixpanel_visitor.%s.",
            call_site(),
            job_queue,
            job_queue,
        )

    def _refusal(self, visitor: ExportedVisitor) -> str | None:
        identity = visitor.identity
        ids = [each for each in (identity.device_id, identity.user_id, identity.uid) if each]
        if self._opted_out_since(ids, visitor.exported_at_ms):
            return "consent_denied"
        return self._consent_refusal(visitor)

    def _consent_refusal(self, visitor: ExportedVisitor) -> str | None:
        if self._consent is None:
            return None
        identity = visitor.identity
        consent = self._consent(JobFacts(identity.device_id, identity.user_id))
        return None if consent == "granted" else f"consent_{consent}"


def _variants(scope: Sink) -> Mapping[str, str | None] | None:
    """Return the variants' keys of the feature flags that were decided; a job sees what its request saw."""
    decisions = scope.flag_decisions
    if not decisions:
        return None
    return {key: None if each.variant is None else each.variant.key for key, each in decisions.items()}
