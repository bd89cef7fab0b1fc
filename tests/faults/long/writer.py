"""A writer of the kill part: puts events, says so on its output after `put` has returned, delivers.

`python writer.py PORT SPOOL NUMBER EVENTS_PER_PUT`: each byte on its input asks for one put.
`python writer.py PORT SPOOL drain`: puts nothing, delivers what is there, and ends.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import time
from pathlib import Path

from counting import event_body

from mixpanel_visitor.delivery.journal import Journal
from mixpanel_visitor.records import Record
from mixpanel_visitor.tracking.dependencies import Dependencies
from mixpanel_visitor.tracking.tracker import Tracker

DRAIN_S = 300.0


def write(journal: Journal, writer: int, per_put: int) -> None:
    """Put until the input ends."""
    number = 0
    while asked := os.read(0, 64):
        for _ in asked:
            journal.put([Record("import", event_body(writer, number + i)) for i in range(per_put)])
            number += per_put
            os.write(1, b"%d %d\n" % (number, journal.counts().leader))


def drain(journal: Journal) -> int:
    """Wait until nothing is left; the tracker's thread delivers."""
    ends_s = time.monotonic() + DRAIN_S
    empty = 0
    while time.monotonic() < ends_s:
        # Twice in a row: between adoption and count a segment may be nobody's.
        counts = journal.counts()
        empty = empty + 1 if counts.leader and counts.store_pending == 0 else 0
        if empty == 10:
            return 0
        time.sleep(0.2)
    return 1


def main() -> int:
    """Do what the arguments say."""
    faulthandler.register(signal.SIGUSR1)
    port, spool, role = sys.argv[1:4]
    journal = Journal(Path(spool))
    tracker = Tracker(
        token="long",
        secret_key="a-key-of-some-length",
        api_host=f"http://127.0.0.1:{port}",
        dependencies=Dependencies(spool=journal),
        spool=spool,
    )
    tracker.start()
    if role == "drain":
        code = drain(journal)
        tracker.close()
        return code
    write(journal, int(role), int(sys.argv[4]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
