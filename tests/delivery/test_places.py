"""Places: directories that others may write to, descriptors that run out, file systems without locks."""

import errno
import fcntl
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from support.mutants import TESTS, python_path
from support.waiting import PATIENCE_S

from mixpanel_visitor.delivery.journal import Journal
from mixpanel_visitor.delivery.journal.directory import fix_for
from mixpanel_visitor.delivery.journal.frames import encode, scan
from mixpanel_visitor.delivery.spool import DeadReason
from mixpanel_visitor.delivery.subject_digest import digests
from mixpanel_visitor.errors import SpoolUnavailableError
from mixpanel_visitor.records import Record
from mixpanel_visitor.tracking.tracker import Tracker

NOBODY = 65534
SETTINGS = {"token": "t", "secret_key": "a-key-of-some-length"}
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser gives files away")


def record(number=0, **properties):
    return Record("import", b'{"event":"E","properties":{"distinct_id":"u%d"}}' % number)


@pytest.fixture
def exhausted(tmp_path_factory):
    """A call that takes all descriptors there are; they are given back at the end."""
    Journal(tmp_path_factory.mktemp("another")).put([record()])  # imports what a first write imports
    hog = []
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    def exhaust():
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        try:
            while True:
                hog.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass  # EMFILE

    yield exhaust
    for fd in hog:
        os.close(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


class Clock:
    now_s = 1_000.0

    def __call__(self):
        return self.now_s


def test_a_write_that_needs_no_descriptor_is_done_while_there_are_none(tmp_path, exhausted):
    """That the room cannot be measured is no reason to refuse."""
    clock = Clock()
    journal = Journal(tmp_path / "spool", monotonic=clock)
    journal.put([record()])
    exhausted()
    for _ in range(10):
        clock.now_s += 2
        journal.put([record()])
    assert journal.counts().written == 11


def test_a_segment_that_is_old_is_written_on_while_there_are_no_descriptors(tmp_path, exhausted):
    """Another one cannot be opened; the one that is open can take more."""
    clock = Clock()
    journal = Journal(tmp_path / "spool", monotonic=clock, segment_age_s=10)
    journal.put([record()])
    exhausted()
    clock.now_s += 20
    journal.put([record()])
    assert journal.counts().written == 2


def test_figures_of_the_store_stay_while_they_cannot_be_taken(tmp_path, exhausted):
    """A directory that cannot be listed is not an empty one."""
    journal = Journal(tmp_path / "spool")
    journal.put([record(), record()])
    before = journal.counts()
    exhausted()
    after = journal.counts()
    assert (after.store_pending, after.store_bytes) == (before.store_pending, before.store_bytes)


def test_a_first_write_without_descriptors_says_so(tmp_path, exhausted):
    """The line names the true cause and what to do about it."""
    journal = Journal(tmp_path / "spool")
    (tmp_path / "spool").mkdir()
    exhausted()
    with pytest.raises(SpoolUnavailableError, match="too many open files: find the leak"):
        journal.put([record()])


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_called_so(code, tmp_path, monkeypatch):
    """Events are refused with the fix, and a flush does not say that all is well."""

    def no_locks(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    tracker = Tracker(**SETTINGS, spool=str(tmp_path), deliver=False)
    tracker.track("somebody", "E")
    assert tracker.stats()["refused"] == {"spool_unavailable": 1}
    assert not tracker.flush(0)
    assert "no file locks" in fix_for(OSError(code, ""))


VICTIM = """
import os, sys
from mixpanel_visitor.delivery.journal import Journal, consumer, producer  # 1001 may not read it
from mixpanel_visitor.errors import SpoolUnavailableError
from mixpanel_visitor.records import Record
import orjson
os.setuid(1001)
journal = Journal(sys.argv[1])
for _ in range(2):
    try:
        journal.put([Record("import", b"{}")])
        print("stored")
    except SpoolUnavailableError as error:
        print(error)
print(journal.claim("import", 10, 1000))
"""


def used_by_another(directory):
    """What another user's process says that uses this spool."""
    done = subprocess.run(
        [sys.executable, "-c", VICTIM, str(directory)],
        env={**os.environ, "PYTHONPATH": python_path(TESTS)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.fixture
def open_place():
    """A directory that every user reaches, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o777)
        yield Path(directory)


@as_root
def test_a_strangers_directory_that_is_open_to_all_is_refused(open_place):
    """Whoever made it can read and change what waits there; nothing in it is written, claimed or followed."""
    spool = open_place / "spool"
    spool.mkdir()
    (open_place / "victim").write_text("precious")
    os.chown(open_place / "victim", 1001, -1)
    (spool / "VERSION").symlink_to(open_place / "victim")
    os.chown(spool, NOBODY, -1)
    spool.chmod(0o777)
    said = used_by_another(spool)
    assert said.count("belongs to another user (uid 65534) and is open to everybody") == 3
    assert "stored" not in said
    assert (open_place / "victim").read_text() == "precious"


@as_root
def test_a_strangers_link_in_place_of_the_spool_is_refused(open_place):
    """It may lead anywhere that this user may write to."""
    (open_place / "home").mkdir()
    os.chown(open_place / "home", 1001, -1)
    (open_place / "spool").symlink_to(open_place / "home")
    os.chown(open_place / "spool", NOBODY, -1, follow_symlinks=False)
    assert "stored" not in used_by_another(open_place / "spool")


@as_root
def test_a_spool_below_a_directory_that_is_open_to_all_is_warned_of(open_place):
    """As in a container's volume: it works, with one line."""
    said = used_by_another(open_place / "spool")
    assert said.count("stored") == 2
    assert said.count("The spool may not be private") == 1


@pytest.mark.parametrize("name", ["acks.json", "sending", "leader.lock"])
def test_a_link_in_place_of_a_file_is_not_followed(name, tmp_path):
    """What the spool writes stays in the spool."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    journal = Journal(tmp_path / "spool")
    journal.put([record()])
    (tmp_path / "spool" / name).symlink_to(victim)
    claim = journal.claim("import", 10, 10_000)
    if claim is not None:
        journal.note_sending(claim, [0])
        journal.bury(claim, {0: DeadReason(message="refused")})
    journal.close()
    assert victim.read_text() == "precious"


def test_names_of_temporary_files_cannot_be_known_before(tmp_path, monkeypatch):
    """Nobody can put a link there."""
    opened = []
    open_file = os.open

    def watched(path, flags, *more, **named):
        if str(path).endswith(".tmp"):
            opened.append((str(path), flags))
        return open_file(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", watched)
    for _ in range(2):
        journal = Journal(tmp_path / "spool")
        journal.put([record()])
        claim = journal.claim("import", 10, 10_000)
        journal.bury(claim, {0: DeadReason(message="refused")})
        journal.close()
    paths = [path for path, _ in opened]
    assert len(paths) == len(set(paths)) >= 4
    assert all(flags & os.O_EXCL and flags & os.O_NOFOLLOW for _, flags in opened)


def test_a_pipe_among_the_segments_holds_up_nobody(tmp_path):
    """Only files are segments."""
    journal = Journal(tmp_path / "spool")
    journal.put([record()])
    os.mkfifo(tmp_path / "spool" / "0000000000000000-x.seg")
    (tmp_path / "spool" / "0000000000000001-x.seg").symlink_to("/etc/passwd")
    assert len(journal.claim("import", 10, 10_000)) == 1
    journal.close()


def test_dead_letters_are_not_read_again_for_each_opt_out(tmp_path, monkeypatch):
    """What they hold is remembered; only those of whoever has opted out are taken out."""
    journal = Journal(tmp_path / "spool")
    journal.put([record(number) for number in range(5)])
    claim = journal.claim("import", 10, 10_000)
    journal.bury(claim, {index: DeadReason(message="refused") for index in range(5)})
    journal.withdraw(digests(["nobody-0"]))
    journal.revision()
    reads = []
    letters = journal._consumer._dead_letters
    monkeypatch.setattr(letters, "entries", lambda: reads.append(1) or iter(()))
    for number in range(1, 5):
        journal.withdraw(digests([f"nobody-{number}"]))
        journal.revision()
    assert reads == []
    monkeypatch.undo()
    journal.withdraw(digests(["u3"]))
    journal.revision()
    assert journal.counts().store_dead == 4


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("also", [b"", b"xx"], ids=["length and newline", "and more"])
def test_damage_over_length_and_newline_costs_one_record(number, also):
    """The next one starts in the damaged line, and is found by its own checksum."""
    lines = [encode([record(each)], 1_763_900_000_000) for each in range(3)]
    line = bytearray(lines[number])
    line[13:21] = b"zzzzzzzz"
    line[-1:] = b"z"
    line[-3 - len(also) : -3] = also
    lines[number] = bytes(line)
    found = scan(b"".join(lines))
    assert len(found.starts["import"]) == 2
    assert sum(damage.end - damage.start for damage in found.damages) == len(line)


def test_damage_over_many_frames_does_not_hide_the_last(tmp_path):
    """Everything from one length to the newline of a later frame is lost, and the frame behind is not."""
    lines = [encode([record(each)], 1_763_900_000_000) for each in range(4)]
    data = bytearray(b"".join(lines))
    end = len(lines[0]) + len(lines[1]) + len(lines[2])
    data[13:end] = b"?" * (end - 13)
    assert len(scan(bytes(data)).starts["import"]) == 1
