"""Tracker: joins the core and delivery. One per application; several apps may share it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Self

from .balance import balance
from .context import get_current
from .core.identity import DEVICE_PREFIX, Identity, from_any_id, from_known_ids
from .core.page_views import PageViews
from .core.scrubbing import Scrubber
from .core.visits import OfflineVisit
from .exchanges import Exchanges
from .ledger import Ledger
from .lifetime import EXIT_TIMEOUT_S, drain_at_exit, in_children
from .logs import QuietLog
from .outbox import Outbox
from .parts import Parts
from .settings import Settings
from .settings.redis_address import without_password
from .visitor import OfflineVisitor, Visitor, merged
from .writer import Writer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .core.exchange import Exchange
    from .core.handover import Word
    from .core.request import RequestFacts
    from .plan import Declared
    from .plan.guard import PlanGuard
    from .records import Record
    from .sdk import SpoolConsumer
    from .snippet import Snippet


class Tracker:
    """Accepts events, keeps them safe, delivers them to Mixpanel.

    The keyword arguments are the fields of `Settings`; what is not given comes from the environment. Wrong
    settings raise `SettingsError` here, all at once. Nothing is opened or started before the first request
    or event.
    """

    def __init__(self, settings: Settings | None = None, *, parts: Parts | None = None, **given: Any) -> None:
        self.settings = settings if settings is not None else Settings.resolve(given)
        parts = parts or Parts()
        self._ledger = Ledger()
        self._log = QuietLog(parts.monotonic)
        self._closed = False
        self._started = False
        self._outbox = Outbox(self.settings, parts, ledger=self._ledger, log=self._log)
        scrubber = Scrubber(self.settings.scrub)
        self._writer = Writer(
            token=self.settings.token,
            id_mode=self.settings.id_mode,
            lib_version=_version(),
            clock=parts.clock,
            insert_id=parts.insert_id,
            ledger=self._ledger,
            log=self._log,
            extra_properties=self.settings.extra_properties,
            before_send=self.settings.before_send,
            scrubber=scrubber,
            withdraw=self._withdraw,
            tell_local=self._outbox.tell_local,
            plan=self._plan_guard(),
            raise_errors=self.settings.on_error == "raise",
        )
        self._exchanges = Exchanges(
            self.settings,
            parts,
            ledger=self._ledger,
            log=self._log,
            refusal=self._refusal,
            scrubber=scrubber,
        )
        self._rules = self._exchanges.rules
        self._clock, self._fresh_id = parts.clock, parts.fresh_id
        self._page_views = PageViews(self.settings.page_views) if self.settings.page_views else None
        in_children(self._forget)

    @classmethod
    def from_env(cls, **given: Any) -> Self:
        """Build a tracker from the environment alone, with exceptions given as keywords."""
        return cls(Settings.from_env(**given))

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, object], **given: Any) -> Self:
        """Build a tracker from a mapping with keys such as `MIXPANEL_TOKEN`: Flask's config, a TOML table."""
        return cls(Settings.from_mapping(mapping, **given))

    def __repr__(self) -> str:
        return f"<Tracker to {self.settings.api_host} over {without_password(self.settings.spool)}>"

    @property
    def snippet(self) -> Snippet | None:
        """The script that hands the browser's ID over; None: the settings call for none."""
        return self._exchanges.snippet

    # --- for the adapters: none of these raises ---------------------------------------------------

    def seen_through(self, facts: RequestFacts) -> RequestFacts:
        """Give the facts as the first of the trusted proxies has seen them; adapters ask before all else."""
        return self._exchanges.addresses.seen_through(facts) if self.settings.trusted_proxies else facts

    def begin(self, facts: RequestFacts, *, soon: bool) -> tuple[Exchange, Visitor]:
        """Begin an exchange. `soon`: its records are committed by a thread, for callers in an event loop."""
        try:
            exchange = self._rules.open(facts, self._clock(), self._fresh_id)
        except Exception:
            self.failed("begin")
            exchange = self._exchanges.inert(facts)
        exchange.hand_over = self._hand_over_soon if soon else self._hand_over_now
        if not self._started:
            self.start()
        visitor = Visitor(exchange, self._writer, self._fresh_id)
        if exchange.links:
            exchange.announce = visitor.announce
        if self._page_views is not None and self._page_views.may_come(facts):
            exchange.view = visitor.view
        return exchange, visitor

    def heed(self, exchange: Exchange, visitor: Visitor, word: Word) -> None:
        """Take what the browser hands over; raises `HandoverError` where it cannot be believed."""
        before, allowed = exchange.identity, exchange.consent == "granted"
        exchange.heed(word, self._fresh_id)
        if allowed and exchange.consent == "denied":
            self._withdraw(before)
        exchange.announce = visitor.announce

    def respond(
        self, exchange: Exchange, status: int, headers: Sequence[tuple[str, str]], route: str | None = None
    ) -> list[tuple[str, str]]:
        """Give the headers to add to the response that is about to start; `route`: the URL's template."""
        try:
            if exchange.view is not None and status >= 200:
                exchange.viewed(status, headers, route)
            return exchange.respond(status, headers)
        except Exception:
            self.failed("respond")
            return []

    def hand_over(self, exchange: Exchange, *, soon: bool) -> None:
        """Commit what the exchange has queued so far."""
        records = exchange.take()
        if records:
            self._hand_over(records, soon=soon)

    def _hand_over_soon(self, exchange: Exchange) -> None:
        self.hand_over(exchange, soon=True)

    def _hand_over_now(self, exchange: Exchange) -> None:
        self.hand_over(exchange, soon=False)

    def finish(self, exchange: Exchange, *, soon: bool) -> None:
        """End the exchange and commit what is left; may be called more than once."""
        records = exchange.finish()
        if records:
            self._hand_over(records, soon=soon)

    def leaves_alone(self, facts: RequestFacts) -> bool:
        """Tell whether this request is none of our business."""
        return self._exchanges.leaves_alone(facts)

    def note(self, name: str) -> None:
        """Count something that happened, by name; `stats()` shows it."""
        self._ledger.note(name)

    def failed(self, where: str) -> None:
        """Note that our own code failed; called from an except block, so that the host never knows."""
        self._outbox.failed(where)

    def _hand_over(self, records: list[Record], *, soon: bool) -> None:
        try:
            if soon:
                self._outbox.store_soon(records)
            else:
                self._outbox.store(records)
        except Exception:
            self.failed("hand over")

    # --- outside of a request -----------------------------------------------------------------------

    def visitor(
        self, any_id: str | None = None, *, user_id: str | None = None, device_id: str | None = None
    ) -> OfflineVisitor:
        """Give a visitor for a job, a script or a test.

        `any_id` is a user's ID, or a visitor ID as `request.state.visitor_id` gives it: what begins with
        `$device:` or has the shape of a UUID is taken as a device ID. Where users' own IDs are UUIDs, say
        `user_id=` instead.
        """
        if (any_id is None) == (user_id is None and device_id is None):
            raise TypeError("visitor() takes either one ID, or user_id= and device_id=")
        if any_id is not None:
            identity = from_any_id(self.settings.id_mode, str(any_id))
        else:
            identity = from_known_ids(self.settings.id_mode, device_id=device_id, user_id=user_id)
        if not self._started:
            self.start()
        visit = OfflineVisit(
            identity, id_mode=self.settings.id_mode, refusal=self._refusal, store=self._outbox.store
        )
        return OfflineVisitor(visit, self._writer, fresh_id=self._fresh_id)

    def track(
        self,
        distinct_id: str,
        event: str | Declared,
        properties: Mapping[str, Any] | None = None,
        /,
        **more_properties: Any,
    ) -> None:
        """Store one event under exactly this distinct ID; it is durable when this returns."""
        identity: dict[str, Any] = {"distinct_id": distinct_id}
        if isinstance(distinct_id, str) and distinct_id.startswith(DEVICE_PREFIX):
            identity["$device_id"] = distinct_id.removeprefix(DEVICE_PREFIX)
        properties = merged(properties, more_properties)
        self._writer.event(self._anyone(), event, properties, identity=identity)

    def consumer(self) -> SpoolConsumer:
        """Give the official library a consumer: `mixpanel.Mixpanel(token, consumer=tracker.consumer())`."""
        from .sdk import SpoolConsumer  # noqa: PLC0415  # the official package takes 0.2 s to import

        return SpoolConsumer(self._writer, self._anyone())

    def _anyone(self) -> OfflineVisit:
        if not self._started:
            self.start()
        return OfflineVisit(
            Identity(device_id=None),
            id_mode=self.settings.id_mode,
            refusal=self._refusal,
            store=self._outbox.store,
        )

    # --- life ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to deliver, in this process; done by the first request or event, or by ASGI's lifespan."""
        self._started = True
        if self._closed:
            return
        drain_at_exit(self)  # a process that only stores has a queue to empty, too
        if self._outbox.stores:
            # Where others deliver, it only sees to it that the disk has what was put.
            self._outbox.sender.start()

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Wait until Mixpanel has acknowledged all that this process stored so far, in whatever spool.

        False: that is not known within `timeout_s`, as where another process delivers (`deliver=False`,
        Redis) and has not done it yet; `stats()` says where the events are. What was refused or
        dead-lettered is not waited for.
        """
        return self._outbox.flush(timeout_s)

    def drain(self, timeout_s: float = EXIT_TIMEOUT_S) -> bool:
        """Store what is queued, try to deliver it, let go of threads and files; the next event goes on.

        False: something stays in the spool for the next process.
        """
        self._started = False
        return self._outbox.drain(timeout_s)

    def close(self, timeout_s: float = 5.0) -> bool:
        """Stop accepting, drain, free; also done at exit. Events that come later are refused and counted."""
        self._closed = True
        return self.drain(timeout_s)

    def stats(self) -> dict[str, Any]:
        """Give the counters of this process.

        `accepted == delivered + pending + dead_lettered + sum(refused.values())`, always. `pending` counts
        what is in open requests (`buffered`) and what waits in the spool (`spooled`); `spool` holds the
        figures of the whole spool, with what earlier and other processes left there.
        """
        return balance(self._ledger, self._outbox.counts(), self._outbox.stats())

    # --- inside -------------------------------------------------------------------------------------

    def _plan_guard(self) -> PlanGuard | None:
        plan = self.settings.plan
        if plan is None:
            return None
        from .plan.guard import PlanGuard  # noqa: PLC0415  # who has no plan does not pay for it

        return PlanGuard(plan, ledger=self._ledger, log=self._log)

    def _refusal(self) -> str | None:
        if self._closed:
            return "closed"
        return None if self.settings.enabled else "disabled"

    def _withdraw(self, identity: Identity) -> None:
        if identity.is_new:
            return  # nobody has anything waiting under an ID that was made just now
        self._outbox.withdraw(each for each in (identity.device_id, identity.user_id, identity.uid) if each)

    def _forget(self) -> None:
        """In a forked child: what the parent accepted is the parent's."""
        self._ledger.reset()
        self._started = False
        visitor = get_current()
        if visitor is not None:
            visitor.forget()


def given_or_made(tracker: Tracker | None, settings: Mapping[str, Any]) -> Tracker:
    """Take the tracker that a middleware was given, or make one from its settings."""
    if tracker is None:
        return Tracker(**settings)
    if not isinstance(tracker, Tracker):
        raise TypeError(f"tracker= must be a mixpanel_visitor.Tracker, not {tracker!r}")
    if settings:
        raise TypeError(f"give either tracker= or settings, not both: {', '.join(sorted(settings))}")
    return tracker


def _version() -> str:
    try:
        return version("mixpanel-visitor")
    except PackageNotFoundError:
        return "0"
