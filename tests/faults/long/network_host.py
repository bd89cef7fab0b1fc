"""A host of the network part: `python network_host.py REDIS_URL WRITER SECONDS PER_SECOND`.

Puts events for so long, then waits until none of them is left on this machine; prints how many were accepted.
"""

from __future__ import annotations

import sys
import time

from counting import event_body
from processes import TOKEN
from support.waiting import wait_until

from mixpanel_visitor.delivery.forwarding import ForwardingSpool
from mixpanel_visitor.delivery.spool_factory import open_spool
from mixpanel_visitor.records import Record
from mixpanel_visitor.settings.project import project_of

PER_PUT = 5
FORWARD_S = 150.0


def main() -> int:
    """Do what the arguments say; 1: something is left here."""
    url, writer, seconds, per_second = sys.argv[1], *map(int, sys.argv[2:5])
    # One host has the journal first; the requests of the other one wait until their events are in Redis.
    spool = open_spool(url, project=project_of(TOKEN), waits=bool(writer))
    assert isinstance(spool, ForwardingSpool)
    accepted, diverted = 0, 0
    began_s = time.monotonic()
    while (now_s := time.monotonic() - began_s) < seconds:
        spool.put([Record("import", event_body(writer, accepted + each)) for each in range(PER_PUT)])
        accepted += PER_PUT
        time.sleep(max(0.0, accepted / per_second - now_s))
    diverted = spool.journal.counts().written if spool.journal.directory.exists() else 0

    def nothing_is_left() -> bool:
        return not spool.journal.directory.exists() or spool.journal.counts().store_pending == 0

    left = not wait_until(nothing_is_left, FORWARD_S)
    print(accepted, diverted, flush=True)
    spool.close()
    return int(left)


if __name__ == "__main__":
    sys.exit(main())
