"""Hosts whose applications track into Redis, by way of a journal."""

import contextlib

from mixpanel_visitor.errors import SpoolUnavailableError

from .journals import ALL, Clock, event, names, open_journal
from .waiting import PATIENCE_S, wait_until

LONG_S = 300


class Machine:
    """A host whose applications track into Redis; its pauses end when the test says so."""

    def __init__(self, server, directory, query="", *, url="", later_s=0, waits=False):
        from mixpanel_visitor.delivery.forwarding import ForwardingSpool
        from mixpanel_visitor.delivery.redis_streams import RedisSpool

        self.clock = Clock()
        self.clock.tick(later_s)
        self.server = RedisSpool(url or f"{server.url}{query}", monotonic=self.clock.monotonic)
        self.journal = open_journal(directory, self.clock)
        self.spool = ForwardingSpool(self.server, self.journal, waits=waits, monotonic=self.clock.monotonic)
        self.put_so_far = 0

    def put(self, count):
        """Track so many events; gives their names."""
        numbers = range(self.put_so_far, self.put_so_far + count)
        self.put_so_far += count
        self.spool.put([event(number) for number in numbers])
        return [str(number) for number in numbers]

    def put_through(self, count):
        """Track so many, and see them forwarded."""
        put = self.put(count)
        assert self.forwarded()
        return put

    def forwards(self):
        """Have it try once, whatever its pauses; gives whether nothing waits here."""
        self.clock.tick(LONG_S)
        with contextlib.suppress(SpoolUnavailableError):
            if (claim := self.spool.claim("import", 1, ALL)) is not None:
                self.spool.release(claim, [0])
        return self.diverted == 0

    @property
    def diverted(self):
        """How many records wait on this machine."""
        return self.journal.counts().store_pending

    def forwarded(self):
        """Let its pauses pass until nothing waits here."""

        def nothing_waits():
            self.clock.tick(LONG_S)
            return self.diverted == 0

        return wait_until(nothing_waits, PATIENCE_S)


def delivered(spool, endpoint="import"):
    """Claim and acknowledge everything that is in Redis; gives its names."""
    found = []
    while (claim := spool.claim(endpoint, 2_000, ALL)) is not None:
        found += names(claim.bodies)
        spool.ack(claim, range(len(claim)))
    return found
