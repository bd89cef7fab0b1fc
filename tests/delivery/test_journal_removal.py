"""Journal: files and directories that somebody removes."""

import shutil

from support.journals import (
    ALL,
    balanced,
    deliver,
    event,
    frame_size,
    segments,
    waiting,
)


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
