"""Diary: what a leader had in hand when it died, as the next one reads it."""

from zlib import crc32

import pytest

from mixpanel_visitor.delivery.journal.in_flight_log import InFlightLog

SEGMENT = "0001.seg"


@pytest.fixture
def path(tmp_path):
    (tmp_path / SEGMENT).touch()
    return tmp_path / "sending"


def next_leader(path):
    log = InFlightLog(path)
    log.load()
    return log


def test_what_was_in_hand_has_a_death_more(path):
    """Each death of a leader counts once, for all records between the first and the last."""
    for crashes in (1, 2, 3):
        next_leader(path).note_sending("import", [(SEGMENT, 100), (SEGMENT, 300)])
        log = next_leader(path)
        assert [log.crashes("import", SEGMENT, at) for at in (99, 100, 200, 300, 301)] == [
            0,
            *[crashes] * 3,
            0,
        ]
        assert log.crashes("engage", SEGMENT, 200) == 0
        assert log.crashes("import", "0002.seg", 200) == 0


def test_a_request_that_has_left_is_nobodys_fault(path):
    """After `note_sent` a death says nothing about the records."""
    log = InFlightLog(path)
    log.note_sending("import", [(SEGMENT, 100)])
    log.note_sent()
    assert not next_leader(path).has_crashes


def test_a_shorter_entry_replaces_a_longer_one(path):
    """The rest of the longer one behind it is not read."""
    log = InFlightLog(path)
    log.note_sending("import", [(SEGMENT, 100_000_000)])
    log.note_sending("import", [(SEGMENT, 1)])
    assert next_leader(path).crashes("import", SEGMENT, 1) == 1


def test_segments_that_are_gone_are_forgotten(path):
    """Nothing of them can be sent any more."""
    InFlightLog(path).note_sending("import", [("gone.seg", 1)])
    assert not next_leader(path).has_crashes


@pytest.mark.parametrize("content", [b"", b"\0" * 40, b"00000002 00000000 []\n", b"zz", b"\xff" * 100])
def test_rubbish_is_an_empty_diary(path, content):
    """Deaths are then not counted, and nothing else happens."""
    path.write_bytes(content)
    assert not next_leader(path).has_crashes


def test_a_diary_that_cannot_be_written_stops_nobody(tmp_path):
    """Its directory is not there."""
    log = InFlightLog(tmp_path / "none" / "sending")
    log.note_sending("import", [(SEGMENT, 1)])
    log.note_sent()
    assert not next_leader(tmp_path / "none" / "sending").has_crashes


def test_what_was_sent_once_and_not_answered_is_in_doubt(path):
    """Until its outcome is noted; then nobody asks any more."""
    log = InFlightLog(path)
    log.note_sending("engage", [(SEGMENT, 100), (SEGMENT, 300)], once=True)
    log.note_sent()
    heir = next_leader(path)
    assert [heir.is_ambiguous("engage", SEGMENT, at) for at in (99, 100, 300, 301)] == [
        False,
        True,
        True,
        False,
    ]
    assert not heir.is_ambiguous("groups", SEGMENT, 100)
    assert not heir.has_crashes
    assert next_leader(path).is_ambiguous("engage", SEGMENT, 100)
    log = next_leader(path)
    log.note_sending("engage", [(SEGMENT, 400)], once=True)
    log.note_sent()
    log.note_settled()
    assert not next_leader(path).is_ambiguous("engage", SEGMENT, 400)


def test_it_is_in_doubt_as_soon_as_it_is_in_hand(path):
    """The leader may die after the request has left and before it can note that."""
    InFlightLog(path).note_sending("engage", [(SEGMENT, 100)], once=True)
    heir = next_leader(path)
    assert heir.is_ambiguous("engage", SEGMENT, 100)
    assert heir.crashes("engage", SEGMENT, 100) == 1


def test_what_may_be_repeated_is_not_in_doubt(path):
    """Twice does no harm."""
    InFlightLog(path).note_sending("engage", [(SEGMENT, 100)])
    assert not next_leader(path).has_ambiguous


def test_a_diary_without_doubts_is_read(path):
    """So it was written at first."""
    text = b'[[["0001.seg","import",1,9,0]],[]]'
    path.write_bytes(b"%08x %08x %b\n" % (len(text), crc32(text), text))
    assert next_leader(path).crashes("import", SEGMENT, 5) == 1
