"""ForwardingSpool: a journal on this machine, and a spool on a server to which all of it is forwarded.

What is put goes into the journal, so that no request waits for the server. A sender of its own forwards it in
bundles of many requests, with the same pauses, batches and leadership as if the server were Mixpanel.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from typing import TYPE_CHECKING

from mixpanel_visitor.errors import SpoolError, SpoolUnavailableError
from mixpanel_visitor.observability.rate_limited_log import RateLimitedLog, place_of
from mixpanel_visitor.process import fork
from mixpanel_visitor.records import Record

from .group_commit import GroupCommit
from .sending.http_client import Response
from .sending.sender import Sender
from .spool import (
    BoundedSpool,
    CrashTrackingSpool,
    FlagSharingSpool,
    OptOutHistorySpool,
    OptOutSpool,
    SyncableSpool,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from mixpanel_visitor.records import Endpoint

    from .journal import Journal
    from .redis_streams import RedisSpool
    from .spool import Claim, DeadReason, SpoolCounts

LINGER_S = 0.05
"""How long an event waits for others, and how often the journal is asked for those of other processes."""

FORWARD_BYTES = 2**20
"""Of bodies in one step: compressed, they pass a slow network within the time-out."""

_FORWARD_S = 0.25
_THREAD_S = 1.0
_STOP_S = 0.6
_ACCEPTED = b'{"code":200,"status":1,"num_records_imported":%d}'


class ForwardingSpool(SyncableSpool, BoundedSpool, OptOutSpool, OptOutHistorySpool, FlagSharingSpool):
    """A `Spool`: a `journal`, and the `server` to which it is forwarded; nothing is lost between the two.

    With `waits` a put returns when the server has the records, which it stores together with those of other
    callers. If the server does not take them, they go into the journal, as later ones do until it is empty,
    which keeps the order. If the journal's disk is full or cannot be written, puts wait for the server.

    Where it is unknown whether the server has taken records (no response in time, or this process was killed
    before it noted the response), they are forwarded again: events have an insert ID, an `$add` counts twice.
    Forwarded records are pending until they are settled on the server. Claims come from the server only.
    """

    def __init__(
        self,
        server: RedisSpool,
        journal: Journal,
        *,
        waits: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.server = server
        self.journal = journal
        self._monotonic = monotonic
        self._waits = waits
        self._server_commit = GroupCommit(server.put)
        self._in_flight = _InFlight(journal)
        self._forwarder = Sender(
            journal,
            self._forward,
            monotonic=monotonic,
            linger_s=LINGER_S,
            poll_s=LINGER_S,
            max_bytes=FORWARD_BYTES,
            retry_ambiguous=True,
            log=self._log_forwarding,
            crash_tracking=self._in_flight,
            revision=journal.revision,
        )
        self._quiet_log = RateLimitedLog(monotonic)
        self._withdrawals: set[str] = set()
        self._reset_after_fork()
        fork.call_after_fork(self._reset_after_fork)

    def _reset_after_fork(self) -> None:
        self._lock = threading.Lock()
        self._has_new_records = False
        self._unproven_since_s: float | None = None
        self._journal_is_empty: bool | None = None
        self._checked_s = 0.0

    def put(self, records: Sequence[Record]) -> None:
        """Store all of `records` in the journal or on the server, or raise what the journal raises."""
        if self._waits and not self._must_queue():
            try:
                self._server_commit.put(records)
            except SpoolError as error:
                self._log_waiting(error)
            else:
                return
        try:
            self.journal.put(records)
        except SpoolError as error:
            self._put_without_journal(records, error)
        else:
            self._has_new_records, self._journal_is_empty = True, False
            self._forwarder.notify(len(records))
            if self._lacks_thread():
                self._forward_now()

    def _forward_now(self) -> bool:
        """Forward without lingering; return whether the journal is empty. Raise nothing: all is stored."""
        try:
            return self._forwarder.drain(_FORWARD_S)
        except Exception as error:
            # At the end of the interpreter nothing can be imported: then another process forwards them.
            if not sys.is_finalizing():
                message = "Forwarding to Redis met an error of its own (%s at %s: %s) and goes on."
                self._quiet_log(logging.ERROR, "own", message, type(error).__name__, place_of(error), error)
            return False

    def _put_without_journal(self, records: Sequence[Record], journal_error: SpoolError) -> None:
        try:
            self._server_commit.put(records)
        except SpoolError:
            raise journal_error from None
        self._quiet_log(logging.WARNING, "no journal", "Requests wait for Redis, for: %s", journal_error)

    def _must_queue(self) -> bool:
        """Return whether the journal has records, which later ones must not overtake."""
        # None at first: an earlier process may have left older records on this machine.
        if self._journal_is_empty:
            return False
        now_s = self._monotonic()
        if self._journal_is_empty is None or now_s - self._checked_s >= LINGER_S:
            self._checked_s = now_s
            self._journal_is_empty = not self.journal.counts().store_pending
            if not self._journal_is_empty:
                self._forwarder.start()
        return not self._journal_is_empty

    def _lacks_thread(self) -> bool:
        """Return whether callers have to forward: no thread can be started, or it never runs (uWSGI)."""
        if not self._forwarder.start():
            return True
        if self._forwarder.has_run():
            self._unproven_since_s = None
            return False
        now_s = self._monotonic()
        if self._unproven_since_s is None:
            self._unproven_since_s = now_s
        return now_s - self._unproven_since_s >= _THREAD_S

    def _log_waiting(self, error: SpoolError) -> None:
        message = "Records wait on this machine and are forwarded later: %s"
        self._quiet_log(logging.WARNING, "diverted", message, error)

    def _log_forwarding(self, level: int, kind: str, message: str, *args: object) -> None:
        if not kind.startswith("network "):  # advice for Mixpanel; `_forward` has logged it
            self._quiet_log(level, kind, f"While forwarding to Redis, in Mixpanel's place: {message}", *args)

    def _forward(self, endpoint: Endpoint, bodies: Sequence[bytes]) -> Response:
        try:
            records = [Record(endpoint, body) for body in bodies]
            self.server.forward(records, self._in_flight.writers, self.journal.writer)
        except SpoolError as error:
            self._log_waiting(error)
            return Response(status=0, failure=f"refused: {error}")
        except ValueError as error:
            # A record is too large for an entry: it is searched for, and set aside.
            self._quiet_log(logging.ERROR, "unfit", "A record cannot be forwarded to Redis: %s", error)
            return Response(status=400)
        return Response(status=200, body=_ACCEPTED % len(bodies))

    def claim(self, endpoint: Endpoint, max_records: int, max_bytes: int) -> Claim | None:
        """Claim the oldest unclaimed records of an endpoint from the server.

        Before that the records of this process are forwarded, without lingering: at exit there is no later.
        """
        self._withdraw_at_server()
        if self._has_new_records:
            self._has_new_records = False
            if not self._forward_now():
                self._has_new_records = True
        return self.server.claim(endpoint, max_records, max_bytes)

    def ack(self, claim: Claim, indexes: Iterable[int]) -> None:
        """Forget these records of the claim: they have been delivered."""
        self.server.ack(claim, indexes)

    def release(self, claim: Claim, indexes: Iterable[int]) -> None:
        """Let the next claim of the endpoint return these first."""
        self.server.release(claim, indexes)

    def bury(self, claim: Claim, reasons: Mapping[int, DeadReason]) -> None:
        """Set these aside in the dead letters, each with its reason."""
        self.server.bury(claim, reasons)

    def withdraw(self, people: Iterable[str]) -> None:
        """Withdraw the waiting records of these people, on this machine and on the server.

        While the server is unreachable this process keeps the digests, and withdraws them there later.
        """
        people = set(people)
        if self.journal.directory.exists():
            self.journal.withdraw(people)
            # Records on their way must reach the server before the opt-out does.
            self._forward_now()
        with self._lock:
            self._withdrawals |= people
        with contextlib.suppress(SpoolUnavailableError):
            self._withdraw_at_server()

    def _withdraw_at_server(self) -> None:
        with self._lock:
            people = set(self._withdrawals)
        if people:
            self.server.withdraw(people)
            with self._lock:
                self._withdrawals -= people

    def opted_out_since(self, people: Collection[str], since_ms: int) -> bool:
        """Return whether any of these people, given as digests, has opted out since then."""
        on_this_machine = self.journal.directory.exists() and self.journal.opted_out_since(people, since_ms)
        return on_this_machine or self.server.opted_out_since(people, since_ms)

    def revision(self) -> int:
        """Return the count of withdrawals."""
        return self.server.revision()

    def counts(self) -> SpoolCounts:
        """Return the counts of both as one spool: what the journal has delivered waits on the server."""
        return self.server.counts(self.journal.counts(), self.journal.writer)

    def leads(self) -> bool:
        """Return whether this process fetches the definitions of feature flags for all others."""
        return self.server.leads()

    def share_flags(self, document: bytes) -> None:
        """Replace the definitions on the server."""
        self.server.share_flags(document)

    def shared_flags(self) -> bytes | None:
        """Return the server's definitions where they have changed since the last call."""
        return self.server.shared_flags()

    def fill(self) -> float:
        """Return how much of the space is used where records are put at the moment, from 0.0 to 1.0."""
        is_at_server = self._waits and self._journal_is_empty
        return self.server.fill() if is_at_server else self.journal.fill()

    def sync(self) -> None:
        """Make records on this machine survive a power failure; withdraw on the server what it has missed.

        Starts to forward what earlier processes have left on this machine.
        """
        with contextlib.suppress(SpoolUnavailableError):
            self._withdraw_at_server()
        if self.journal.directory.exists():
            self.journal.sync()
            self._forwarder.start()

    def close(self) -> None:
        """Forward what can be forwarded within a moment, and close both; a later `put` opens them again."""
        if self.journal.directory.exists():
            self._forwarder.drain(_STOP_S)
        self._forwarder.stop(_STOP_S)
        self.journal.close()
        self.server.close()
        self._journal_is_empty = None


class _InFlight(CrashTrackingSpool):
    """Notes in the journal what is being forwarded, for a crash, and has the writer of each record."""

    def __init__(self, journal: Journal) -> None:
        self.writers: list[str] = []
        self._journal = journal

    def note_sending(self, claim: Claim, indexes: Iterable[int], *, once: bool = False) -> None:
        """Note that these records are about to be forwarded."""
        indexes = list(indexes)
        self._journal.note_sending(claim, indexes, once=once)
        self.writers = self._journal.writers(claim, indexes)

    def note_sent(self) -> None:
        """Note that the server has responded, or that the request has failed."""
        self._journal.note_sent()

    def note_settled(self) -> None:
        """Note that the outcome is settled."""
        self._journal.note_settled()
