"""Engine: what is behind a `Tracker`. It joins core and delivery, for the adapters and for the tracker.

`Tracker` is the public API; `Engine` has what middlewares and doors need besides. They get it with
`tracker.engine_of`.
"""

from __future__ import annotations

import logging
import weakref
from typing import TYPE_CHECKING, cast

from mixpanel_visitor import release
from mixpanel_visitor.core.detached_exchange import DetachedExchange
from mixpanel_visitor.core.events.redaction import Redactor
from mixpanel_visitor.core.identity.identity import Identity
from mixpanel_visitor.core.identity.spid_browser import sign_traits
from mixpanel_visitor.observability.counters import EventCounters
from mixpanel_visitor.observability.rate_limited_log import RateLimitedLog, call_site
from mixpanel_visitor.process.exit_hooks import drain_at_exit
from mixpanel_visitor.process.fork import call_after_fork
from mixpanel_visitor.settings.validation import NO_TOKEN

from . import recorder
from .automatic_events import track_merge, track_page_view
from .event_builder import EventBuilder
from .exchange_factory import ExchangeFactory
from .offline_visitor import OfflineVisitor
from .pipeline import DeliveryPipeline
from .stats import build_stats
from .visitor import Visitor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mixpanel_visitor.core.exchange import Exchange
    from mixpanel_visitor.core.exported_visitor import ExportedVisitor
    from mixpanel_visitor.core.identity.handover import HandoverClaim
    from mixpanel_visitor.core.request import RequestFacts
    from mixpanel_visitor.core.site_rules import Unfinished
    from mixpanel_visitor.plan import Plan
    from mixpanel_visitor.plan.checker import PlanGuard
    from mixpanel_visitor.records import Record
    from mixpanel_visitor.settings import Settings

    from .browser_events import BrowserEvents
    from .dependencies import Dependencies
    from .flags import VisitorFlags
    from .handover_script import HandoverScript
    from .stats import Stats


_STORE_TIMEOUT_S = 1.0


class Engine:
    """Begins and ends exchanges, stores and delivers their records, by one tracker's settings."""

    def __init__(self, settings: Settings, dependencies: Dependencies) -> None:
        self.settings = settings
        self._counters = EventCounters()
        self._log = RateLimitedLog(dependencies.monotonic)
        self._closed = False
        self._started = False
        self.waits_for_delivery = settings.durability == "delivered"
        self._flags = self._visitor_flags(dependencies)
        self.pipeline = DeliveryPipeline(
            self.settings, dependencies, counters=self._counters, log=self._log, flags=self._flags
        )
        self._redactor = redactor = Redactor(self.settings.scrub)
        self._factory = ExchangeFactory(
            self.settings,
            dependencies,
            counters=self._counters,
            log=self._log,
            refusal=self._refusal,
            opted_out_since=self.pipeline.opted_out_since,
            redactor=redactor,
        )
        self._rules = self._factory.rules
        self.exports = self._factory.exports
        self.event_builder = EventBuilder(
            token=self.settings.token,
            id_mode=self.settings.id_mode,
            lib_version=release.VERSION,
            clock=dependencies.clock,
            insert_id=dependencies.insert_id,
            counters=self._counters,
            log=self._log,
            extra_properties=self.settings.extra_properties,
            before_send=self.settings.before_send,
            redactor=redactor,
            commit=self._commit,
            withdraw=self._withdraw,
            export=self.exports.export,
            notify_local=self.pipeline.notify_local,
            plan=self._plan_guard(),
            flags=self._flags,
            raise_errors=self.settings.on_error == "raise",
        )
        self._clock, self._fresh_id = dependencies.clock, dependencies.fresh_id
        self._insert_id, self.monotonic = dependencies.insert_id, dependencies.monotonic
        call_after_fork(self._reset_after_fork)
        weakref.finalize(self, self.pipeline.retire).atexit = False  # at exit it is drained
        recorder.register(self)

    @property
    def handover_script(self) -> HandoverScript | None:
        """The script that hands the browser's ID over; None: the settings need none."""
        return self._factory.handover_script

    @property
    def counters(self) -> EventCounters:
        """What this process has accepted, refused and stored."""
        return self._counters

    def browser_events(self) -> BrowserEvents:
        """Return what makes records of the browser's own events; for the collector."""
        from .browser_events import BrowserEvents  # noqa: PLC0415  # late: for collectors only

        return BrowserEvents(
            self.settings,
            clock=self._clock,
            insert_id=self._insert_id,
            redactor=self._redactor,
            plan=self._plan_guard(),
            counters=self._counters,
            log=self._log,
        )

    # --- for the adapters: none of these raises ---------------------------------------------------

    def behind_proxies(self, facts: RequestFacts) -> RequestFacts:
        """Return the request as the first trusted proxy has seen it; to be called before `begin`."""
        return self._factory.addresses.behind_proxies(facts) if self.settings.trusted_proxies else facts

    def client_ip(self, facts: RequestFacts) -> str:
        """Return what is sent as a client's address, by the setting `client_ip`; `"0"`: no address."""
        return self._factory.addresses.event_ip(facts.client)

    def begin(self, facts: RequestFacts, *, in_background: bool) -> tuple[Exchange, Visitor]:
        """Begin an exchange. `in_background`: a thread commits its records, for callers in an event loop."""
        opener = self._factory.opener
        try:
            exchange = opener.open(facts, self._clock(), in_background)
        except Exception:
            self.failed("begin")
            exchange = opener.open_inert(facts)
        if not self._started:
            self.start()
        return exchange, Visitor(exchange, self.event_builder, self._fresh_id)

    def apply_handover(self, exchange: Exchange, claim: HandoverClaim) -> str | None:
        """Take the IDs that the browser has posted; raise `HandoverError` where they are not valid.

        Return the reason why they were not taken; None: they were.
        """
        identity_before, was_tracked = exchange.identity, exchange.consent == "granted"
        reason = exchange.apply_handover(claim, self._fresh_id)
        if was_tracked and exchange.consent == "denied":
            self._withdraw(identity_before)
        return reason

    def on_response_start(
        self,
        exchange: Exchange,
        status: int,
        read_headers: Callable[[], Sequence[tuple[str, str]]],
        read_route: Callable[[], str | None] | None = None,
    ) -> list[tuple[str, str]]:
        """Return the headers to add to the response whose head is about to go out.

        `read_headers` returns its headers, `read_route` the template of its URL (None: not known). Both
        are only called where they matter.
        """
        if exchange.may_be_page_view:
            self._track_page_view(exchange, status, read_headers, read_route)
        try:
            headers, merge_events = exchange.on_response_start(status, read_headers)
            for merge in merge_events:
                track_merge(self.event_builder, exchange, merge)
        except Exception:
            self.failed("the response's head")
            return []
        return headers

    def commit(self, exchange: Unfinished, *, in_background: bool) -> None:
        """Commit what the exchange has queued so far."""
        records = exchange.take()
        if records:
            self._commit(records, in_background)

    def commit_before_response(self, exchange: Exchange) -> None:
        """Commit what the exchange has queued so far, and wait for its delivery if the settings say so.

        For the moment before any part of a response that may be its last one.
        """
        self.commit(exchange, in_background=False)
        if self.waits_for_delivery:
            self.wait_for_delivery()

    def wait_for_delivery(self) -> None:
        """Wait until Mixpanel has acknowledged what is stored, at most `delivery_timeout_s`; blocks."""
        try:
            if not self.pipeline.flush(self.settings.delivery_timeout_s):
                self.note("delivery_timeout")
        except Exception:
            self.failed("delivery")

    def on_response_end(self, exchange: Exchange, *, in_background: bool) -> None:
        """End the exchange and commit what is left; may be called more than once.

        Where the caller commits, not a thread, it waits for the delivery if the settings say so.
        """
        merge = exchange.on_response_end()
        if merge is not None:
            track_merge(self.event_builder, exchange, merge)
        if exchange.pending is not None and (records := exchange.take()):
            self._commit(records, in_background)
            if self.waits_for_delivery and not in_background:
                self.wait_for_delivery()

    def sign_traits(self, traits: Mapping[str, object]) -> str:
        """Return the text that `VGS.setTraits` takes; where there is none, the empty text, and a log line."""
        try:
            return sign_traits(traits, self.settings.spid_sign_secret, now_s=self._clock())
        except ValueError as error:
            if self.settings.on_error == "raise":
                raise
            self._log(logging.WARNING, "sign_traits", "sign_traits (%s): %s", call_site(), error)
            return ""

    def is_excluded(self, facts: RequestFacts) -> bool:
        """Return whether `request_filter` excludes this request."""
        return self._factory.is_excluded(facts)

    def note(self, name: str) -> None:
        """Count a note by name; `stats()` shows it."""
        self._counters.note(name)

    def failed(self, operation: str) -> None:
        """Count and log that our own code failed; called from an except block."""
        self.pipeline.failed(operation)

    def _commit(self, records: Sequence[Record], in_background: bool) -> None:
        try:
            if in_background:
                self.pipeline.store_soon(list(records))
            else:
                self.pipeline.store(list(records))
        except Exception:
            self.failed("commit")

    # --- outside of a request -----------------------------------------------------------------------

    def visitor(self, identity: Identity, *, refusal: str | None = None) -> OfflineVisitor:
        """Return a visitor for a job, a script or a test; `refusal`: why they are not tracked."""
        return self._offline_visitor(self.detached(identity, refusal=refusal))

    def resume(self, text: object, *, max_age_s: float) -> OfflineVisitor:
        """Return the visitor of an exported text; it tracks nothing where it cannot or may not be resumed."""
        exported, refusal = self.exports.read(text, max_age_s=max_age_s)
        identity = None if exported is None else exported.identity
        exchange = self.detached(identity, refusal=refusal, resumed=exported)
        if self._flags is not None and exported is not None and exported.flags:
            self._flags.restore(exchange, exported.flags)
        return self._offline_visitor(exchange)

    def _offline_visitor(self, exchange: DetachedExchange) -> OfflineVisitor:
        return OfflineVisitor(exchange, self.event_builder, fresh_id=self._fresh_id, end=self._end_batch)

    def _track_page_view(
        self,
        exchange: Exchange,
        status: int,
        read_headers: Callable[[], Sequence[tuple[str, str]]],
        read_route: Callable[[], str | None] | None,
    ) -> None:
        try:
            if exchange.is_page_view(status, read_headers()):
                track_page_view(self.event_builder, exchange, None if read_route is None else read_route())
        except Exception:
            self.failed("the page view")

    def _end_batch(self, exchange: DetachedExchange) -> None:
        merge = exchange.end()
        if merge is not None:
            track_merge(self.event_builder, exchange, merge)
        self.commit(exchange, in_background=False)

    def detached(
        self,
        identity: Identity | None = None,
        *,
        refusal: str | None = None,
        resumed: ExportedVisitor | None = None,
    ) -> DetachedExchange:
        """Return an exchange outside of a request; without an `identity` it has no visitor."""
        if not self._started:
            self.start()
        return DetachedExchange(
            Identity(device_id=None) if identity is None else identity,
            id_mode=self.settings.id_mode,
            refusal=self._refusal if refusal is None else lambda: self._refusal() or refusal,
            refuse=self._counters.refuse,
            unfinished=self._rules.unfinished,
            resumed=resumed,
        )

    # --- life ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to deliver, in this process; done by the first request or event, or by ASGI's lifespan."""
        self._started = True
        if self._closed:
            return
        drain_at_exit(self)  # also where this process only stores: it has a queue
        if self.pipeline.stores:
            # Where another process delivers, the sender only syncs the spool to the disk.
            is_sending = self.pipeline.sender.start()
            self.pipeline.load_flags(may_lead=is_sending)

    def flush(self, timeout_s: float) -> bool:
        """Wait until Mixpanel has acknowledged everything so far; False: not within `timeout_s`.

        Also False where records wait for the head of their response, because these cannot be committed.
        """
        complete = self._commit_unfinished()
        return self.pipeline.flush(timeout_s) and complete

    def drain(self, timeout_s: float) -> bool:
        """Store what is queued, try to deliver it, end threads and close files; the next event reopens them.

        False: records stay in the spool for the next process.
        """
        self._started = False
        self._commit_unfinished()
        return self.pipeline.drain(timeout_s)

    def close(self, timeout_s: float) -> bool:
        """Stop accepting, and drain."""
        self._closed = True
        return self.drain(timeout_s)

    def stats(self) -> Stats:
        """Return the counters of this process."""
        return build_stats(
            self._counters, self.pipeline.counts(), self.pipeline.stats(), self.pipeline.flag_stats()
        )

    def store_unfinished(self) -> None:
        """Store what open requests and jobs hold, and what waits for a thread to store it."""
        self._commit_unfinished()
        self.pipeline.background_writer.drain(_STORE_TIMEOUT_S)

    # --- inside -------------------------------------------------------------------------------------

    def _commit_unfinished(self) -> bool:
        """Commit what open requests and jobs hold; False: some wait for the heads of their responses."""
        complete = True
        for exchange in list(self._rules.unfinished):
            self.commit(exchange, in_background=False)
            complete = complete and not exchange.holds_back
        return complete

    def _plan_guard(self) -> PlanGuard | None:
        if self.settings.plan is None:
            return None
        from mixpanel_visitor.plan.checker import PlanGuard  # noqa: PLC0415  # late: for plans only

        plan = cast("Plan", self.settings.plan)  # the settings are below the plan's room
        return PlanGuard(plan, counters=self._counters, log=self._log)

    def _visitor_flags(self, dependencies: Dependencies) -> VisitorFlags | None:
        if self.settings.flags == "off":
            return None
        from .flags import VisitorFlags  # noqa: PLC0415  # late: for flags only

        return VisitorFlags(
            token=self.settings.token,
            id_mode=self.settings.id_mode,
            counters=self._counters,
            log=self._log,
            clock=dependencies.clock,
        )

    def _refusal(self) -> str | None:
        if self._closed:
            return "closed"
        if self.settings.token == NO_TOKEN and recorder.active() is None:
            return "no_token" if self.settings.enabled else "disabled"  # made while a test captured
        return None if self.settings.enabled else "disabled"

    def _withdraw(self, identity: Identity) -> None:
        if identity.is_new:
            return  # no record waits under an ID of this request
        self.pipeline.withdraw(each for each in (identity.device_id, identity.user_id, identity.uid) if each)

    def _reset_after_fork(self) -> None:
        """Drop counts and records in a forked child: they are the parent's."""
        self._counters.reset()
        self._started = False
        self.pipeline.forget_flag_counts()
        for exchange in list(self._rules.unfinished):
            exchange.forget()
