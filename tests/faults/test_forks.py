"""A tracker that is forked at every moment: each process answers for its own events, and all arrive once.

By `os.fork`. A fork by C code that does not tell Python (`PyOS_AfterFork_Child`) may hang in the interpreter
itself where other threads run: a thread that was asked to give the interpreter's lock away waits in the child
for one that is not there. Without threads it is tested in `tests/delivery/test_journal_processes.py`.
"""

import contextlib
import json
import os

from support.inbox import Inbox
from support.journals import run_python
from support.scripted_mixpanel import ScriptedMixpanel, ok

from mixpanel_visitor.emulator import LocalMixpanel

BEGIN = r"""
import os, signal, sys, warnings
from mixpanel_visitor import Tracker

warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads: that is what is tested
url, spool, *more = sys.argv[1:]
signal.alarm(50)  # whoever is locked in dies of it
tracker = Tracker(token="forks", secret_key="a-key-of-some-length", api_host=url, spool=spool)


def fork(live):
    child = os.fork()
    if not child:
        signal.alarm(40)
        live()
        tracker.close(20)  # what another process leads to Mixpanel may wait for that one
        os._exit(0)
    return child


def join(*children):
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
"""

PRELOADED = (
    BEGIN
    + r"""
tracker.track("somebody", "At import")


def live(name):
    tracker.track("somebody", f"{name} first")
    if name.count(".") < 2:
        join(fork(lambda: live(name + ".1")))
    tracker.track("somebody", f"{name} last")


join(*[fork(lambda: live(str(number))) for number in range(6)])
tracker.track("somebody", "At the end")
assert tracker.flush(30)  # a child may have led until now: whether the lead is free is asked once a second
assert tracker.close(30)
"""
)

IN_A_REQUEST = (
    BEGIN
    + r"""

held, go_on = map(int, more)
tracker.track("somebody", "Parent before")
tracker.flush(0)  # the thread sends it at once, and nobody waits here
assert os.read(held, 1)
children = [fork(lambda: tracker.track("somebody", f"Child {number}")) for number in range(5)]
tracker.track("somebody", "Parent after")
os.write(go_on, b"!")
join(*children)
assert tracker.close(30)
"""
)


def test_what_was_tracked_before_a_fork_arrives_once(tmp_path):
    """An event at import, then six workers, each with a child and a grandchild that track as well."""
    with LocalMixpanel() as mixpanel:
        run_python(PRELOADED, mixpanel.url, tmp_path / "spool")
        events = Inbox(mixpanel.url).events()
    lives = [f"{number}{tail}" for number in range(6) for tail in ("", ".1", ".1.1")]
    expected = {"At import", "At the end"} | {
        f"{life} {what}" for life in lives for what in ("first", "last")
    }
    assert {event["event"] for event in events} == expected
    assert {(event["deliveries"], event["altered"]) for event in events} == {(1, False)}


def test_a_fork_in_the_middle_of_a_request_sends_nothing_twice(tmp_path):
    """Mixpanel holds its answer back until there are five children; the parent gets it, and they do not."""
    is_held, may_go_on = os.pipe(), os.pipe()

    def hold(mixpanel, sock):
        records = mixpanel.records(mixpanel.read(sock))
        mixpanel.take(records)
        os.write(is_held[1], b"!")
        os.read(may_go_on[0], 1)
        sock.sendall(ok(records))
        return True

    with contextlib.closing(ScriptedMixpanel(hold)) as mixpanel:
        run_python(
            IN_A_REQUEST,
            mixpanel.url,
            tmp_path / "spool",
            is_held[0],
            may_go_on[1],
            pass_fds=[is_held[0], may_go_on[1]],
        )
        names = sorted(json.loads(body)["event"] for body in mixpanel.taken)
    assert names == [*(f"Child {number}" for number in range(5)), "Parent after", "Parent before"]
    assert set(mixpanel.taken.values()) == {1}
