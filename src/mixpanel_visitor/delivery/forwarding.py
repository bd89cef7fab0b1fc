"""ForwardingSpool: a spool on a server, and a journal on this machine for what the server does not take.

While the journal holds something it takes all that comes, so that the order stays; a sender of its own
forwards it to the server, with the same pauses, batches and leadership as if that were Mixpanel.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from mixpanel_visitor.errors import SpoolError, SpoolUnavailableError
from mixpanel_visitor.observability.rate_limited_log import RateLimitedLog
from mixpanel_visitor.records import Record

from .sending.http_client import Response
from .sending.sender import Sender
from .spool import BoundedSpool, FlagSharingSpool, OptOutHistorySpool, OptOutSpool, SyncableSpool

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from mixpanel_visitor.records import Endpoint

    from .journal import Journal
    from .redis_streams import RedisSpool
    from .spool import Claim, DeadReason, SpoolCounts

_STOP_S = 0.6
_CHECK_EVERY_S = 0.05
_ACCEPTED = b'{"code":200,"status":1,"num_records_imported":%d}'


class ForwardingSpool(SyncableSpool, BoundedSpool, OptOutSpool, OptOutHistorySpool, FlagSharingSpool):
    """A `Spool`: `server`, and `journal` for what it does not take; nothing is lost between the two.

    What the server may or may not have taken (no answer in time) is written to the journal as well and comes
    twice: events have an insert ID, an `$add` counts twice then. What the journal has forwarded is pending
    until it is settled at the server. Claims come from the server only.
    """

    def __init__(
        self,
        server: RedisSpool,
        journal: Journal,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.server = server
        self.journal = journal
        self._monotonic = monotonic
        self._forwarder = Sender(
            journal,
            self._forward,
            monotonic=monotonic,
            linger_s=_CHECK_EVERY_S,
            sync=journal.sync,
            retry_ambiguous=True,
            log=self._log_forwarding,
        )
        self._quiet_log = RateLimitedLog(monotonic)
        self._lock = threading.Lock()
        self._failed_over: bool | None = None
        self._checked_s = 0.0
        self._withdrawals: set[str] = set()

    def put(self, records: Sequence[Record]) -> None:
        """Store all of `records` in one of the two, or raise what the journal raises."""
        if self._has_failed_over():
            self._write_to_journal(records)
            return
        try:
            self.server.put(records)
        except SpoolError as error:
            self._quiet_log(
                logging.WARNING, "diverted", "Records wait on this machine and are forwarded later: %s", error
            )
            self._failed_over = True
            self._write_to_journal(records)

    def _write_to_journal(self, records: Sequence[Record]) -> None:
        self.journal.put(records)
        self._forwarder.notify(len(records))
        self._forwarder.start()

    def _has_failed_over(self) -> bool:
        # At first: what an earlier process has left on this machine is older than all that comes.
        if self._failed_over is False:
            return False
        now_s = self._monotonic()
        if self._failed_over is None or now_s - self._checked_s >= _CHECK_EVERY_S:
            with self._lock:
                self._checked_s = now_s
                is_waiting = self.journal.directory.exists() and self.journal.counts().store_pending > 0
                if is_waiting and self._failed_over is None:
                    self._forwarder.notify()
                    self._forwarder.start()
                self._failed_over = is_waiting
        return bool(self._failed_over)

    def _log_forwarding(self, level: int, kind: str, message: str, *args: object) -> None:
        self._quiet_log(level, kind, f"While forwarding to Redis, in Mixpanel's place: {message}", *args)

    def _forward(self, endpoint: Endpoint, bodies: Sequence[bytes]) -> Response:
        try:
            self.server.put([Record(endpoint, body) for body in bodies], own=False)
        except SpoolError as error:
            return Response(status=0, failure=f"refused: {error}")
        return Response(status=200, body=_ACCEPTED % len(bodies))

    def claim(self, endpoint: Endpoint, max_records: int, max_bytes: int) -> Claim | None:
        """Take the oldest unclaimed records of an endpoint from the server."""
        self._withdraw_at_server()
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
        """Have nothing sent that was put until now of these people, on the server or on this machine.

        While the server is away this process remembers them, and tells it as soon as it is back.
        """
        people = set(people)
        if self.journal.directory.exists():
            self.journal.withdraw(people)
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
        """Return how often something was withdrawn."""
        return self.server.revision()

    def counts(self) -> SpoolCounts:
        """Return the counts of both: what the journal has delivered, the server has still to deliver."""
        if not self.journal.directory.exists():
            return self.server.counts()
        on_this_machine = self.journal.counts()
        server = self.server.counts(forwarded=on_this_machine.delivered)
        return replace(
            server,
            written=server.written + on_this_machine.written - on_this_machine.delivered,
            dead_lettered=server.dead_lettered + on_this_machine.dead_lettered,
            pending=server.pending + on_this_machine.pending,
            lost=server.lost + on_this_machine.lost,
            store_pending=server.store_pending + on_this_machine.store_pending,
            store_dead=server.store_dead + on_this_machine.store_dead,
            store_bytes=server.store_bytes + on_this_machine.store_bytes,
            oldest_age_s=max(server.oldest_age_s, on_this_machine.oldest_age_s),
            corrupt_bytes=on_this_machine.corrupt_bytes,
            torn_tails=on_this_machine.torn_tails,
        )

    def leads(self) -> bool:
        """Return whether this process fetches the definitions of feature flags, as the server says."""
        return self.server.leads()

    def share_flags(self, document: bytes) -> None:
        """Replace the definitions on the server."""
        self.server.share_flags(document)

    def shared_flags(self) -> bytes | None:
        """Return the server's definitions where they have changed since the last call."""
        return self.server.shared_flags()

    def fill(self) -> float:
        """Return how much of the one that takes records at the moment is used."""
        return self.journal.fill() if self._failed_over else self.server.fill()

    def sync(self) -> None:
        """Make what is on this machine survive a power failure; tell the server what it has missed."""
        with contextlib.suppress(SpoolUnavailableError):
            self._withdraw_at_server()
        if self._failed_over:
            self.journal.sync()

    def close(self) -> None:
        """Forward what can be forwarded at once, and close both; a later `put` opens them again."""
        if self._failed_over:
            self._forwarder.drain(_STOP_S)
        self._forwarder.stop(_STOP_S)
        self.journal.close()
        self.server.close()
        self._failed_over = None
