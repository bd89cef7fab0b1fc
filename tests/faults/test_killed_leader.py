"""A leader that is killed at an exact moment of a delivery: its heir loses nothing, and repeats little."""

import contextlib
import os
import signal

import pytest
from support.journals import event, open_journal, start_python
from support.scripted_mixpanel import ScriptedMixpanel, taking
from support.waiting import PATIENCE_S

from mixpanel_visitor.delivery.journal.dead_letters import DeadLetters
from mixpanel_visitor.delivery.sending.http_client import MixpanelAPI
from mixpanel_visitor.delivery.sending.idempotency import MAX_ONCE
from mixpanel_visitor.delivery.sending.sender import Sender
from mixpanel_visitor.records import Record

RECORDS = 5_000
IN_FLIGHT = 2_000

LEADER = r"""
import os, signal, sys
from mixpanel_visitor.delivery.journal import Journal
from mixpanel_visitor.delivery.sending.http_client import MixpanelAPI
from mixpanel_visitor.delivery.sending.sender import Sender

directory, url, moment = sys.argv[1:]
journal = Journal(directory)
api = MixpanelAPI(url, "the-token", on_sent=journal.note_sent)
answered = 0


def watch(name, arguments):
    if moment == name and (name != "os.rename" or str(arguments[1]).endswith("acks.json")):
        os.kill(os.getpid(), signal.SIGKILL)


sys.addaudithook(watch)
Sender(journal, api.post, crash_tracking=journal, poll_s=0).drain(20)
journal.close()
"""

MOMENTS = {
    "before the request": ("socket.connect", 0),
    "before the first answer": ("", IN_FLIGHT),
    "before the second answer": ("", IN_FLIGHT),
    "before the answer is noted": ("os.rename", IN_FLIGHT),
    "before the segment is deleted": ("os.remove", 0),
}


def deliver_rest(directory, mixpanel):
    """Deliver in this process what the killed one has left; give the counts of the journal."""
    journal = open_journal(directory)
    api = MixpanelAPI(mixpanel.url, "the-token", on_sent=journal.note_sent)
    with contextlib.closing(journal), contextlib.closing(api):
        assert Sender(journal, api.post, crash_tracking=journal, poll_s=0).drain(20)
        return journal.counts()


IN_DOUBT = {moment: bool(repeated) for moment, (_, repeated) in MOMENTS.items()}
IN_DOUBT["before the request"] = True  # who can tell, afterwards?

ACTS = {
    "before the first answer": lambda kill: [kill],
    "before the second answer": lambda kill: [taking, kill],
}


def kill_a_leader(directory, records, moment):
    """Have a leader deliver these, and killed at that moment; then its heir. What arrived, and the counts."""
    with contextlib.closing(open_journal(directory)) as journal:
        journal.put(records)

    def kill(mixpanel, sock):
        mixpanel.take(mixpanel.records(mixpanel.read(sock)))
        os.kill(leader.pid, signal.SIGKILL)
        return False

    with contextlib.closing(ScriptedMixpanel(*ACTS.get(moment, lambda _kill: [])(kill))) as mixpanel:
        leader = start_python(LEADER, directory, mixpanel.url, MOMENTS[moment][0])
        _, errors = leader.communicate(timeout=PATIENCE_S)
        assert (leader.returncode, errors) == (-signal.SIGKILL, "")
        return mixpanel.taken, deliver_rest(directory, mixpanel)


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_heir_of_a_killed_leader_repeats_what_was_under_way(moment, tmp_path):
    """Everything arrives in its own bytes; twice only what had no answer, or whose answer was not noted."""
    put = [event(number) for number in range(RECORDS)]
    taken, counts = kill_a_leader(tmp_path, put, moment)
    assert set(taken) == {record.body for record in put}
    assert sum(taken.values()) == RECORDS + MOMENTS[moment][1]
    assert (counts.store_pending, counts.store_dead, counts.corrupt_bytes) == (0, 0, 0)


def addition(number):
    """A profile update that must not be applied twice."""
    return Record("engage", b'{"$distinct_id":"somebody","$add":{"n":%d}}' % number)


@pytest.mark.parametrize("moment", MOMENTS)
def test_what_must_not_be_applied_twice_is_set_aside_instead(moment, tmp_path):
    """Nothing of it arrives twice: what had no answer, or one that was not noted, is in the dead letters."""
    put = [addition(number) for number in range(MAX_ONCE * 3)]
    taken, counts = kill_a_leader(tmp_path, put, moment)
    letters = list(DeadLetters(tmp_path / "dead").entries())
    assert set(taken.values()) == {1}
    assert {*taken, *(letter.body for letter in letters)} == {record.body for record in put}
    assert len(letters) == IN_DOUBT[moment] * MAX_ONCE
    assert all("has died before the answer" in letter.reason.message for letter in letters)
    assert (counts.store_pending, counts.corrupt_bytes) == (0, 0)
