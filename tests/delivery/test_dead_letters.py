"""Dead letters: what was refused, and why, for people to read and to send again."""

import json
import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.journals import Clock, event, run_python

from mixpanel_visitor.delivery.journal.dead_letters import DeadLetter, DeadLetters
from mixpanel_visitor.delivery.spool import DeadReason


def letter(body=b'{"event":"x"}', message="too old", endpoint="import"):
    """Make a dead letter."""
    reason = DeadReason(message=message, field="properties.time", status=400)
    return DeadLetter(time_ms=1_763_934_567_890, endpoint=endpoint, reason=reason, body=body)


@pytest.fixture
def dead_letters(tmp_path):
    """Give dead letters with the usual bound."""
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
from mixpanel_visitor.delivery.journal.dead_letters import DeadLetter, DeadLetters
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
