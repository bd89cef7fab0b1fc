"""Journal: full disks, bounds, and other trouble."""

import contextlib
import logging
import shutil
import subprocess
import threading
import tracemalloc

import pytest
from support.journals import (
    ALL,
    deliver,
    event,
    frame_size,
    leave_behind,
    open_journal,
    put_until,
    run_python,
    segments,
    waiting,
)

from mixpanel_visitor.delivery.journal.dead_letters import DeadLetters
from mixpanel_visitor.delivery.spool import DeadReason
from mixpanel_visitor.errors import SpoolFullError, SpoolUnavailableError

REFUSED = DeadReason(message="too old", field="properties.time", status=400)


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


def test_a_put_does_not_wait_for_a_slow_disk(open_spool):
    """While a sync takes its time, requests go on storing."""
    syncing, done = threading.Event(), threading.Event()

    def slow(_path):
        syncing.set()
        assert done.wait(20)

    journal = open_spool(sync_path=slow)
    journal.put([event(1)])
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
    """Return a file system of one megabyte."""
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
