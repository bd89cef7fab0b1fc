"""Journal: what survives processes that die, writes that are cut off, and files that are damaged."""

import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.journals import (
    ALL,
    balanced,
    deliver,
    event,
    frame_size,
    leave_behind,
    names,
    open_journal,
    profile,
    segments,
    waiting,
)

from mixpanel_visitor.delivery.journal import frames
from mixpanel_visitor.delivery.journal.segments import SegmentWriter


def test_records_survive_a_journal_that_was_only_dropped(open_spool, directory):
    """Whoever comes next finds what was put and not what was delivered."""
    first = open_journal(directory)
    first.put([event(1), event(2), event(3)])
    first.ack(first.claim("import", 2, ALL), [1])
    del first
    second = open_spool()
    assert waiting(second) == ["1", "2", "3"]
    assert waiting(second) == ["1", "2", "3"]


def test_what_was_settled_in_front_is_not_delivered_again(open_spool, directory):
    """The mark in acks.json is where the first record starts that was not settled."""
    first = open_journal(directory)
    first.put([event(1), profile("p"), event(2), event(3)])
    first.ack(first.claim("import", 2, ALL), [0, 1])
    del first
    second = open_spool()
    assert deliver(second) == ["3"]
    assert deliver(second, "engage") == ["p"]


def test_segments_of_dead_processes_are_adopted_oldest_first(open_spool, directory):
    """It does not matter who wrote them."""
    leave_behind(directory, [event("b")], name="0000000000000002-x-1-0-1.seg")
    leave_behind(directory, [event("a")], name="0000000000000001-x-9-0-1.seg")
    journal = open_spool()
    journal.put([event("c")])
    assert deliver(journal) == ["a", "b", "c"]
    assert len(segments(directory)) == 1


def test_a_torn_tail_costs_one_record(open_spool, directory, clock):
    """Cut at any byte of the last frame: the others are delivered, the tail is counted once."""
    last = frames.encode([event("lost")], 1)
    journal = open_spool()
    for number, length in enumerate(range(1, len(last))):
        leave_behind(directory, [event(1), event(2)], rest=last[:length], name=f"{number:016d}-x-1-0-1.seg")
        clock.tick(2)
        claim = journal.claim("import", 10, ALL)
        assert names(claim.bodies) == ["1", "2"]
        assert journal.counts().torn_tails == number + 1
        journal.ack(claim, [0, 1])
        assert segments(directory) == []
    counts = journal.counts()
    assert (counts.torn_tails, counts.corrupt_bytes) == (len(last) - 1, 0)


def test_an_unfinished_frame_of_a_living_writer_is_waited_for(open_spool, directory, clock):
    """It may be the middle of a write."""
    directory.mkdir()
    line = frames.encode([event("slow")], 1)
    writer = SegmentWriter(directory / "0000000000000001-x-1-0-1.seg", opened_s=0.0)
    writer.append(line[:30])
    journal = open_spool()
    for _ in range(3):
        clock.tick(2)
        assert journal.claim("import", 10, ALL) is None
    writer.append(line[30:])
    clock.tick(2)
    assert deliver(journal) == ["slow"]
    writer.close()
    counts = journal.counts()
    assert (counts.torn_tails, counts.corrupt_bytes) == (0, 0)


def test_a_write_that_was_taken_back_is_no_torn_tail(open_spool, directory, clock):
    """Though it was seen half done."""
    directory.mkdir()
    line = frames.encode([event(1)], 1)
    writer = SegmentWriter(directory / "0000000000000001-x-1-0-1.seg", opened_s=0.0)
    writer.append(line + line[:30])
    journal = open_spool()
    assert deliver(journal) == ["1"]
    os.truncate(writer.path, len(line))
    writer.close()
    clock.tick(2)
    assert journal.claim("import", 10, ALL) is None
    assert segments(directory) == []
    assert journal.counts().torn_tails == 0


def test_records_that_were_taken_back_are_not_sent(open_spool, directory, clock):
    """Found whole, but gone before they were claimed: that is neither a loss nor damage."""
    directory.mkdir()
    line = frames.encode([event(1)], 1)
    writer = SegmentWriter(directory / "0000000000000001-x-1-0-1.seg", opened_s=0.0)
    writer.append(line + line)
    journal = open_spool()
    assert journal.claim("groups", 10, ALL) is None
    assert journal.counts().store_pending == 2
    os.truncate(writer.path, len(line))
    writer.close()
    assert deliver(journal) == ["1"]
    clock.tick(2)
    assert journal.claim("import", 10, ALL) is None
    assert segments(directory) == []
    assert journal.counts().corrupt_bytes == 0


def test_damage_is_counted_once(open_spool, directory, clock, caplog):
    """Though another lead meets it again."""
    leave_behind(directory, [], rest=b"rubbish\n" + frames.encode([event(1)], 1))
    journal = open_spool()
    for _ in range(3):
        assert waiting(journal) == ["1"]
        assert journal.counts().corrupt_bytes == len(b"rubbish\n")
        journal.close()
    assert "are damaged" in caplog.text


def test_damage_costs_only_what_it_has_hit(open_spool, directory, clock, caplog):
    """One byte flipped anywhere in a dead segment: the other records are delivered."""
    chance = random.Random(7)
    records = [event(number) for number in range(5)]
    line_bytes = frame_size(records[0])
    journal = open_spool()
    counted = torn = 0
    for number in range(60):
        path = leave_behind(directory, records, name=f"{number:016d}-x-1-0-1.seg")
        data = bytearray(path.read_bytes())
        position = chance.randrange(len(data))
        data[position] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        clock.tick(2)
        hit = position // line_bytes
        assert deliver(journal) == [str(index) for index in range(5) if index != hit]
        assert segments(directory) == []
        if position == len(data) - 1:
            torn += 1
        else:
            counted += line_bytes
    counts = journal.counts()
    assert (counts.corrupt_bytes, counts.torn_tails) == (counted, torn)
    assert "are damaged" in caplog.text


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_rubbish_is_survived(tmp_path_factory, data):
    """Between records of dead writers: every record that is intact is delivered, and the files go."""
    directory = tmp_path_factory.mktemp("rubbish")
    pieces = data.draw(st.lists(st.one_of(st.integers(0, 99), st.binary(max_size=60)), max_size=8))
    whole, intact = b"", []
    for piece in pieces:
        if isinstance(piece, int):
            intact.append(str(piece))
            # A newline before it: rubbish without one would swallow the head of the frame.
            whole += (b"" if whole.endswith(b"\n") or not whole else b"\n") + frames.encode([event(piece)], 1)
        else:
            whole += piece
    (directory / "0000000000000001-x-1-0-1.seg").write_bytes(whole)
    journal = open_journal(directory)
    assert deliver(journal) == intact
    journal.close()
    later = not intact and any(line[:2] in {b"%d " % n for n in range(2, 10)} for line in whole.split(b"\n"))
    assert bool(segments(directory)) == later


def test_damage_after_the_scan_is_never_sent(journal, directory, caplog):
    """The checksum is looked at again when a record is claimed."""
    journal.put([event(1), event(2), event(3)])
    assert journal.counts().store_pending == 3
    assert waiting(journal) == ["1", "2", "3"]
    (path,) = segments(directory)
    with path.open("r+b") as file:
        file.seek(frame_size(event(1)) + frames.HEADER_BYTES + 3)
        file.write(b"?")
    assert deliver(journal) == ["1", "3"]
    assert journal.counts().corrupt_bytes == frame_size(event(2))
    journal.close()
    counts = journal.counts()
    assert (counts.delivered, counts.lost, counts.pending) == (2, 1, 0)
    assert "are damaged" in caplog.text


def test_damaged_records_of_ours_are_counted_as_lost(journal, directory, caplog):
    """Once the segment is done with, what is neither delivered nor dead is lost."""
    journal.put([event(1), event(2), event(3)])
    (path,) = segments(directory)
    with path.open("r+b") as file:
        file.seek(frames.HEADER_BYTES + 3)
        file.write(b"?")
    assert deliver(journal) == ["2", "3"]
    journal.close()
    counts = journal.counts()
    assert (counts.written, counts.delivered, counts.lost, counts.pending) == (3, 2, 1, 0)
    assert "are damaged" in caplog.text


@pytest.mark.parametrize("rest", [b"2 something new\n2 and more\n", b"3 \0\1\2"])
def test_segments_of_a_later_version_are_left_alone(open_spool, directory, clock, caplog, rest):
    """They are another process's to deliver; it says so."""
    path = leave_behind(directory, [], rest=rest)
    (directory / "VERSION").write_bytes(b"2\n")
    journal = open_spool()
    journal.put([event(1)])
    assert deliver(journal) == ["1"]
    for _ in range(3):
        clock.tick(2)
        assert journal.claim("import", 10, ALL) is None
    journal.close()
    assert segments(directory) == [path]
    assert "made by a later version" in caplog.text
    assert "written by a later version" in caplog.text
    assert journal.counts().corrupt_bytes == 0
    assert (directory / "VERSION").read_bytes() == b"2\n"


def test_one_unreadable_segment_does_not_keep_from_the_others(open_spool, directory, clock, caplog):
    """Here a directory has the name of a segment; only files are segments."""
    (directory / "0000000000000001-x-1-0-1.seg").mkdir(parents=True)
    journal = open_spool()
    journal.put([event(1), event(2)])
    assert deliver(journal) == ["1", "2"]
    assert balanced(journal)
    assert caplog.text == ""


def test_a_record_larger_than_a_look_is_found(journal):
    """One claim scans four megabytes; a record may have more, and those behind it still come."""
    large = event("x" * 6_000_000)
    journal.put([event(1)])
    journal.put([large])
    journal.put([event(2)])
    bodies = []
    for _ in range(3):
        claim = journal.claim("import", 10, ALL)
        bodies += claim.bodies if claim else ()
    assert bodies == [event(1).body, large.body, event(2).body]


def test_a_file_that_is_no_text_at_all_is_given_up(open_spool, directory, clock, caplog):
    """It is longer than any record and has no newline; it is not read again and again."""
    path = leave_behind(directory, [])
    with path.open("r+b") as file:
        file.truncate(frames.MAX_BODY_BYTES + 2**20)
    journal = open_spool()
    journal.put([event(1)])
    assert deliver(journal) == ["1"]
    for _ in range(2):
        clock.tick(2)
        assert journal.claim("import", 10, ALL) is None
    assert not path.exists()
    counts = journal.counts()
    assert counts.corrupt_bytes > 0
    assert counts.store_pending == 0
    assert "are damaged" in caplog.text
