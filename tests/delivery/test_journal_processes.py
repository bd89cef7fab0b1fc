"""Journal between real processes: killed, forked, taken over.

The scripts run in interpreters of their own: they fork and kill, and pytest's process has threads.
"""

import pytest
from support.journals import run_python


def test_what_was_put_survives_kill_9():
    """Three writers are killed again and again while a leader delivers: nothing acknowledged is missing.

    The writers tell through a pipe what `put` has returned for. Nobody who delivers is killed, so that
    nothing is delivered twice either.
    """
    printed = run_python(
        r"""
import os, random, signal, tempfile
from pathlib import Path
from support.journals import Clock, deliver, event, open_journal, segments

ROUNDS, WRITERS = 12, 3
chance = random.Random(os.urandom(8))


def write(directory, who, pipe):
    journal = open_journal(directory, segment_bytes=20_000)
    number = 0
    while True:
        names = [f"{who}-{number + more}" for more in range(1 + number % 3)]
        journal.put([event(name + "x" * (number % 500)) for name in names])
        os.write(pipe, b"".join(name.encode() + b"\n" for name in names))
        number += len(names)


with tempfile.TemporaryDirectory() as temporary:
    directory = Path(temporary, "spool")
    clock = Clock()
    leader = open_journal(directory, clock)
    put, delivered, torn = set(), [], 0
    for round_ in range(ROUNDS):
        readable, writable = os.pipe()
        children = []
        for writer in range(WRITERS):
            child = os.fork()
            if not child:
                write(directory, f"{round_}-{writer}", writable)
            children.append(child)
        os.close(writable)
        with open(readable, "rb") as pipe:
            for _ in range(chance.randrange(50, 800)):
                put.add(pipe.readline())
                if chance.random() < 0.05:
                    delivered += deliver(leader)
            for child in children:
                os.kill(child, signal.SIGKILL)
            put.update(pipe)
        for child in children:
            os.waitpid(child, 0)
        clock.tick(1)
    delivered += deliver(leader)
    clock.tick(2)
    delivered += deliver(leader)
    got = [name.rstrip("x") for name in delivered]
    missing = {line.decode().strip() for line in put if line.endswith(b"\n")} - set(got)
    assert not missing, missing
    assert len(got) == len(set(got))
    assert len(got) - len(put) <= 3 * WRITERS * ROUNDS
    assert not segments(directory)
    counts = leader.counts()
    assert counts.corrupt_bytes == 0 and counts.store_pending == 0, counts
    leader.close()
    print(len(put) > 500)
"""
    )
    assert printed == "True"


def test_a_killed_leader_is_followed():
    """Whoever takes over delivers the rest; only what the dead one had in hand is delivered twice."""
    printed = run_python(
        r"""
import os, random, signal, tempfile
from pathlib import Path
from support.journals import ALL, Clock, event, names, open_journal, segments

RECORDS, BATCH = 3000, 7
chance = random.Random(os.urandom(8))


def lead(directory, pipe):
    leader = open_journal(directory)
    while (claim := leader.claim("import", BATCH, ALL)) is not None:
        os.write(pipe, "".join(f"{name}\n" for name in names(claim.bodies)).encode())
        leader.ack(claim, range(len(claim)))
    os._exit(0)


with tempfile.TemporaryDirectory() as temporary:
    directory = Path(temporary, "spool")
    writer = open_journal(directory, segment_bytes=5_000)
    for number in range(RECORDS):
        writer.put([event(number)])
    delivered, kills = [], 0
    while True:
        readable, writable = os.pipe()
        child = os.fork()
        if not child:
            os.close(readable)
            lead(directory, writable)
        os.close(writable)
        with open(readable, "rb") as pipe:
            for _ in range(chance.randrange(50, 500)):
                delivered.append(pipe.readline())
            os.kill(child, signal.SIGKILL)
            delivered += pipe
        status = os.waitpid(child, 0)[1]
        if os.WIFEXITED(status):
            break
        kills += 1
        if kills > 100:
            raise SystemExit("no end")
    delivered = [line for line in delivered if line.endswith(b"\n")]
    assert len(set(delivered)) == RECORDS, len(set(delivered))
    assert len(delivered) - RECORDS <= BATCH * kills
    counts = writer.counts()
    assert (counts.delivered, counts.pending, counts.lost) == (RECORDS, 0, 0), counts
    writer.close()
    print(kills > 0)
"""
    )
    assert printed == "True"


FORK_KINDS = pytest.mark.parametrize("kind", ["os", "libc"])
"""Of the second kind Python's hooks know nothing: so fork extensions, uWSGI among them."""


@FORK_KINDS
def test_a_child_writes_its_own_segment(kind):
    """It answers for its own events only; those of the parent are the parent's. So for its child in turn."""
    printed = run_python(
        r"""
import os, sys, tempfile
from pathlib import Path
from support.journals import deliver, event, forks, open_journal, segments

fork = forks[sys.argv[1]]
with tempfile.TemporaryDirectory() as temporary:
    journal = open_journal(Path(temporary, "spool"))
    journal.put([event("parent")])
    child = fork()
    if not child:
        assert journal.counts().written == 0
        journal.put([event("child"), event("child too")])
        assert journal.counts().written == 2
        grandchild = fork()
        if not grandchild:
            journal.put([event("grandchild")])
            assert journal.counts().written == 1
            os._exit(0)
        assert os.waitpid(grandchild, 0)[1] == 0
        journal.put([event("child again")])
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    journal.put([event("parent again")])
    print(len(segments(journal.directory)))
    print(sorted(deliver(journal)))
    print(journal.counts().written, journal.counts().delivered)
    journal.close()
""",
        kind,
    )
    assert printed.splitlines() == [
        "3",
        "['child', 'child again', 'child too', 'grandchild', 'parent', 'parent again']",
        "2 2",
    ]


@FORK_KINDS
def test_a_child_does_not_lead(kind):
    """It forgets the lead and the claims; when the parent dies, it may lead, though it was its child."""
    printed = run_python(
        r"""
import os, signal, sys, tempfile
from pathlib import Path
from support.journals import ALL, Clock, deliver, event, forks, open_journal, segments

fork = forks[sys.argv[1]]
clock = Clock()
child_is_ready, parent_is_ready, parent_is_dead, child_is_done = (os.pipe() for _ in range(4))


def say(pipe):
    os.write(pipe[1], b"!")


def wait_for(pipe):
    assert os.read(pipe[0], 1)


def child_of(journal, claim):
    assert journal.claim("import", 10, ALL) is None
    journal.ack(claim, [0, 1])
    journal.release(claim, [0, 1])
    assert not journal.counts().leader
    journal.close()
    journal.put([event("child")])
    say(child_is_ready)
    wait_for(parent_is_dead)
    clock.tick(2)
    assert journal.claim("groups", 10, ALL) is None
    assert journal.counts().leader
    print(sorted(deliver(journal)))
    clock.tick(2)
    assert journal.claim("import", 10, ALL) is None
    print(len(segments(journal.directory)), journal.counts().delivered, flush=True)
    say(child_is_done)


def parent_in(directory):
    journal = open_journal(directory, clock)
    journal.put([event(1), event(2), event(3)])
    claim = journal.claim("import", 2, ALL)
    if not fork():
        child_of(journal, claim)
        os._exit(0)
    wait_for(child_is_ready)
    clock.tick(2)
    assert journal.claim("groups", 10, ALL) is None
    assert journal.counts().leader
    journal.ack(claim, [0])
    assert journal.counts().delivered == 1
    say(parent_is_ready)
    signal.pause()


with tempfile.TemporaryDirectory() as temporary:
    parent = os.fork()
    if not parent:
        parent_in(Path(temporary, "spool"))
    wait_for(parent_is_ready)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    say(parent_is_dead)
    wait_for(child_is_done)
""",
        kind,
    )
    assert printed.splitlines() == ["['2', '3', 'child']", "1 1"]


def test_forking_while_threads_put():
    """Two threads put without a pause while a third forks: no child hangs, nothing is lost or doubled."""
    printed = run_python(
        r"""
import os, tempfile, threading, warnings
from pathlib import Path
from support.journals import deliver, event, open_journal

warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads: that is what is tested
with tempfile.TemporaryDirectory() as temporary:
    journal = open_journal(Path(temporary, "spool"), segment_bytes=2_000)
    stop = threading.Event()
    put = [[], []]

    def write(who):
        while not stop.is_set():
            name = f"{who}-{len(put[who])}"
            journal.put([event(name)])
            put[who].append(name)

    threads = [threading.Thread(target=write, args=(who,)) for who in range(2)]
    for thread in threads:
        thread.start()
    children = {}
    for number in range(30):
        child = os.fork()
        if not child:
            for more in range(3):
                journal.put([event(f"child{number}-{more}")])
            assert journal.counts().written == 3
            os._exit(0)
        children[child] = number
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    stop.set()
    for thread in threads:
        thread.join()
    expected = put[0] + put[1] + [f"child{number}-{more}" for number in range(30) for more in range(3)]
    delivered = deliver(journal)
    assert sorted(delivered) == sorted(expected), (len(delivered), len(expected))
    counts = journal.counts()
    assert (counts.written, counts.delivered) == (len(put[0] + put[1]),) * 2 or counts.lost == 0, counts
    journal.close()
    print("done")
"""
    )
    assert printed == "done"


def test_forking_in_the_middle_of_a_delivery():
    """A child of the delivering process gets no lock with it, wherever the delivery was."""
    printed = run_python(
        r"""
import os, tempfile, threading, warnings
from pathlib import Path
from support.journals import Clock, deliver, event, open_journal, segments

warnings.simplefilter("ignore", DeprecationWarning)
with tempfile.TemporaryDirectory() as temporary:
    clock = Clock()
    directory = Path(temporary, "spool")
    journal = open_journal(directory, clock, segment_bytes=100)
    for number in range(500):
        journal.put([event(number)])
    delivered = []
    started = threading.Event()

    def deliver_all():
        while len(delivered) < 500:
            claim = journal.claim("import", 5, 10**6)
            delivered.extend(claim.bodies)
            journal.ack(claim, range(len(claim)))
            started.set()

    thread = threading.Thread(target=deliver_all)
    thread.start()
    started.wait()
    here, there = os.pipe()
    children = []
    while thread.is_alive() and len(children) < 40:
        child = os.fork()
        if not child:
            os.close(there)
            os.read(here, 1)  # lives on as long as the parent does
            os._exit(0)
        children.append(child)
    thread.join()
    journal.close()
    other = open_journal(directory, clock)
    other.put([event("other")])
    assert deliver(other) == ["other"]
    assert other.counts().leader
    assert len(delivered) == len(set(delivered)) == 500
    print(len(segments(directory)))
    other.close()
    os.close(there)
    for child in children:
        os.waitpid(child, 0)
"""
    )
    assert printed == "1"


def test_an_interpreter_may_end_without_a_close(tmp_path):
    """Nothing is said, and nothing is lost."""
    script = r"""
import sys
from support.journals import event, open_journal, waiting

journal = open_journal(sys.argv[1])
journal.put([event(sys.argv[2])])
print(waiting(journal))
"""
    assert run_python(script, tmp_path, "one") == "['one']"
    assert "'one'" in run_python(script, tmp_path, "two")


def test_close_works_at_exit():
    """From an atexit handler, where no thread can be started any more."""
    printed = run_python(
        r"""
import atexit, tempfile
from pathlib import Path
from support.journals import deliver, event, open_journal, segments

temporary = tempfile.TemporaryDirectory()
atexit.register(temporary.cleanup)
journal = open_journal(Path(temporary.name, "spool"))
atexit.register(lambda: print(len(segments(journal.directory)), journal.counts().delivered))
atexit.register(journal.close)
journal.put([event(1)])
assert deliver(journal) == ["1"]
"""
    )
    assert printed == "0 1"
