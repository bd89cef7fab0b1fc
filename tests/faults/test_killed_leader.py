"""A leader that is killed at an exact moment of a delivery: its heir loses nothing, and repeats little."""

import contextlib
import os
import signal

import pytest
from support.journals import TIMEOUT_S, event, open_journal, start_python
from support.scripted_mixpanel import ScriptedMixpanel, taking

from mixpanel_visitor.delivery.mixpanel_api import MixpanelAPI
from mixpanel_visitor.delivery.sender import Sender

RECORDS = 5_000
IN_FLIGHT = 2_000

LEADER = r"""
import os, signal, sys
from mixpanel_visitor.delivery.journal import Journal
from mixpanel_visitor.delivery.mixpanel_api import MixpanelAPI
from mixpanel_visitor.delivery.sender import Sender

directory, url, moment = sys.argv[1:]
journal = Journal(directory)
api = MixpanelAPI(url, "the-token", on_sent=journal.end)
answered = 0


def watch(name, arguments):
    if moment == name and (name != "os.rename" or str(arguments[1]).endswith("acks.json")):
        os.kill(os.getpid(), signal.SIGKILL)


sys.addaudithook(watch)
Sender(journal, api.post, handling=journal, poll_s=0).drain(20)
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
    api = MixpanelAPI(mixpanel.url, "the-token", on_sent=journal.end)
    with contextlib.closing(journal), contextlib.closing(api):
        assert Sender(journal, api.post, handling=journal, poll_s=0).drain(20)
        return journal.counts()


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_heir_of_a_killed_leader_repeats_what_was_under_way(moment, tmp_path):
    """Everything arrives in its own bytes; twice only what had no answer, or whose answer was not noted."""
    audited, repeated = MOMENTS[moment]
    put = [event(number) for number in range(RECORDS)]
    with contextlib.closing(open_journal(tmp_path)) as journal:
        journal.put(put)

    def kill_before_the_answer(mixpanel, sock):
        mixpanel.take(mixpanel.records(mixpanel.read(sock)))
        os.kill(leader.pid, signal.SIGKILL)
        return False

    acts = {
        "before the first answer": [kill_before_the_answer],
        "before the second answer": [taking, kill_before_the_answer],
    }
    with contextlib.closing(ScriptedMixpanel(*acts.get(moment, []))) as mixpanel:
        leader = start_python(LEADER, tmp_path, mixpanel.url, audited)
        _, errors = leader.communicate(timeout=TIMEOUT_S)
        assert (leader.returncode, errors) == (-signal.SIGKILL, "")
        counts = deliver_rest(tmp_path, mixpanel)
    assert set(mixpanel.taken) == {record.body for record in put}
    assert sum(mixpanel.taken.values()) == RECORDS + repeated
    assert (counts.store_pending, counts.store_dead, counts.corrupt_bytes) == (0, 0, 0)
