"""Journal: many objects on one directory, and everything that may happen to its files."""

import contextlib
import gc
import json
import logging
import os
import random
import shutil
import stat
import subprocess
import threading
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.journals import (
    ALL,
    Clock,
    balanced,
    deliver,
    event,
    frame_size,
    names,
    open_journal,
    profile,
    run_python,
    segments,
    waiting,
)

from mixpanel_visitor.delivery.journal import frames
from mixpanel_visitor.delivery.journal.dead_letters import DeadLetters
from mixpanel_visitor.delivery.journal.segments import SegmentWriter
from mixpanel_visitor.delivery.spool import DeadReason
from mixpanel_visitor.errors import SpoolFullError, SpoolUnavailableError

REFUSED = DeadReason(message="too old", field="properties.time", status=400)


@pytest.fixture
def clock():
    """Give a clock that stands still."""
    return Clock()


@pytest.fixture
def directory(tmp_path):
    """Give the path of a directory that does not exist yet."""
    return tmp_path / "spool"


@pytest.fixture
def open_spool(directory, clock):
    """Give a function that opens journals in the directory; all are closed in the end."""
    opened = []

    def open_one(**options):
        opened.append(open_journal(directory, clock, **options))
        return opened[-1]

    yield open_one
    for journal in opened:
        journal.close()


@pytest.fixture
def journal(open_spool):
    """Give a journal with the usual bounds."""
    return open_spool()


def leave_behind(directory, records, *, rest=b"", name="0000000000000001-dead-1-0-1.seg"):
    """Write what a process leaves that was killed."""
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_bytes(frames.encode(records, 1) + rest)
    return path


def put_until(kind, journal, record, message):
    """Put a record again and again until that is refused; give how often it was not."""
    for count in range(1000):
        try:
            journal.put([record])
        except kind as error:
            return count if message in str(error) else pytest.fail(str(error))
    return pytest.fail("it was never refused")


# --- directory and files -----------------------------------------------------------------------


def test_nothing_is_created_before_the_first_put(journal, directory):
    """Nor does looking, claiming or closing create anything."""
    assert journal.claim("import", 10, ALL) is None
    assert journal.counts().leader is False
    journal.sync()
    journal.close()
    assert not directory.exists()


def test_files_are_private(journal, directory):
    """Events are personal data: nobody else may read them, whatever the umask."""
    before = os.umask(0)
    try:
        journal.put([event(1), event(2)])
        claim = journal.claim("import", 10, ALL)
        journal.bury(claim, {0: REFUSED})
        journal.ack(claim, [1])
    finally:
        os.umask(before)
    for path in [directory, *directory.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_one_put_is_one_line_each_in_one_file(journal, directory, clock):
    """`less` shows what waits."""
    journal.put([event(1), profile(2)])
    (path,) = segments(directory)
    assert path.read_bytes() == frames.encode([event(1), profile(2)], int(clock.wall_s * 1000))
    assert (directory / "VERSION").read_text() == "1\n"


def test_segments_of_one_process_keep_their_order(open_spool, directory, clock):
    """Within one millisecond, and though the clock is set back."""
    journal = open_spool(segment_bytes=1)
    for number in range(20):
        journal.put([event(number)])
        clock.wall_s -= 3600 if number == 10 else 0
    assert len(segments(directory)) == 20
    assert waiting(journal) == [str(number) for number in range(20)]


def test_a_segment_is_rolled_by_size(open_spool, directory):
    """A put is never split; one that is larger than a segment gets one for itself."""
    size = frame_size(event(1))
    journal = open_spool(segment_bytes=3 * size)
    for _ in range(7):
        journal.put([event(1)])
    journal.put([event(1)] * 5)
    assert [path.stat().st_size // size for path in segments(directory)] == [3, 3, 1, 5]
    assert balanced(journal)


def test_a_segment_is_rolled_by_age(open_spool, directory, clock):
    """So that one slow writer does not keep delivered records on the disk."""
    journal = open_spool(segment_age_s=600)
    journal.put([event(1)])
    clock.tick(599)
    journal.put([event(2)])
    clock.tick(1)
    journal.put([event(3)])
    assert len(segments(directory)) == 2


def test_an_old_segment_is_sealed_by_sync(open_spool, directory, clock):
    """In processes that only put, and may have nothing to put for hours."""
    journal = open_spool()
    journal.put([event(1)])
    clock.tick(601)
    journal.sync()
    reader = open_spool()
    assert deliver(reader) == ["1"]
    assert segments(directory) == []


def test_an_idle_old_segment_is_sealed_and_deleted(journal, directory, clock):
    """Without another put: a claim is enough."""
    journal.put([event(1)])
    assert deliver(journal) == ["1"]
    clock.tick(300)
    assert journal.claim("import", 10, ALL) is None
    assert len(segments(directory)) == 1
    clock.tick(301)
    assert journal.claim("import", 10, ALL) is None
    assert segments(directory) == []
    assert journal.counts().delivered == 1


def test_leftovers_of_a_creation_that_died_are_swept(open_spool, directory, clock):
    """After a minute, and only if no process holds a lock on them."""
    directory.mkdir()
    for name in ("old.seg.tmp", "acks-1.tmp", "new.seg.tmp"):
        (directory / name).write_bytes(b"")
    writer = SegmentWriter(directory / "held.seg", opened_s=0.0)
    (directory / "held.seg").rename(directory / "held.seg.tmp")
    for name in ("old.seg.tmp", "acks-1.tmp", "held.seg.tmp"):
        os.utime(directory / name, (1, 1))
    open_spool().claim("import", 10, ALL)
    assert sorted(path.name for path in directory.glob("*.tmp")) == ["held.seg.tmp", "new.seg.tmp"]
    writer.close()


def test_files_are_synced_when_told_and_once_a_second_by_claims(journal, directory, clock):
    """Nothing is seen of it but that it works, also when the file is gone meanwhile."""
    journal.put([event(1)])
    journal.sync()
    journal.put([event(2)])
    deliver(journal)
    clock.tick(2)
    journal.put([event(3)])
    (path,) = segments(directory)
    path.unlink()
    journal.sync()


def open_below(directory):
    """Count the descriptors of this process that are open on files below a directory."""
    files = {(path.stat().st_dev, path.stat().st_ino) for path in directory.rglob("*")}
    number = 0
    for path in Path("/dev/fd").iterdir():
        with contextlib.suppress(OSError):  # the one that lists them is closed by now
            status = os.fstat(int(path.name))
            number += (status.st_dev, status.st_ino) in files
    return number


def test_a_journal_that_is_forgotten_leaves_no_descriptor(directory, clock):
    """Without a close: descriptors, locks and lead go with the object."""
    for number in range(3):
        clock.tick(1)
        journal = open_journal(directory, clock)
        journal.put([event(number)])
        assert waiting(journal) == [str(seen) for seen in range(number + 1)]
    assert open_below(directory) > 0
    del journal
    gc.collect()
    assert open_below(directory) == 0


# --- what survives -----------------------------------------------------------------------------


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


# --- acks.json ---------------------------------------------------------------------------------


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


# --- deleting segments -------------------------------------------------------------------------


def test_a_segment_is_deleted_when_every_lane_is_done_with(open_spool, directory, clock):
    """And not before."""
    leave_behind(directory, [event(1), profile(2), event(3)])
    journal = open_spool()
    claim = journal.claim("import", 10, ALL)
    journal.ack(claim, [1])
    assert deliver(journal, "engage") == ["2"]
    clock.tick(5)
    assert journal.claim("import", 10, ALL) is None
    assert len(segments(directory)) == 1
    journal.ack(claim, [0])
    assert segments(directory) == []


def test_a_living_writers_segment_is_never_deleted(open_spool, directory, clock):
    """More may come, at any time."""
    writer, leader = open_spool(), open_spool()
    for number in range(5):
        writer.put([event(number)])
        clock.tick(2)
        assert deliver(leader) == [str(number)]
        assert len(segments(directory)) == 1
    writer.close()
    clock.tick(2)
    assert leader.claim("import", 10, ALL) is None
    assert segments(directory) == []


def test_a_clean_end_leaves_no_segment(journal, directory):
    """When all was delivered, close takes the last segment with it."""
    journal.put([event(1)])
    deliver(journal)
    journal.close()
    assert segments(directory) == []
    assert journal.counts().delivered == 1


# --- several journals --------------------------------------------------------------------------


def test_only_one_of_them_leads(open_spool):
    """The others put; what they have put is delivered all the same."""
    leader, follower = open_spool(), open_spool()
    leader.put([event(1)])
    follower.put([event(2)])
    assert sorted(waiting(leader)) == ["1", "2"]
    assert follower.claim("import", 10, ALL) is None
    assert leader.counts().leader
    assert not follower.counts().leader


def test_others_records_are_seen_within_a_quarter_of_a_second(open_spool, clock):
    """The directory is not listed for every claim; a put of the same process is seen at once."""
    leader, follower = open_spool(), open_spool()
    leader.put([event(1)])
    assert deliver(leader) == ["1"]
    follower.put([event(2)])
    assert leader.claim("import", 10, ALL) is None
    clock.tick(0.26)
    assert deliver(leader) == ["2"]
    leader.put([event(3)])
    assert deliver(leader) == ["3"]


@pytest.mark.parametrize("end", ["close", "drop"])
def test_the_lead_moves_on(open_spool, directory, clock, end):
    """Another one takes over within a second, and delivers what is left."""
    leader, follower = open_journal(directory, clock), open_spool()
    leader.put([event(1), event(2)])
    leader.ack(leader.claim("import", 1, ALL), [0])
    claim = leader.claim("import", 1, ALL)
    assert follower.claim("import", 10, ALL) is None
    if end == "close":
        leader.close()
        leader.ack(claim, [0])
    del leader
    gc.collect()
    assert follower.claim("import", 10, ALL) is None
    clock.tick(1)
    assert deliver(follower) == ["2"]
    assert follower.counts().leader


def test_a_follower_knows_what_became_of_its_own(open_spool, directory, clock):
    """From acks.json while the segments are there, and from what is left of it afterwards."""
    leader, follower = open_spool(), open_spool(segment_bytes=1)
    leader.put([event("leader's")])
    assert deliver(leader) == ["leader's"]
    for number in range(4):
        follower.put([event(number)])
    clock.tick(2)
    claim = leader.claim("import", 2, ALL)
    leader.ack(claim, [0])
    leader.bury(claim, {1: REFUSED})
    counts = follower.counts()
    assert (counts.written, counts.delivered, counts.dead_lettered, counts.pending) == (4, 1, 1, 2)
    assert (counts.store_pending, counts.store_dead, counts.leader) == (2, 1, False)
    deliver(leader)
    clock.tick(2)
    assert leader.claim("import", 2, ALL) is None
    assert len(segments(directory)) == 2  # those that are still written to
    counts = follower.counts()
    assert (counts.written, counts.delivered, counts.dead_lettered, counts.pending) == (4, 3, 1, 0)
    assert (counts.lost, counts.store_pending, counts.oldest_age_s) == (0, 0, 0.0)
    assert leader.counts().delivered == 1


def test_segments_that_are_long_gone_were_delivered(open_spool, directory, clock):
    """The leader keeps the figures of a deleted segment for an hour only."""
    leader, follower = open_spool(), open_spool(segment_bytes=1)
    leader.put([event(0)])
    follower.put([event(1)])
    follower.put([event(2)])
    clock.tick(1)
    assert sorted(deliver(leader)) == ["0", "1", "2"]
    clock.tick(1)
    assert leader.claim("import", 10, ALL) is None
    gone = follower._producer.names()[0]
    assert gone in (directory / "acks.json").read_text()
    for _ in range(2):
        clock.tick(3700)
        assert leader.claim("import", 10, ALL) is None
    assert gone not in (directory / "acks.json").read_text()
    counts = follower.counts()
    assert (counts.written, counts.delivered, counts.pending, counts.lost) == (2, 2, 0, 0)


def test_acks_do_not_grow_for_ever(open_spool, directory):
    """Many small segments within an hour: the longest gone are forgotten first."""
    journal = open_spool(segment_bytes=1)
    for number in range(600):
        journal.put([event(number)])
    assert len(deliver(journal)) == 600
    journal.close()
    entries = json.loads((directory / "acks.json").read_bytes())["segments"]
    assert len(entries) == 512
    assert journal.counts().delivered == 600


def test_a_writer_that_nobody_asks_forgets_its_old_segments(open_spool, directory, clock):
    """A process that only puts, for months, must not remember every segment it has written."""
    leader, follower = open_spool(), open_spool(segment_bytes=1)
    leader.put([event("first")])
    for number in range(300):
        follower.put([event(number)])
        if number % 50 == 0:
            clock.tick(2)
            deliver(leader)
    assert len(follower._producer.names()) < 100
    clock.tick(2)
    deliver(leader)
    counts = follower.counts()
    assert (counts.written, counts.delivered, counts.pending) == (300, 300, 0)


def test_delivery_under_two_leaders_counts_once(open_spool, directory, clock):
    """What the first has acknowledged out of order the second delivers again."""
    first, second = open_spool(), open_spool()
    first.put([event(number) for number in range(4)])
    first.claim("import", 2, ALL)
    first.ack(first.claim("import", 2, ALL), [0, 1])
    assert first.counts().delivered == 2
    first.close()
    clock.tick(1)
    assert len(deliver(second)) == 4
    second.close()
    counts = first.counts()
    assert (counts.delivered, counts.pending, counts.lost) == (4, 0, 0)


def test_a_duplicate_that_is_refused_was_delivered(open_spool, directory, clock):
    """Delivered, delivered again because acks.json was lost, and then refused: the figures still add up."""
    first, second = open_spool(), open_spool()
    first.put([event(1)])
    claim = first.claim("import", 10, ALL)
    first.ack(claim, [0])
    assert first.counts().delivered == 1
    (directory / "acks.json").unlink()
    second.put([event(2)])
    first._consumer.close()  # the lead goes, the segment stays
    clock.tick(1)
    claim = second.claim("import", 10, ALL)
    second.bury(claim, {0: REFUSED, 1: REFUSED})
    counts = first.counts()
    assert (counts.written, counts.delivered, counts.dead_lettered, counts.lost) == (1, 1, 0, 0)


def test_counts_of_a_large_store_are_estimated_first(open_spool, directory, clock):
    """A follower counts sixteen megabytes in a call, and ends up exact."""
    record = event("x" * 100_000)
    for number in range(5):
        leave_behind(directory, [record] * 50, name=f"{number:016d}-x-1-0-1.seg")
    leader, follower = open_spool(), open_spool()
    leader.put([event("small")])
    leader.claim("groups", 1, 1)
    assert follower.counts().store_pending == pytest.approx(251, rel=0.05)
    assert follower.counts().store_pending == 251
    assert leader.counts().store_pending == pytest.approx(251, rel=0.05)
    for _ in range(8):
        last = leader.counts().store_pending
    assert last == 251


# --- removal -----------------------------------------------------------------------------------


def test_a_removed_directory_is_made_anew_and_the_loss_is_counted(journal, directory, clock, caplog):
    """Within a second; the figures still add up."""
    journal.put([event(number) for number in range(5)])
    journal.ack(journal.claim("import", 2, ALL), [0, 1])
    shutil.rmtree(directory)
    clock.tick(1)
    journal.put([event("new")])
    counts = journal.counts()
    assert (counts.written, counts.delivered, counts.lost, counts.pending) == (6, 2, 3, 1)
    assert deliver(journal) == ["new"]
    assert balanced(journal)
    errors = [line for line in caplog.messages if "was removed while this process used it" in line]
    assert len(errors) == 1
    assert "up to 5 records" in errors[0]


def test_a_removal_is_noticed_without_another_put(journal, directory, clock):
    """Asking for counts, or claiming, is enough."""
    journal.put([event(1)])
    shutil.rmtree(directory)
    counts = journal.counts()
    assert (counts.written, counts.lost, counts.pending) == (1, 1, 0)
    clock.tick(1)
    assert journal.claim("import", 10, ALL) is None
    assert balanced(journal)


def test_a_removal_between_two_looks_is_noticed_by_the_roll(open_spool, directory):
    """A new segment cannot be created in a directory that is gone: it is made anew first."""
    journal = open_spool(segment_bytes=1)
    journal.put([event(1)])
    shutil.rmtree(directory)
    journal.put([event(2)])
    counts = journal.counts()
    assert (counts.written, counts.lost, counts.pending) == (2, 1, 1)
    assert deliver(journal) == ["2"]


def test_a_replaced_version_file_is_no_removal(open_spool, directory, clock, caplog):
    """An editor, or a later version, may do that: what the leader has deleted was delivered all the same."""
    journal = open_spool(segment_bytes=1)
    for number in range(3):
        journal.put([event(number)])
    assert len(deliver(journal)) == 3
    (directory / "VERSION").unlink()
    clock.tick(1)
    journal.put([event(3)])
    counts = journal.counts()
    assert (counts.written, counts.delivered, counts.pending, counts.lost) == (4, 3, 1, 0)
    assert caplog.text == ""


def test_sealed_segments_that_are_removed_are_lost_too(journal, directory, clock):
    """Nothing was open in the directory when it was removed."""
    journal.put([event(1)])
    journal.close()
    shutil.rmtree(directory)
    counts = journal.counts()
    assert (counts.written, counts.delivered, counts.lost, counts.pending) == (1, 0, 1, 0)


def test_one_segment_removed_under_the_leader(open_spool, directory, clock, caplog):
    """Records out with a claim may still arrive; the others in it are lost, and nothing else is."""
    journal = open_spool(segment_bytes=3 * frame_size(event(1)))
    journal.put([event(number) for number in range(3)])
    journal.put([event(number) for number in range(3, 6)])
    claim = journal.claim("import", 2, ALL)
    segments(directory)[0].unlink()
    clock.tick(1)
    assert waiting(journal) == ["3", "4", "5"]
    assert "was removed from outside" in caplog.text
    journal.ack(claim, [0])
    assert balanced(journal)
    journal.release(claim, [1])
    assert deliver(journal) == ["3", "4", "5"]
    clock.tick(1)
    assert journal.claim("import", 2, ALL) is None
    counts = journal.counts()
    assert (counts.delivered, counts.lost, counts.pending) == (4, 2, 0)


def test_a_replaced_lock_file_ends_the_lead(open_spool, directory, clock):
    """Two might lead for a second; then the old one asks again, and forgets its claims."""
    old, new = open_spool(), open_spool()
    old.put([event(1)])
    claim = old.claim("import", 10, ALL)
    (directory / "leader.lock").unlink()
    clock.tick(1)
    assert len(new.claim("import", 10, ALL)) == 1
    assert old.claim("import", 10, ALL) is None
    assert not old.counts().leader
    old.ack(claim, [0])
    assert old.counts().delivered == 0


# --- bounds and trouble ------------------------------------------------------------------------


def test_dead_letters_that_cannot_be_written_leave_the_records_waiting(open_spool, directory, caplog):
    """A record is not forgotten before it is written down."""
    leave_behind(directory, [event(1), event(2)])
    (directory / "dead").write_bytes(b"in the way")
    journal = open_spool()
    journal.bury(journal.claim("import", 1, ALL), {0: REFUSED})
    assert "Dead letters cannot be written" in caplog.text
    assert waiting(journal) == ["1", "2"]
    (directory / "dead").unlink()
    journal.bury(journal.claim("import", 1, ALL), {0: REFUSED})
    assert deliver(journal) == ["2"]
    (letter,) = DeadLetters(directory / "dead").entries()
    assert (letter.reason, letter.body) == (REFUSED, event(1).body)


def test_a_full_spool_asks_the_disk_once_a_second(open_spool, clock):
    """After a delivery records are taken again, without a restart."""
    journal = open_spool(max_bytes=10 * frame_size(event(1)), segment_bytes=1)
    for _ in range(10):
        journal.put([event(1)])
    with pytest.raises(SpoolFullError) as refusal:
        journal.put([event(1)])
    assert "it may hold" in str(refusal.value)
    assert len(deliver(journal)) == 10
    with pytest.raises(SpoolFullError):
        journal.put([event(1)])
    clock.tick(1)
    journal.put([event(1)])
    assert journal.counts().written == 11


def test_other_processes_records_count_against_the_bound(open_spool, clock):
    """The bound is on the directory, seen once a second."""
    bound = 10 * frame_size(event(1))
    one, other = open_spool(max_bytes=bound), open_spool(max_bytes=bound)
    one.put([event(1)] * 5)
    other.put([event(1)] * 5)
    clock.tick(1)
    for journal in (one, other):
        with pytest.raises(SpoolFullError):
            journal.put([event(1)])


def test_a_path_that_is_no_directory_is_reported_with_what_to_do(directory, clock):
    """The caller counts it; nothing else is raised."""
    directory.write_bytes(b"")
    journal = open_journal(directory, clock)
    with pytest.raises(SpoolUnavailableError, match="may write there") as trouble:
        journal.put([event(1)])
    assert trouble.value.reason == "spool_unavailable"
    assert str(directory) in str(trouble.value)
    assert journal.claim("import", 10, ALL) is None
    assert journal.counts().written == 0
    directory.unlink()
    clock.tick(1)
    journal.put([event(1)])
    assert deliver(journal) == ["1"]
    journal.close()


def test_trouble_with_the_lock_is_logged(journal, directory, caplog):
    """This process then delivers nothing, but it still takes records."""
    (directory / "leader.lock").mkdir(parents=True)
    journal.put([event(1)])
    assert journal.claim("import", 10, ALL) is None
    assert "cannot be locked" in caplog.text
    assert journal.counts().store_pending == 1


def test_a_sync_that_fails_is_logged_and_tried_again(journal, directory, clock, caplog):
    """Here the segment cannot be opened: its name has become a link to itself."""
    journal.put([event(1)])
    (path,) = segments(directory)
    path.rename(directory / "aside")
    path.symlink_to(path)
    journal.sync()
    assert "cannot be synced" in caplog.text
    path.unlink()
    (directory / "aside").rename(path)
    journal.sync()
    assert deliver(journal) == ["1"]


def test_a_put_does_not_wait_for_a_slow_disk(journal, monkeypatch):
    """While a sync takes its time, requests go on storing."""
    syncing, done = threading.Event(), threading.Event()

    def slow(_fd):
        syncing.set()
        assert done.wait(20)

    journal.put([event(1)])
    monkeypatch.setattr(os, "fdatasync", slow)
    monkeypatch.setattr(os, "fsync", slow)
    syncer = threading.Thread(target=journal.sync)
    syncer.start()
    try:
        assert syncing.wait(20)
        journal.put([event(2)])  # it would wait for five seconds and then raise
    finally:
        done.set()
        syncer.join()


def test_a_put_within_a_put_is_refused_at_once(journal):
    """A signal handler that tracks may have interrupted a put of its own thread."""
    journal.put([event(1)])
    appender = journal._producer
    assert appender.acquire(0)
    try:
        with pytest.raises(SpoolUnavailableError, match="interrupted"):
            journal.put([event(2)])
        assert journal.counts().written == 1
        journal.sync()
    finally:
        appender.release()
    journal.put([event(3)])
    assert deliver(journal) == ["1", "3"]


def test_a_limit_on_file_size_makes_a_new_segment():
    """The write that came short is taken back and done again, and nothing is doubled."""
    printed = run_python(
        """
import resource, tempfile
from pathlib import Path
from support.journals import deliver, event, frame_size, open_journal, segments

with tempfile.TemporaryDirectory() as directory:
    size = frame_size(event(1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 * size + 20, resource.RLIM_INFINITY))
    journal = open_journal(Path(directory, "spool"))
    for number in range(8):
        journal.put([event(number)])
    print([path.stat().st_size // size for path in segments(journal.directory)])
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(deliver(journal), journal.counts().corrupt_bytes)
    journal.close()
"""
    )
    assert printed.splitlines() == ["[3, 3, 2]", "['0', '1', '2', '3', '4', '5', '6', '7'] 0"]


def test_a_write_that_never_fits_is_refused():
    """Nothing of it stays, and what was stored is delivered."""
    printed = run_python(
        """
import resource, tempfile
from pathlib import Path
from support.journals import deliver, event, frame_size, open_journal, segments
from mixpanel_visitor.errors import SpoolUnavailableError

with tempfile.TemporaryDirectory() as directory:
    journal = open_journal(Path(directory, "spool"))
    journal.put([event(1)])
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 * frame_size(event(1)), resource.RLIM_INFINITY))
    try:
        journal.put([event("x" * 1000)])
    except SpoolUnavailableError as error:
        print("Free space on the volume" in str(error), "No space left" in str(error))
    print(len(segments(journal.directory)))
    journal.put([event(2)])
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(deliver(journal), journal.counts().written, journal.counts().pending)
    journal.close()
"""
    )
    assert printed.splitlines() == ["True True", "1", "['1', '2'] 2 0"]


@pytest.fixture
def small_volume(tmp_path):
    """Give a file system of one megabyte."""
    volume = tmp_path / "volume"
    volume.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", volume], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("only root can mount a small volume")
    yield volume
    subprocess.run(["umount", volume], check=True)


def test_a_full_disk_refuses_and_recovers(small_volume, clock):
    """Somebody else fills the volume: puts are refused, delivery goes on, and then puts do again."""
    journal = open_journal(small_volume / "spool", clock, max_bytes=10**9)
    journal.put([event("first")])
    balloon = small_volume / "balloon"
    balloon.write_bytes(bytes(900_000))
    with balloon.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    written = put_until(SpoolUnavailableError, journal, event(1), "No space left") + 1
    clock.tick(1)
    with pytest.raises(SpoolFullError, match="5% of its volume"):
        journal.put([event("still full")])
    assert len(deliver(journal)) == written
    counts = journal.counts()
    assert (counts.written, counts.delivered, counts.pending) == (written, written, 0)
    balloon.unlink()
    clock.tick(1)
    journal.put([event("again")])
    assert deliver(journal) == ["again"]
    journal.close()


def test_a_small_volume_is_not_filled(small_volume, clock):
    """By itself the spool takes a tenth of the volume at most."""
    journal = open_journal(small_volume / "spool", clock)
    put_until(SpoolFullError, journal, event("x" * 1000), "it may hold 104,857 bytes")
    assert 90_000 < journal.counts().store_bytes <= 104_857
    journal.close()


def test_a_waiting_record_costs_about_eight_bytes_of_memory(open_spool, directory):
    """An outage of a day must not fill the memory: bodies stay on disk until they are claimed."""
    count = 50_000
    leave_behind(directory, [event(number) for number in range(count)])
    journal = open_spool()
    journal.put([event("last")])
    tracemalloc.start()
    try:
        journal.claim("groups", 1, 1)  # it leads from here on, and reads
        while journal.counts().store_pending != count + 1:
            pass
        # Of the journal only: senders that other tests have left behind need memory of their own.
        ours = tracemalloc.Filter(inclusive=True, filename_pattern="*/delivery/journal/*")
        snapshot = tracemalloc.take_snapshot().filter_traces([ours])
    finally:
        tracemalloc.stop()
    size_bytes = sum(found.size for found in snapshot.statistics("filename"))
    assert 4 < size_bytes / count < 12


def test_the_log_has_one_name(journal, directory, clock, caplog):
    """Everything is said under `mixpanel_visitor`."""
    journal.put([event(1)])
    shutil.rmtree(directory)
    with caplog.at_level(logging.DEBUG):
        journal.counts()
    assert {record.name for record in caplog.records} == {"mixpanel_visitor"}
