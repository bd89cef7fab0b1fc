"""DeliveryPipeline: where a tracker's records go: spool, sender and background writer, as one."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from mixpanel_visitor.delivery.background_writer import BackgroundWriter
from mixpanel_visitor.delivery.sending import local_notice
from mixpanel_visitor.delivery.sending.sender import Sender
from mixpanel_visitor.delivery.spool import (
    BoundedSpool,
    CrashTrackingSpool,
    DirectorySpool,
    OptOutHistorySpool,
    OptOutSpool,
    SpoolCounts,
    SyncableSpool,
    VolatileSpool,
)
from mixpanel_visitor.delivery.spool_factory import open_spool
from mixpanel_visitor.delivery.subject_digest import digests
from mixpanel_visitor.errors import SpoolError, SpoolFullError
from mixpanel_visitor.observability.rate_limited_log import logger
from mixpanel_visitor.process import threads
from mixpanel_visitor.process.exit_hooks import drain_at_exit
from mixpanel_visitor.process.imports import importing
from mixpanel_visitor.process.reentry import catch_up, guarded, here, late
from mixpanel_visitor.quoting import several
from mixpanel_visitor.records import ENDPOINTS
from mixpanel_visitor.settings.project import project_of

from . import recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mixpanel_visitor.delivery.flags.fetcher import Answer
    from mixpanel_visitor.delivery.flags.refresher import FlagFigures, FlagRefresher
    from mixpanel_visitor.delivery.sending.http_client import MixpanelAPI, Response
    from mixpanel_visitor.delivery.sending.pass_through import PassThrough
    from mixpanel_visitor.delivery.sending.stats import SenderFigures
    from mixpanel_visitor.delivery.spool import Spool
    from mixpanel_visitor.observability.counters import EventCounters
    from mixpanel_visitor.observability.rate_limited_log import RateLimitedLog
    from mixpanel_visitor.records import Endpoint, Record
    from mixpanel_visitor.settings import Settings

    from .dependencies import Dependencies
    from .flags import VisitorFlags

_POLL_S = 0.02
_WITHDRAW_S = 0.5


class DeliveryPipeline:
    """Stores and delivers by one tracker's settings; nothing is opened or started before it has to be."""

    def __init__(
        self,
        settings: Settings,
        dependencies: Dependencies,
        *,
        counters: EventCounters,
        log: RateLimitedLog,
        flags: VisitorFlags | None = None,
    ) -> None:
        self._settings = settings
        self._dependencies = dependencies
        self._counters = counters
        self._log = log
        self.stores = settings.enabled and not settings.dry_run
        self.delivers = settings.deliver and self.stores
        self._counts = SpoolCounts()
        self._unstored = self._flushed_unstored = 0
        self._owns_spool = dependencies.spool is None
        self.spool: Spool = dependencies.spool or open_spool(
            settings.spool,
            project=project_of(settings.token),
            waits=settings.durability != "after-response",
        )
        # Asked once: isinstance with a Protocol takes longer than the rest of resuming a visitor.
        self._opt_out_history = self.spool if isinstance(self.spool, OptOutHistorySpool) else None
        crash_tracking = self.spool if isinstance(self.spool, CrashTrackingSpool) else None
        self._bounded = self.spool if isinstance(self.spool, BoundedSpool) else None
        self._api: MixpanelAPI | None = None
        self._pass_through: PassThrough | None = None
        self._flags = flags
        self._flag_refresher = None if flags is None else self._make_refresher(flags)
        self.sender = Sender(
            self.spool,
            dependencies.post or self._post,
            post_within=None if dependencies.post else self._post_within,
            clock=dependencies.clock,
            monotonic=dependencies.monotonic,
            endpoints=ENDPOINTS if self.delivers else (),
            sync=self._round_callback(),
            log=log,
            crash_tracking=crash_tracking,
            revision=self.spool.revision if isinstance(self.spool, OptOutSpool) else None,
            retry_ambiguous=settings.on_ambiguous == "retry",
        )
        self.background_writer = BackgroundWriter(self.store)

    def _round_callback(self) -> Callable[[], None] | None:
        """Return what the sender's thread calls in each round, besides sending; None: nothing."""
        sync = self.spool.sync if isinstance(self.spool, SyncableSpool) else None
        refresher = self._flag_refresher
        if refresher is None:
            return sync

        def run_each_round() -> None:
            if sync is not None:
                sync()
            refresher.refresh()

        return run_each_round

    def _make_refresher(self, flags: VisitorFlags) -> FlagRefresher:
        from mixpanel_visitor.delivery.flags import refresher  # noqa: PLC0415  # late: for flags only

        is_local = local_notice.is_local(self._settings.api_host)
        return refresher.FlagRefresher(
            self.spool,
            flags,
            fetch=self._fetch_function(),
            every_s=refresher.LOCAL_EVERY_S if is_local else refresher.FETCH_EVERY_S,
            is_paused=lambda: recorder.active() is not None,
            clock=self._dependencies.clock,
            monotonic=self._dependencies.monotonic,
            log=self._log,
        )

    def _fetch_function(self) -> Callable[[str], Answer] | None:
        fetch = self._dependencies.fetch_flags
        if not self.delivers or fetch is not None or self._dependencies.post is not None:
            return fetch if self.delivers else None
        from mixpanel_visitor.delivery.flags.fetcher import DefinitionsFetcher  # noqa: PLC0415

        settings, account = self._settings, self._settings.service_account
        return DefinitionsFetcher(
            settings.api_host,
            settings.token,
            (account.username, account.secret, account.project_id) if account else None,
            proxy=settings.proxy,
        ).fetch

    def load_flags(self, *, may_lead: bool) -> None:
        """Take the definitions of feature flags from the disk, so that the first request has them.

        Then begin to fetch, where this process leads; one without a thread that delivers must not
        (`may_lead`). From Redis the sender's thread gets them.
        """
        if self._flag_refresher is not None and self._is_local_spool:
            guarded(self._flag_refresher.refresh)(at_once=True, may_lead=may_lead)

    @property
    def _is_local_spool(self) -> bool:
        """Whether the spool is on this machine."""
        return isinstance(self.spool, (DirectorySpool, VolatileSpool))

    def flag_stats(self) -> FlagFigures | None:
        """Return the counts of feature flags; None: they are off."""
        if self._flag_refresher is None or self._flags is None:
            return None
        return self._flag_refresher.figures(
            definitions=len(self._flags.definitions.flags), malformed=self._flags.malformed
        )

    def forget_flag_counts(self) -> None:
        """Reset the counts in a forked child, which keeps the definitions of its parent."""
        if self._flag_refresher is not None and self._flags is not None:
            self._flag_refresher.forget()
            self._flags.malformed = 0

    def store(self, records: list[Record]) -> None:
        """Put records into the spool, or refuse and count them; never raises."""
        if self._is_diverted(records):
            return
        if here.inside:
            # A signal handler, a finalizer or a log handler, while this very thread is in a spool.
            late.append(partial(self.store, records))
            return
        self._put(records)

    def store_within_share(self, records: list[Record], max_share: float) -> bool:
        """Put records into the spool unless more than a share of it is used; never raises.

        Return whether they are stored. If not, they are counted as refused, and not stored later.
        """
        if self._is_diverted(records):
            return True
        if here.inside:
            self._counters.refuse("internal_error", len(records))
            return False
        return self._put(records, max_share)

    def _is_diverted(self, records: list[Record]) -> bool:
        """Pass records to the test that captures, or log them in a dry run; False: they have to be stored."""
        catcher = recorder.active()
        if catcher is not None:
            catcher.catch(records)
            self._counters.refuse("captured", len(records))
            return True
        if self._settings.dry_run:
            for record in records:
                logger.info("dry run, not sent: %s %s", record.endpoint, record.body.decode())
            self._counters.refuse("dry_run", len(records))
            return True
        return False

    def _put(self, records: list[Record], max_share: float | None = None) -> bool:
        here.inside = True
        try:
            if max_share is not None and self._bounded is not None:
                _check_share(self._bounded.fill(), max_share)
            self.spool.put(records)
        except SpoolError as error:
            if max_share is None:  # else the browser sends them again
                self._unstored += 1
            self._counters.refuse(error.reason, len(records))
            subject = several(len(records), "event was", "events were")
            self._log(logging.ERROR, error.reason, "%s refused: %s", subject, error)
            return False
        except Exception:
            self._counters.refuse("internal_error", len(records))
            self.failed("commit")
            return False
        else:
            self._counters.commit(len(records))
            if self.delivers:
                self.sender.notify(len(records))
            return True
        finally:
            here.inside = False
            if late:
                catch_up()

    def store_soon(self, records: list[Record]) -> None:
        """Have a thread store them, unless the settings say that it has to be done before the response."""
        if self._settings.durability == "after-response" and recorder.active() is None:
            self.background_writer.submit(records)
        else:
            self.store(records)

    def pass_through(self) -> PassThrough:
        """Return what passes a browser's requests on to Mixpanel; nothing is opened yet."""
        with importing:  # late: for collectors only
            from mixpanel_visitor.delivery.sending.http_client import MixpanelAPI  # noqa: PLC0415
            from mixpanel_visitor.delivery.sending.pass_through import PassThrough  # noqa: PLC0415

        if self._pass_through is None:
            settings = self._settings
            self._pass_through = PassThrough(
                lambda: MixpanelAPI(settings.api_host, settings.token, proxy=settings.proxy),
                monotonic=self._dependencies.monotonic,
            )
        return self._pass_through

    def withdraw(self, ids: Iterable[str]) -> None:
        """Keep the waiting records of an opted-out visitor from being sent; never raises."""
        if here.inside:
            late.append(partial(self.withdraw, list(ids)))
            return
        try:
            self.background_writer.drain(_WITHDRAW_S)  # its records must come before the opt-out
            if isinstance(self.spool, OptOutSpool):
                guarded(self.spool.withdraw)(digests(ids))
        except Exception:
            self.failed("opt-out")

    def opted_out_since(self, ids: Iterable[str], since_ms: int) -> bool:
        """Return whether one of these IDs has opted out since then, as far as the spool knows; never raises.

        Where a disk or server is away, that is not known: it is counted and the result is False.
        """
        history = self._opt_out_history
        if here.inside or history is None:
            return False
        try:
            return guarded(history.opted_out_since)(digests(ids), since_ms)
        except SpoolError as error:
            self._counters.note("opt_out_unknown")
            self._log(
                logging.WARNING,
                "opt_out_unknown",
                "Whether a visitor of a job has opted out since is not known (%s); their events are tracked.",
                error,
            )
        except Exception:
            self.failed("opt-out")
        return False

    def notify_local(self, message: str) -> None:
        """Show in a local Mixpanel why something is not sent."""
        host_url = self._settings.api_host
        if not (self.delivers and self._dependencies.post is None and local_notice.is_local(host_url)):
            return
        # Where no thread can be started, the message is only in the log.
        threads.start("mixpanel-visitor-tell", local_notice.tell, host_url, message)

    def failed(self, operation: str) -> None:
        """Count and log that our own code failed; called from an except block."""
        self._counters.note("internal_error")
        self._log(
            logging.ERROR,
            f"internal {operation}",
            "mixpanel-visitor failed in %s; the request went on without it. Please report this.",
            operation,
            exc_info=True,
        )

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything this process stored so far is acknowledged; False: not within `timeout_s`.

        Also False where the spool has refused an event since the last flush, and at once where this thread
        would wait for itself: in a handler that has interrupted it in the spool or the sender.
        """
        deadline_s = self._dependencies.monotonic() + timeout_s
        unstored, self._flushed_unstored = self._unstored - self._flushed_unstored, self._unstored
        if here.inside or self.sender.is_mine() or not self.background_writer.drain(timeout_s):
            return False
        catch_up()
        while self.counts().pending:
            remaining_s = deadline_s - self._dependencies.monotonic()
            if remaining_s <= 0:
                return False
            if self.delivers:
                self.sender.request_flush()
                if not self.sender.start():
                    self.sender.drain(remaining_s)
            self._dependencies.wait(min(_POLL_S, remaining_s))
        return not unstored

    def drain(self, timeout_s: float) -> bool:
        """Store what is queued, try to deliver it, end threads, close files; the next event reopens them."""
        if here.inside or self.sender.is_mine():
            return False
        catch_up()
        deadline_s = self._dependencies.monotonic() + timeout_s

        def remaining_s() -> float:
            return max(_POLL_S, deadline_s - self._dependencies.monotonic())

        settled = self.background_writer.stop(remaining_s())
        if self.delivers:
            settled = self.sender.drain(remaining_s()) and settled
        self.sender.stop(remaining_s())
        guarded(self.spool.close)()
        if self._api is not None:
            self._api.close(remaining_s())
        if self._pass_through is not None:
            self._pass_through.close()
        return settled and not self.counts().pending

    def retire(self) -> None:
        """Deliver what is left, then end threads and close files, for the tracker is gone.

        Where the spool outlives this process, one round is enough: another process or tracker delivers the
        rest. Only sets flags, for a finalizer may run at any moment.
        """
        drain_at_exit(self)
        self.background_writer.retire()
        self.sender.retire(self._may_stop, self._close)

    def _may_stop(self) -> bool:
        return not (
            self.background_writer.waiting
            or (isinstance(self.spool, VolatileSpool) and self.counts().pending)
        )

    def _close(self) -> None:
        try:
            if self._owns_spool:
                guarded(self.spool.close)()
            if self._api is not None:
                self._api.close()
            if self._pass_through is not None:
                self._pass_through.close()
        except Exception:
            self.failed("retire")

    def counts(self) -> SpoolCounts:
        """Return the counts of the spool; the last ones where this thread was interrupted in the spool."""
        if not here.inside:
            self._counts = guarded(self.spool.counts)()
        return self._counts

    def stats(self) -> SenderFigures:
        """Return the stats of the sender."""
        return self.sender.stats()

    def _post(self, endpoint: Endpoint, bodies: Sequence[bytes]) -> Response:
        return self._post_within(endpoint, bodies, None)

    def _post_within(self, endpoint: Endpoint, bodies: Sequence[bytes], timeout_s: float | None) -> Response:
        # Late, in the sender's thread: `ssl`, `http.client` and what they import take long.
        with importing:
            from mixpanel_visitor.delivery.sending.http_client import MixpanelAPI, Response  # noqa: PLC0415

        if recorder.active() is not None:
            return Response(status=0, failure="refused: a test captures what is tracked")
        if self._api is None:
            account = self._settings.service_account
            self._api = MixpanelAPI(
                self._settings.api_host,
                self._settings.token,
                service_account=(account.username, account.secret, account.project_id) if account else None,
                proxy=self._settings.proxy,
                on_sent=self.spool.note_sent if isinstance(self.spool, CrashTrackingSpool) else None,
            )
        return self._api.post(endpoint, bodies, timeout_s=timeout_s)


def _check_share(fill: float, max_share: float) -> None:
    if fill > max_share:
        raise SpoolFullError(
            f"The browser's events may fill {max_share:.0%} of the spool, and {fill:.0%} of it is used. They "
            "are refused until some are delivered, and wait in the browsers; the server's own are stored. "
            "Check that Mixpanel is reachable."
        )
