"""A writer that stands still in the middle of its work: the others and the leader do not wait for it."""

from support.journals import run_python

SCRIPT = r"""
import atexit, os, signal, tempfile
from pathlib import Path
from support.journals import ALL, Clock, deliver, event, names, open_journal, segments

def give_up(*_):
    raise SystemExit("somebody waits for the writer that stands still")


signal.signal(signal.SIGALRM, give_up)
signal.alarm(5)
with tempfile.TemporaryDirectory() as temporary:
    directory = Path(temporary, "spool")
    readable, writable = os.pipe()
    child = os.fork()
    if not child:
        journal = open_journal(directory)
        journal.put([event("written")])
        # Half a frame, as if the kernel had been stopped in the middle of a write; its locks are all held.
        path = journal._producer._writer.path
        journal._producer.acquire(1)
        with path.open("ab") as file:
            file.write(b"1 i 5f3a9c01 0000")
        os.write(writable, b".")
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    os.read(readable, 1)
    os.waitpid(child, os.WUNTRACED)
    atexit.register(os.kill, child, signal.SIGKILL)

    clock = Clock()
    others = [open_journal(directory, clock, segment_bytes=200) for _ in range(2)]
    delivered = []
    for number in range(50):
        for who, journal in enumerate(others):
            journal.put([event(f"{who}-{number}")])
        clock.tick(1)
        delivered += deliver(others[0])
    expected = {"written", *(f"{who}-{number}" for who in range(2) for number in range(50))}
    assert len(delivered) == len(expected) and set(delivered) == expected, delivered
    assert others[0].counts().torn_tails == 0  # it may still be finished

    atexit.unregister(os.kill)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    clock.tick(2)
    assert deliver(others[0]) == []
    clock.tick(2)
    deliver(others[0])
    counts = others[0].counts()
    assert (counts.torn_tails, counts.corrupt_bytes) == (1, 0), counts
    others[1].close()
    clock.tick(2)
    assert deliver(others[0]) == []
    others[0].close()
    assert segments(directory) == []
    print("done")
"""


def test_a_writer_that_stands_still_holds_nobody_up():
    """SIGSTOP in the middle of a write: all others go on, and what it had written is delivered."""
    assert run_python(SCRIPT) == "done"
