"""FallbackSpool: a spool on a server, and a journal on this machine for what the server does not take.

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

from .sending.http_client import Answer
from .sending.sender import Sender
from .spool import OptOutSpool, SyncableSpool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from mixpanel_visitor.records import Endpoint

    from .journal import Journal
    from .redis_streams import RedisSpool
    from .spool import Claim, DeadReason, SpoolCounts

_STOP_S = 0.6
_LOOK_S = 0.05
_TAKEN = b'{"code":200,"status":1,"num_records_imported":%d}'


class FallbackSpool(SyncableSpool, OptOutSpool):
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
            linger_s=_LOOK_S,
            sync=journal.sync,
            retry_ambiguous=True,
            log=self._say,
        )
        self._quiet_log = RateLimitedLog(monotonic)
        self._lock = threading.Lock()
        self._diverted: bool | None = None
        self._looked_s = 0.0
        self._withdrawals: set[str] = set()

    def put(self, records: Sequence[Record]) -> None:
        """Store all of `records` in one of the two, or raise what the journal raises."""
        if self._is_diverted():
            self._divert(records)
            return
        try:
            self.server.put(records)
        except SpoolError as error:
            self._quiet_log(
                logging.WARNING, "diverted", "Records wait on this machine and are forwarded later: %s", error
            )
            self._diverted = True
            self._divert(records)

    def _divert(self, records: Sequence[Record]) -> None:
        self.journal.put(records)
        self._forwarder.notify(len(records))
        self._forwarder.start()

    def _is_diverted(self) -> bool:
        # At first: what an earlier process has left on this machine is older than all that comes.
        if self._diverted is False:
            return False
        now_s = self._monotonic()
        if self._diverted is None or now_s - self._looked_s >= _LOOK_S:
            with self._lock:
                self._looked_s = now_s
                left = self.journal.directory.exists() and self.journal.counts().store_pending > 0
                if left and self._diverted is None:
                    self._forwarder.notify()
                    self._forwarder.start()
                self._diverted = left
        return bool(self._diverted)

    def _say(self, level: int, kind: str, message: str, *args: object) -> None:
        self._quiet_log(level, kind, f"While forwarding to Redis, in Mixpanel's place: {message}", *args)

    def _forward(self, endpoint: Endpoint, bodies: Sequence[bytes]) -> Answer:
        try:
            self.server.put([Record(endpoint, body) for body in bodies], own=False)
        except SpoolError as error:
            return Answer(status=0, failure=f"refused: {error}")
        return Answer(status=200, body=_TAKEN % len(bodies))

    def claim(self, endpoint: Endpoint, max_records: int, max_bytes: int) -> Claim | None:
        """Take the oldest unclaimed records of a lane from the server."""
        self._withdraw_at_server()
        return self.server.claim(endpoint, max_records, max_bytes)

    def ack(self, claim: Claim, indexes: Iterable[int]) -> None:
        """These records of the claim have been delivered: forget them."""
        self.server.ack(claim, indexes)

    def release(self, claim: Claim, indexes: Iterable[int]) -> None:
        """The next claim of the lane returns these first."""
        self.server.release(claim, indexes)

    def bury(self, claim: Claim, reasons: Mapping[int, DeadReason]) -> None:
        """Set these aside, each with its reason."""
        self.server.bury(claim, reasons)

    def withdraw(self, people: Iterable[str]) -> None:
        """What was put until now of these people is not sent, from wherever it is.

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

    def revision(self) -> int:
        """Count how often something was withdrawn."""
        return self.server.revision()

    def counts(self) -> SpoolCounts:
        """Of both: what the journal has forwarded, its `delivered`, is the server's to deliver."""
        if not self.journal.directory.exists():
            return self.server.counts()
        here = self.journal.counts()
        server = self.server.counts(forwarded=here.delivered)
        return replace(
            server,
            written=server.written + here.written - here.delivered,
            dead_lettered=server.dead_lettered + here.dead_lettered,
            pending=server.pending + here.pending,
            lost=server.lost + here.lost,
            store_pending=server.store_pending + here.store_pending,
            store_dead=server.store_dead + here.store_dead,
            store_bytes=server.store_bytes + here.store_bytes,
            oldest_age_s=max(server.oldest_age_s, here.oldest_age_s),
            corrupt_bytes=here.corrupt_bytes,
            torn_tails=here.torn_tails,
        )

    def sync(self) -> None:
        """Make what is on this machine survive a power failure; tell the server what it has missed."""
        with contextlib.suppress(SpoolUnavailableError):
            self._withdraw_at_server()
        if self._diverted:
            self.journal.sync()

    def close(self) -> None:
        """Forward what can be forwarded at once, and let go of everything; a later `put` opens it anew."""
        if self._diverted:
            self._forwarder.drain(_STOP_S)
        self._forwarder.stop(_STOP_S)
        self.journal.close()
        self.server.close()
        self._diverted = None
