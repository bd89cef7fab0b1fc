"""CommittedOffsets: how far delivery has come, and what its loss costs."""

import json
import random

import pytest
from support.journals import (
    ALL,
    deliver,
    event,
    frame_size,
    names,
    open_journal,
    segments,
    waiting,
)


def half_delivered(directory):
    """Leave a spool of which one half was delivered, by a process that is dead."""
    journal = open_journal(directory, segment_bytes=5 * frame_size(event(1)))
    journal.put([event(number) for number in range(5)])
    journal.put([event(number) for number in range(5, 10)])
    journal.ack(journal.claim("import", 3, ALL), [0, 1, 2])


def test_a_lost_acks_file_costs_duplicates_only(open_spool, directory):
    """All that is still on disk is delivered again."""
    half_delivered(directory)
    (directory / "acks.json").unlink()
    assert deliver(open_spool()) == [str(number) for number in range(10)]


def test_a_damaged_acks_file_costs_duplicates_only(open_spool, directory, caplog):
    """Whatever byte is damaged: nothing is skipped, and the log says what it means."""
    half_delivered(directory)
    good = (directory / "acks.json").read_bytes()
    chance = random.Random(3)
    for position in [*range(40), *chance.sample(range(len(good)), 40)]:
        damaged = bytearray(good)
        damaged[position] ^= 1 << chance.randrange(7)
        (directory / "acks.json").write_bytes(damaged)
        journal = open_spool()
        assert waiting(journal)[-7:] == [str(number) for number in range(3, 10)], (position, damaged)
        journal.close()
    assert "is damaged" in caplog.text
    assert "delivered again" in caplog.text


def test_a_plausible_but_wrong_mark_is_not_believed(open_spool, directory, caplog):
    """One digit is another digit: without the checksum the records in between would never be sent."""
    half_delivered(directory)
    good = (directory / "acks.json").read_bytes()
    mark = 3 * frame_size(event(1))
    wrong = good.replace(b'"i":%d,' % mark, b'"i":%d,' % (mark + frame_size(event(1))))
    assert wrong != good
    (directory / "acks.json").write_bytes(wrong)
    assert waiting(open_spool()) == [str(number) for number in range(10)]
    assert "its checksum is wrong" in caplog.text


@pytest.mark.parametrize("rubbish", [b"", b"{}", b"[]", b"null", b"\xff\x00", b'{"version":2}', b"[" * 5000])
def test_rubbish_for_an_acks_file_is_survived(open_spool, directory, rubbish, caplog):
    """Empty after a power failure, cut off, or not ours at all."""
    half_delivered(directory)
    (directory / "acks.json").write_bytes(rubbish)
    assert deliver(open_spool()) == [str(number) for number in range(10)]
    assert "is damaged" in caplog.text


def test_answers_to_old_claims_do_not_reach_the_acks_file(open_spool, directory, clock):
    """What a new lead has claimed must not be marked as done by an answer to the old one."""
    journal = open_journal(directory, clock)
    journal.put([event(1), event(2)])
    old = journal.claim("import", 10, ALL)
    journal.close()
    journal.claim("import", 10, ALL)
    journal.ack(old, [0, 1])
    del journal
    assert waiting(open_spool()) == ["1", "2"]


def test_entries_of_segments_that_are_gone_are_forgotten(open_spool, directory, clock):
    """Their leader may have died right after it deleted them."""
    half_delivered(directory)
    for path in segments(directory):
        path.unlink()
    journal = open_spool()
    for _ in range(2):
        assert journal.claim("import", 10, ALL) is None
        clock.tick(3700)
    assert journal.claim("import", 10, ALL) is None
    assert json.loads((directory / "acks.json").read_bytes())["segments"] == {}


def test_acks_that_cannot_be_written_are_kept_in_memory(open_spool, directory, caplog):
    """Delivery goes on, deletes what is done with, and complains once."""
    (directory / "acks.json").mkdir(parents=True)
    journal = open_spool(segment_bytes=1)
    journal.put([event(1)])
    journal.put([event(2)])
    for name in ("1", "2"):
        claim = journal.claim("import", 1, ALL)
        assert names(claim.bodies) == [name]
        journal.ack(claim, [0])
    assert journal.counts().delivered == 2
    assert len(segments(directory)) == 1
    complaints = [line for line in caplog.messages if "cannot be written" in line]
    assert len(complaints) == 1
    assert "Check the volume" in complaints[0]


def test_marks_beyond_the_end_of_a_segment_are_survived(open_spool, directory, clock):
    """After a power failure acks.json may know of more than the disk has kept."""
    half_delivered(directory)
    first, second = segments(directory)
    with first.open("r+b") as file:
        file.truncate(frame_size(event(1)) + 5)
    journal = open_spool()
    assert deliver(journal) == [str(number) for number in range(5, 10)]
    clock.tick(2)
    assert journal.claim("import", 10, ALL) is None
    assert segments(directory) == []
    assert second not in segments(directory)
