"""Journal: its directory and its files."""

import contextlib
import gc
import os
import stat
from pathlib import Path

import pytest
from support.journals import (
    ALL,
    balanced,
    deliver,
    event,
    frame_size,
    leave_behind,
    open_journal,
    profile,
    segments,
    waiting,
)

from mixpanel_visitor.delivery.journal import frames
from mixpanel_visitor.delivery.journal.segments import SegmentWriter
from mixpanel_visitor.delivery.spool import DeadReason

REFUSED = DeadReason(message="too old", field="properties.time", status=400)


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


@pytest.fixture
def synced() -> list[Path]:
    """What has been synced so far."""
    return []


@pytest.fixture
def watched(open_spool, synced):
    """Return a journal that tells what it syncs."""
    return open_spool(sync_path=synced.append)


def test_a_sync_syncs_the_segment_and_its_directory(watched, directory, synced):
    """Both are needed to find the records after a power failure."""
    watched.put([event(1)])
    assert synced == []
    watched.sync()
    assert synced == [*segments(directory), directory]


def test_what_is_synced_is_not_synced_again(watched, synced):
    """A sync costs the disk something; without a new record there is none."""
    watched.put([event(1)])
    watched.sync()
    synced.clear()
    watched.sync()
    assert synced == []


def test_claims_sync_once_a_second(watched, directory, clock, synced):
    """While there is always something to send, the sender's thread comes to no other sync."""
    watched.claim("import", 1, ALL)
    watched.put([event(1)])
    watched.claim("import", 1, ALL)
    assert synced == []
    clock.tick(1)
    watched.claim("import", 1, ALL)
    assert synced == [*segments(directory), directory]


def test_a_closed_segment_is_synced_too(open_spool, directory, synced):
    """What was rolled since the last sync has a name of its own."""
    journal = open_spool(segment_bytes=1, sync_path=synced.append)
    journal.put([event(1)])
    journal.put([event(2)])
    journal.sync()
    assert synced == [*segments(directory), directory]
    assert len(synced) == 3


def test_a_segment_that_is_gone_needs_no_sync(open_spool, directory, caplog):
    """It was closed, delivered and deleted meanwhile: that is no trouble with the disk."""
    journal = open_spool(segment_bytes=1)
    journal.put([event(1)])
    journal.put([event(2)])
    segments(directory)[0].unlink()
    journal.sync()
    assert caplog.messages == []


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
