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
        # To ask a Protocol takes longer than all else that resuming a visitor does.
        self._opt_out_history = self.spool if isinstance(self.spool, OptOutHistorySpool) else None
        crash_tracking = self.spool if isinstance(self.spool, CrashTrackingSpool) else None
        self._bounded = self.spool if isinstance(self.spool, BoundedSpool) else None
        self._api: MixpanelAPI | None = None
        self._pass_through: PassThrough | None = None
        self._flags = flags
        self._flag_refresher = None if flags is None else self._refresher(flags)
        self.sender = Sender(
            self.spool,
            dependencies.post or self._post,
            post_within=None if dependencies.post else self._post_within,
            clock=dependencies.clock,
            monotonic=dependencies.monotonic,
            endpoints=ENDPOINTS if self.delivers else (),
            sync=self._each_round(),
            log=log,
            crash_tracking=crash_tracking,
            revision=self.spool.revision if isinstance(self.spool, OptOutSpool) else None,
            retry_ambiguous=settings.on_ambiguous == "retry",
        )
        self.committer = BackgroundWriter(self.store)

    def _each_round(self) -> Callable[[], None] | None:
        """Return what the sender's thread has to do besides sending."""
        sync = self.spool.sync if isinstance(self.spool, SyncableSpool) else None
        refresher = self._flag_refresher
        if refresher is None:
            return sync

        def each_round() -> None:
            if sync is not None:
                sync()
            refresher.refresh()

        return each_round

    def _refresher(self, flags: VisitorFlags) -> FlagRefresher:
        from mixpanel_visitor.delivery.flags import refresher  # noqa: PLC0415  # for those who have flags

        is_local = local_notice.is_local(self._settings.api_host)
        return refresher.FlagRefresher(
            self.spool,
            flags,
            fetch=self._flag_fetch(),
            every_s=refresher.LOCAL_EVERY_S if is_local else refresher.FETCH_EVERY_S,
            is_paused=lambda: recorder.active() is not None,
            clock=self._dependencies.clock,
            monotonic=self._dependencies.monotonic,
            log=self._log,
        )

    def _flag_fetch(self) -> Callable[[str], Answer] | None:
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
        if self._flag_refresher is not None and self._is_at_hand:
            guarded(self._flag_refresher.refresh)(at_once=True, may_lead=may_lead)

    @property
    def _is_at_hand(self) -> bool:
        """Whether a look into the spool asks no other machine."""
        return isinstance(self.spool, (DirectorySpool, VolatileSpool))

    def flag_figures(self) -> FlagFigures | None:
        """The figures of feature flags; None: they are off."""
        if self._flag_refresher is None or self._flags is None:
            return None
        return self._flag_refresher.figures(
            definitions=len(self._flags.definitions.flags), malformed=self._flags.malformed
        )

    def forget_flag_counts(self) -> None:
        """Begin to count anew, in a forked child; its definitions are those of its parent."""
        if self._flag_refresher is not None and self._flags is not None:
            self._flag_refresher.forget()
            self._flags.malformed = 0

    def store(self, records: list[Record]) -> None:
        """Put records into the spool, or refuse and count them; never raises."""
        if self._is_kept_back(records):
            return
        if here.inside:
            # A signal handler, a finalizer or a log handler, while this very thread is in a spool.
            late.append(partial(self.store, records))
            return
        self._put(records)

    def store_within_share(self, records: list[Record], max_share: float) -> bool:
        """Put records into the spool unless more than a share of it is used; never raises.

        Return whether they are safe there. If not, they are counted as refused, and nothing is done later.
        """
        if self._is_kept_back(records):
            return True
        if here.inside:
            self._counters.refuse("internal_error", len(records))
            return False
        return self._put(records, max_share)

    def _is_kept_back(self, records: list[Record]) -> bool:
        """Show records to the test that captures, or log them in a dry run; False: they are to be stored."""
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
            if max_share is None:  # else the browser keeps them, and sends them again
                self._unstored += 1
            self._counters.refuse(error.reason, len(records))
            number = several(len(records), "event was", "events were")
            self._log(logging.ERROR, error.reason, "%s refused: %s", number, error)
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
            self.committer.submit(records)
        else:
            self.store(records)

    def pass_through(self) -> PassThrough:
        """Return the way to ask Mixpanel on a browser's behalf; nothing is opened yet."""
        with importing:  # few need it
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
        """Somebody has opted out: what waits of them is not sent any more; never raises."""
        if here.inside:
            late.append(partial(self.withdraw, list(ids)))
            return
        try:
            self.committer.drain(_WITHDRAW_S)  # what waits there would come after it
            if isinstance(self.spool, OptOutSpool):
                guarded(self.spool.withdraw)(digests(ids))
        except Exception:
            self.failed("opt-out")

    def opted_out_since(self, ids: Iterable[str], since_ms: int) -> bool:
        """Return whether one of these IDs has opted out since then, as far as the spool knows; never raises.

        Where that cannot be known, because a disk or a server is away, it is counted.
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

    def tell_local(self, message: str) -> None:
        """Show a local Mixpanel why something is not sent: to whoever sits before it nothing else would."""
        host_url = self._settings.api_host
        if not (self.delivers and self._dependencies.post is None and local_notice.is_local(host_url)):
            return
        # Where there are no threads, it stands in the log as well.
        threads.start("mixpanel-visitor-tell", local_notice.tell, host_url, message)

    def failed(self, where: str) -> None:
        """Note that our own code failed; called from an except block, so that the host never knows."""
        self._counters.note("internal_error")
        self._log(
            logging.ERROR,
            f"internal {where}",
            "mixpanel-visitor failed in %s; the request went on without it. Please report this.",
            where,
            exc_info=True,
        )

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything this process stored so far is acknowledged; False: not within `timeout_s`.

        False as well where the spool did not take an event since the last flush, and at once where this
        thread would wait for itself: in a handler that has interrupted it in the spool or the sender.
        """
        deadline_s = self._dependencies.monotonic() + timeout_s
        unstored, self._flushed_unstored = self._unstored - self._flushed_unstored, self._unstored
        if here.inside or self.sender.is_mine() or not self.committer.drain(timeout_s):
            return False
        catch_up()
        while self.counts().pending:
            left_s = deadline_s - self._dependencies.monotonic()
            if left_s <= 0:
                return False
            if self.delivers:
                self.sender.request_flush()
                if not self.sender.start():
                    self.sender.drain(left_s)
            self._dependencies.wait(min(_POLL_S, left_s))
        return not unstored

    def drain(self, timeout_s: float) -> bool:
        """Store what is queued, try to deliver it, let go of threads and files; the next event goes on."""
        if here.inside or self.sender.is_mine():
            return False
        catch_up()
        ends_s = self._dependencies.monotonic() + timeout_s

        def left_s() -> float:
            return max(_POLL_S, ends_s - self._dependencies.monotonic())

        settled = self.committer.stop(left_s())
        if self.delivers:
            settled = self.sender.drain(left_s()) and settled
        self.sender.stop(left_s())
        guarded(self.spool.close)()
        if self._api is not None:
            self._api.close(left_s())
        if self._pass_through is not None:
            self._pass_through.close()
        return settled and not self.counts().pending

    def retire(self) -> None:
        """Nobody can track any more: deliver what is left, then let go of threads and files.

        Where the spool outlives this process, one round is enough: another process or tracker delivers the
        rest. Only sets flags, for a finalizer may come at any moment.
        """
        drain_at_exit(self)
        self.committer.retire()
        self.sender.retire(self._may_end, self._let_go)

    def _may_end(self) -> bool:
        return not (
            self.committer.waiting or (isinstance(self.spool, VolatileSpool) and self.counts().pending)
        )

    def _let_go(self) -> None:
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
        """The figures of the spool; the last ones where this thread was interrupted in there."""
        if not here.inside:
            self._counts = guarded(self.spool.counts)()
        return self._counts

    def stats(self) -> SenderFigures:
        """The figures of the sender."""
        return self.sender.stats()

    def _post(self, endpoint: Endpoint, bodies: Sequence[bytes]) -> Response:
        return self._post_within(endpoint, bodies, None)

    def _post_within(self, endpoint: Endpoint, bodies: Sequence[bytes], timeout_s: float | None) -> Response:
        # Late: `ssl`, `http.client` and what they import take long, and the sender's thread has the time.
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
