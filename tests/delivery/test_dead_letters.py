"""Dead letters: what was refused, and why, for people to read and to send again."""

import contextlib
import fcntl
import json
import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.journals import Clock, event, names, run_python, start_python
from support.waiting import PATIENCE_S, wait_until

from mixpanel_visitor.delivery.dead_letter import BATCH_SIZE, DeadLetter
from mixpanel_visitor.delivery.journal.dead_letters import DeadLetters
from mixpanel_visitor.delivery.spool import DeadReason

LOCKS = Path("/proc/locks")


@contextlib.contextmanager
def locked(path):
    """Hold the lock on a file, as somebody does who changes it."""
    fd = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
    finally:
        os.close(fd)


def numbered(count):
    """Make so many letters that are all different."""
    return [letter(event(number).body) for number in range(count)]


def letter(body=b'{"event":"x"}', message="too old", endpoint="import"):
    """Make a dead letter."""
    reason = DeadReason(message=message, field="properties.time", status=400)
    return DeadLetter(time_ms=1_763_934_567_890, endpoint=endpoint, reason=reason, body=body)


@pytest.fixture
def dead_letters(tmp_path):
    """Return dead letters with the usual bound."""
    return DeadLetters(tmp_path / "dead", clock=Clock().time)


def test_a_letter_is_one_line_of_json(dead_letters, tmp_path):
    """With the names that the documentation gives."""
    dead_letters.add([letter()])
    (path,) = (tmp_path / "dead").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (line,) = path.read_text().splitlines()
    assert json.loads(line) == {
        "time_ms": 1_763_934_567_890,
        "endpoint": "import",
        "reason": "too old",
        "field": "properties.time",
        "status": 400,
        "record": {"event": "x"},
    }


def test_without_letters_there_is_nothing(dead_letters, tmp_path):
    """Not even a directory."""
    dead_letters.add([])
    assert dead_letters.count() == 0
    assert list(dead_letters.entries()) == []
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=60, deadline=None)
@given(
    body=st.one_of(
        st.dictionaries(st.text(), st.text()).map(lambda fields: json.dumps(fields).encode()),
        st.binary(),
        st.sampled_from([b'"a string"', b'{ "spaces" : 1 }  ', b'{"a":"},\\"record\\":{"}', b"[1]"]),
    ),
    message=st.one_of(st.text(), st.just('","record":{"fake":1}}')),
)
def test_letters_come_back_as_they_went_in(tmp_path_factory, body, message):
    """Byte for byte, whatever the body is: sent again, it must be the same record."""
    dead_letters = DeadLetters(tmp_path_factory.mktemp("dead"))
    put_in = [letter(body.replace(b"\n", b" "), message), letter(endpoint="engage")]
    dead_letters.add(put_in)
    assert list(dead_letters.entries()) == put_in
    assert dead_letters.count() == 2


def test_damaged_lines_are_left_out(dead_letters, tmp_path):
    """A process may have died while it wrote, or somebody has edited the file."""
    dead_letters.add([letter(b'{"n":1}')])
    (path,) = (tmp_path / "dead").iterdir()
    with path.open("ab") as file:
        file.write(b'rubbish\n[]\n{"endpoint":"nowhere","record":{}}\n\n{"time_ms":1,"endpoint":"imp')
    dead_letters.add([letter(b'{"n":2}')])
    assert [entry.body for entry in dead_letters.entries()] == [b'{"n":1}', b'{"n":2}']


def test_the_oldest_are_dropped_and_counted(tmp_path, caplog):
    """The bound is kept, in whole files, and the newest letters stay."""
    clock = Clock()
    dead_letters = DeadLetters(tmp_path, max_bytes=8000, clock=clock.time)
    for number in range(200):
        dead_letters.add([letter(event(number).body)])
        clock.wall_s -= 1 if number == 100 else 0
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 8000
    kept = [entry.body for entry in dead_letters.entries()]
    assert kept == [event(number).body for number in range(200 - len(kept), 200)]
    assert len(kept) > 40
    assert dead_letters.dropped == 200 - len(kept)
    assert dead_letters.count() == len(kept)
    assert "the oldest" in caplog.text


def test_two_objects_may_share_a_directory(tmp_path):
    """While the lead changes hands, and for the command that lists them."""
    one, other = DeadLetters(tmp_path), DeadLetters(tmp_path)
    for number in range(3):
        one.add([letter()])
        other.add([letter()])
        assert one.count() == other.count() == 2 * number + 2
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_deleted_by_hand_is_forgotten(dead_letters, tmp_path):
    """That is how a person purges them."""
    dead_letters.add([letter()])
    assert dead_letters.count() == 1
    for path in (tmp_path / "dead").iterdir():
        path.unlink()
    assert dead_letters.count() == 0
    dead_letters.add([letter(), letter()])
    assert dead_letters.count() == 2


def test_what_does_not_fit_is_taken_back():
    """All letters of a call or none, and OSError tells."""
    printed = run_python(
        """
import resource, tempfile
from mixpanel_visitor.delivery.dead_letter import DeadLetter
from mixpanel_visitor.delivery.journal.dead_letters import DeadLetters
from mixpanel_visitor.delivery.spool import DeadReason

def letters(count):
    reason = DeadReason(message="x")
    return [DeadLetter(time_ms=1, endpoint="import", reason=reason, body=b"{}")] * count

with tempfile.TemporaryDirectory() as directory:
    dead_letters = DeadLetters(directory)
    dead_letters.add(letters(1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, resource.RLIM_INFINITY))
    try:
        dead_letters.add(letters(10))
    except OSError as error:
        print(error.strerror[:23])
    print(dead_letters.count())
    dead_letters.add(letters(1))
    print(len(list(dead_letters.entries())))
"""
    )
    assert printed.splitlines() == ["No space left on device", "1", "2"]


# --- taking letters out ---------------------------------------------------------------------------


def test_the_number_of_a_letter_stays(dead_letters):
    """Whatever else comes and goes, and different letters have different ones."""
    dead_letters.add(numbered(3))
    first, second, third = (entry.id for entry in dead_letters.entries())
    assert len({first, second, third}) == 3
    assert list(dead_letters.take({first})) == [1]
    dead_letters.add([letter(b'{"event":"new"}')])
    assert [entry.id for entry in dead_letters.entries()][:2] == [second, third]


def test_what_is_taken_out_is_handed_over_and_the_rest_stays(dead_letters, tmp_path):
    """In its order and bytes, readable by the owner alone, with nothing left beside it."""
    letters = numbered(5)
    dead_letters.add(letters)
    handed = []
    assert list(dead_letters.take({letters[1].id, letters[3].id}, handed.extend)) == [2]
    assert handed == [letters[1], letters[3]]
    assert list(dead_letters.entries()) == [letters[0], letters[2], letters[4]]
    (path,) = (tmp_path / "dead").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_without_letters_goes(dead_letters, tmp_path):
    """There is nothing left in the directory, and adding goes on."""
    letters = numbered(3)
    dead_letters.add(letters)
    assert list(dead_letters.take({entry.id for entry in letters})) == [3]
    assert list((tmp_path / "dead").iterdir()) == []
    dead_letters.add(letters[:1])
    assert list(dead_letters.entries()) == letters[:1]


def test_letters_go_only_after_they_were_handed_over(dead_letters):
    """Until then everybody finds them there."""
    letters = numbered(2)
    dead_letters.add(letters)
    there = []
    list(dead_letters.take({letters[0].id}, lambda _batch: there.extend(dead_letters.entries())))
    assert there == letters


def test_what_could_not_be_handed_over_stays(dead_letters):
    """And what was, does not come a second time."""
    letters = numbered(2 * BATCH_SIZE + 1)
    dead_letters.add(letters)
    handed = []

    def refuse_the_second(batch):
        if handed:
            raise OSError("full")
        handed.extend(batch)

    with pytest.raises(OSError, match="full"):
        list(dead_letters.take({entry.id for entry in letters}, refuse_the_second))
    assert handed == letters[:BATCH_SIZE]
    assert list(dead_letters.entries()) == letters[BATCH_SIZE:]


def test_lines_that_cannot_be_read_stay_unless_asked(dead_letters, tmp_path):
    """They may be mended by hand; who throws everything away means them too."""
    letters = numbered(2)
    dead_letters.add(letters[:1])
    (path,) = (tmp_path / "dead").iterdir()
    with path.open("ab") as file:
        file.write(b"rub\rbish\n")
    dead_letters.add(letters[1:])
    assert list(dead_letters.take({letters[0].id})) == [1]
    assert path.read_bytes().startswith(b"rub\rbish\n")
    assert list(dead_letters.take((), unreadable=True)) == []
    assert list(dead_letters.entries()) == letters[1:]
    assert dead_letters.count() == 1


def test_two_who_take_the_same_letters_get_each_once(tmp_path):
    """Some updates of profiles must not be sent twice."""
    letters = numbered(50)
    DeadLetters(tmp_path).add(letters)
    numbers = {entry.id for entry in letters}
    handed = []
    threads = [
        threading.Thread(target=lambda: list(DeadLetters(tmp_path).take(numbers, handed.extend)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert handed == letters


@pytest.mark.skipif(not LOCKS.exists(), reason="only Linux tells who waits for a lock")
def test_who_waits_for_a_file_that_is_replaced_opens_it_again(dead_letters, tmp_path):
    """In the old one he would take out what others have taken, and put it in the place of the new one."""
    letters = numbered(3)
    dead_letters.add(letters)
    (path,) = (tmp_path / "dead").iterdir()
    taken = []
    with locked(path):
        taker = threading.Thread(target=lambda: taken.extend(dead_letters.take({letters[1].id})))
        taker.start()
        assert wait_until(lambda: waits_for_a_lock(path), PATIENCE_S)
        new = path.with_name("new")
        new.write_bytes(path.read_bytes() * 2)
        new.replace(path)
    taker.join(20)
    assert taken == [2]
    assert list(dead_letters.entries()) == [letters[0], letters[2]] * 2


def test_nothing_is_added_to_a_file_that_was_just_replaced(tmp_path):
    """Between opening and locking it: nobody would ever read what is written there."""
    printed = run_python(
        """
import os, sys
from pathlib import Path
from mixpanel_visitor.delivery.dead_letter import DeadLetter
from mixpanel_visitor.delivery.journal.dead_letters import DeadLetters
from mixpanel_visitor.delivery.spool import DeadReason

def letter(number):
    body = b'{"event":"%d"}' % number
    return DeadLetter(time_ms=1, endpoint="import", reason=DeadReason(message="x"), body=body)

dead_letters = DeadLetters(sys.argv[1])
dead_letters.add([letter(1), letter(2)])
(path,) = Path(sys.argv[1]).iterdir()
replaced = []

def replace_it_first(event, arguments):
    if event == "fcntl.flock" and not replaced:
        replaced.append(path)
        new = path.with_name("new")
        new.write_bytes(path.read_bytes().splitlines(keepends=True)[1])
        new.replace(path)

sys.addaudithook(replace_it_first)
dead_letters.add([letter(3)])
print(len(replaced), *(entry.body.decode() for entry in dead_letters.entries()))
""",
        tmp_path,
    )
    assert printed == '1 {"event":"2"} {"event":"3"}'


def waits_for_a_lock(path):
    """Whether somebody waits for the lock on this file."""
    inode = path.stat().st_ino
    return any("->" in line and f":{inode} " in line for line in LOCKS.read_text().splitlines())


def test_adding_never_waits_for_one_who_takes_out(dead_letters, tmp_path):
    """He may have been stopped with Ctrl-Z; the letters go to a file of their own, behind the others."""
    letters = numbered(2)
    dead_letters.add(letters[:1])
    (path,) = (tmp_path / "dead").iterdir()
    with locked(path):
        dead_letters.add(letters[1:])
    assert len(list((tmp_path / "dead").iterdir())) == 2
    assert list(dead_letters.entries()) == letters


def test_the_bound_waits_for_nobody(tmp_path):
    """The file that somebody takes letters out of is dropped the next time."""
    clock = Clock()
    dead_letters = DeadLetters(tmp_path, max_bytes=2000, clock=clock.time)
    dead_letters.add(numbered(1))
    (oldest,) = tmp_path.iterdir()
    with locked(oldest):
        for entry in numbered(40):
            dead_letters.add([entry])
        assert oldest.exists()
    dead_letters.add(numbered(1))
    assert not oldest.exists()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2000


def test_the_count_notices_that_a_file_was_replaced(dead_letters):
    """Though it has become larger than it was at the last look."""
    letters = numbered(4)
    dead_letters.add(letters)
    assert dead_letters.count() == 4
    list(dead_letters.take({entry.id for entry in letters[:3]}))
    long = [letter(json.dumps({"event": "x" * 1000}).encode())] * 2
    dead_letters.add(long)
    assert dead_letters.count() == 3


def test_adding_and_taking_out_at_once_loses_nothing(tmp_path):
    """A leader in another process adds as fast as it can, while all that is there is taken out."""
    with start_python(
        """
import sys
from mixpanel_visitor.delivery.dead_letter import DeadLetter
from mixpanel_visitor.delivery.journal.dead_letters import DeadLetters
from mixpanel_visitor.delivery.spool import DeadReason

dead_letters = DeadLetters(sys.argv[1])
for number in range(500):
    body = b'{"event":"%d"}' % number
    dead_letters.add([DeadLetter(time_ms=1, endpoint="import", reason=DeadReason(message="x"), body=body)])
print(dead_letters.dropped)
""",
        tmp_path,
    ) as process:
        handed = []
        ours = DeadLetters(tmp_path)

        def take_all():
            over = process.poll() is not None  # before the look: what comes later is looked for once more
            list(ours.take({entry.id for entry in ours.entries()}, handed.extend))
            return over

        assert wait_until(take_all, PATIENCE_S)
        printed, errors = process.communicate(timeout=PATIENCE_S)
    assert (printed.strip(), errors) == ("0", "")
    assert sorted(int(name) for name in names(entry.body for entry in handed)) == list(range(500))
