"""A process that is killed at each of its system calls: what `put` has returned for is always there."""

import pytest
from support.journals import run_python

SCRIPT = r"""
import logging, os, signal, sys, tempfile
from pathlib import Path
from support.journals import ALL, Clock, deliver, event, names, open_journal, profile, segments
from mixpanel_visitor.delivery.journal.dead_letters import DeadLetters
from mixpanel_visitor.delivery.spool import DeadReason

logging.disable()
mode = sys.argv[1]
os.fsync = os.fdatasync = lambda fd: None  # only a host that dies needs it, and it takes time
CALLS = ("open", "write", "pwrite", "ftruncate", "unlink", "rename", "replace", "close")
real = {name: getattr(os, name) for name in CALLS}


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at(number):
    calls = 0

    def counted(name):
        def call(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == number:
                if mode == "half" and name in ("write", "pwrite"):
                    real[name](args[0], args[1][: len(args[1]) // 2], *args[2:])
                elif mode == "after":
                    real[name](*args, **kwargs)
                die()
            return real[name](*args, **kwargs)

        return call

    for name in ("write", "pwrite") if mode == "half" else CALLS:
        setattr(os, name, counted(name))


def work(directory, pipe):
    clock = Clock()
    journal = open_journal(directory, clock, segment_bytes=250)
    for number in range(5):
        journal.put([event(number), profile(f"p{number}")])
        real["write"](pipe, b"put %d p%d\n" % (number, number))
        clock.tick(1)
        claim = journal.claim("import", 2, ALL)
        if claim:
            taken = names(claim.bodies)[1:] if number == 3 else names(claim.bodies)
            real["write"](pipe, f"sent {' '.join(taken)}\n".encode())
            journal.note_sending(claim, range(len(claim)))
            journal.note_sent()
            if number == 3:
                journal.bury(claim, {0: DeadReason(message="refused")})
                journal.ack(claim, range(1, len(claim)))
            else:
                journal.ack(claim, range(len(claim)))
    journal.close()


def told(pipe):
    said = {"put": [], "sent": []}
    with open(pipe, "rb") as file:
        for line in file.read().decode().splitlines():
            what, *which = line.split()
            said[what] += which
    return said


rounds = 0
with tempfile.TemporaryDirectory() as temporary:
    while True:
        rounds += 1
        directory = Path(temporary, str(rounds))
        readable, writable = os.pipe()
        child = os.fork()
        if not child:
            kill_at(rounds)
            work(directory, writable)
            os._exit(0)
        os.close(writable)
        said = told(readable)
        killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0
        clock = Clock()
        clock.tick(100)
        heir = open_journal(directory, clock)
        heir.put([event("last")])
        got = deliver(heir) + deliver(heir, "engage")
        dead = [names([letter.body])[0] for letter in DeadLetters(directory / "dead").entries()]
        seen = {*got, *said["sent"], *dead}
        lost = set(said["put"]) - seen
        assert not lost, (rounds, lost)
        assert len(got) == len(set(got)), (rounds, got)
        assert seen <= {"last", *map(str, range(5)), *(f"p{n}" for n in range(5))}, (rounds, seen)
        assert heir.counts().corrupt_bytes == 0, rounds
        heir.close()
        clock.tick(2)
        assert not segments(directory), rounds
        if not killed:
            break
        assert rounds < 1_000
print(rounds)
"""


@pytest.mark.parametrize("mode", ["before", "after", "half"])
def test_no_system_call_is_the_wrong_one_to_be_killed_at(mode):
    """Killed before, after, or in the middle of each: nothing is lost, made up, or left behind."""
    assert int(run_python(SCRIPT, mode)) > (10 if mode == "half" else 50)
