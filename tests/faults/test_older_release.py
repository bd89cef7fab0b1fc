"""A spool that an older release has left full: today's package delivers all of it.

`tests/data/spool-0.1` is such a spool, in the bytes that 0.1 has written:

    python tests/faults/test_older_release.py NEW-DIRECTORY

It is never made anew: a later release that writes otherwise adds a directory of its own.
"""

import shutil
import sys
from pathlib import Path

from support.journals import ALL, Clock, claims, deliver, event, names, open_journal, profile, waiting

from mixpanel_visitor.delivery.journal.dead_letters import DeadLetters
from mixpanel_visitor.delivery.spool import DeadReason

SPOOL = Path(__file__).parent.parent / "data" / "spool-0.1"


def make(directory):
    """Leave records behind in several segments: delivered, in the dead letters, in hand, and waiting."""
    clock = Clock()
    journal = open_journal(directory, clock, segment_bytes=400)
    for number in range(12):
        journal.put([event(f"é {number}"), profile(number)])
        clock.tick(1)
    claim = journal.claim("import", 5, ALL)
    journal.ack(claim, [0, 1, 3])
    journal.bury(claim, {2: DeadReason(message="no such field", field="properties.time", status=400)})
    in_hand = journal.claim("engage", 2, ALL)
    journal.note_sending(in_hand, range(2))
    clock.tick(5)
    journal.claim("groups", 1, ALL)  # it notes how far it has come


def test_a_full_spool_of_release_0_1_is_delivered(tmp_path):
    """What waited is delivered, in order; what was delivered is not sent again; dead letters are read."""
    directory = shutil.copytree(SPOOL, tmp_path / "spool")
    clock = Clock()
    clock.tick(86_400)
    journal = open_journal(directory, clock)
    assert waiting(journal, "groups") == []
    assert deliver(journal) == [f"é {number}" for number in (4, *range(5, 12))]
    updates = list(claims(journal, "engage"))
    assert [name for claim in updates for name in names(claim.bodies)] == [str(n) for n in range(12)]
    assert [claim.crash_counts.get(0, 0) for claim in updates] == [1]
    (letter,) = DeadLetters(directory / "dead").entries()
    assert names([letter.body]) == ["é 2"]
    assert (letter.reason.message, letter.reason.field, letter.reason.status) == (
        "no such field",
        "properties.time",
        400,
    )
    assert journal.counts().corrupt_bytes == 0
    journal.close()


if __name__ == "__main__":
    make(Path(sys.argv[1]))
