"""Leadership: who delivers for all, and what becomes of a leader that lives but does nothing."""

import contextlib
import os
import signal

import pytest
from support.journals import ALL, Clock, deliver, event, names, open_journal, start_python
from support.waiting import PATIENCE_S, wait_until

FIVE_MINUTES_S = 300.0


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def pair(tmp_path, clock):
    """Two journals on one directory; the first one leads and holds a claim, and has a record more."""
    leader, follower = (open_journal(tmp_path / "spool", clock) for _ in range(2))
    leader.put([event("in hand")])
    assert leader.claim("import", 1, ALL) is not None
    leader.put([event("waiting")])
    assert follower.claim("import", 1, ALL) is None
    yield leader, follower
    leader.close()
    follower.close()


def wait_as(journal, clock, for_s):
    """Let time pass while this journal asks for work twice a second; give what it claims."""
    for _ in range(int(for_s * 2)):
        clock.tick(0.5)
        claim = journal.claim("import", 10, ALL)
        if claim is not None:
            return names(claim.bodies)
    return []


def test_a_leader_that_is_still_for_five_minutes_is_replaced(pair, clock, caplog):
    """All that it has not settled is claimed by the other one, and a log line says what has happened."""
    _, follower = pair
    assert wait_as(follower, clock, FIVE_MINUTES_S + 2) == ["in hand", "waiting"]
    assert "has been still for 300 s" in caplog.text


def test_a_leader_that_is_still_for_less_is_not(pair, clock):
    """Mixpanel may take its time; nobody delivers the same meanwhile."""
    _, follower = pair
    assert wait_as(follower, clock, FIVE_MINUTES_S - 2) == []


def test_a_leader_that_waits_for_mixpanel_stays(pair, clock):
    """With all lanes in a pause nothing is claimed; `sync` shows that the leader is well."""
    leader, follower = pair
    for _ in range(40):
        assert wait_as(follower, clock, 15) == []
        leader.sync()
    assert leader.counts().leader


def test_a_claim_shows_that_the_leader_is_well(pair, clock):
    """Whoever claims, leads."""
    leader, follower = pair
    for _ in range(40):
        assert wait_as(follower, clock, 15) == []
        leader.claim("engage", 1, ALL)


def test_a_wall_clock_that_jumps_replaces_nobody(pair, clock):
    """A leader's silence is measured by the other one's monotonic clock."""
    _, follower = pair
    clock.wall_s += 86_400
    assert wait_as(follower, clock, 60) == []
    clock.wall_s -= 2 * 86_400
    assert wait_as(follower, clock, 60) == []


def test_the_old_leader_notices(pair, clock):
    """It claims nothing any more, and what it settles late disturbs nobody."""
    leader, follower = pair
    assert wait_as(follower, clock, FIVE_MINUTES_S + 2)
    assert leader.claim("import", 10, ALL) is None
    assert not leader.counts().leader
    assert follower.counts().leader


def test_a_stopped_leader_is_replaced_and_steps_down_when_it_goes_on(tmp_path):
    """SIGSTOP for more than five minutes, by the follower's clock, then SIGCONT: each record comes once."""
    script = r"""
import sys
from support.journals import ALL, names
from mixpanel_visitor.delivery.journal import Journal

journal = Journal(sys.argv[1])
print(*names(journal.claim("import", 1, ALL).bodies), flush=True)
for line in sys.stdin:
    claim = journal.claim("import", 10, ALL)
    print("nothing" if claim is None else names(claim.bodies), journal.counts().leader, flush=True)
journal.close()
"""
    clock = Clock()
    journal = open_journal(tmp_path / "spool", clock)
    journal.put([event("in hand"), event("waiting")])
    with start_python(script, tmp_path / "spool", stdin=-1) as leader, contextlib.ExitStack() as ending:
        ending.callback(leader.kill)
        assert leader.stdout.readline() == "in hand\n"
        os.kill(leader.pid, signal.SIGSTOP)
        got = wait_as(journal, clock, FIVE_MINUTES_S + 2)
        assert got == ["in hand", "waiting"]
        os.kill(leader.pid, signal.SIGCONT)

        def stepped_down():
            leader.stdin.write("\n")
            leader.stdin.flush()
            return leader.stdout.readline() == "nothing False\n"

        assert wait_until(stepped_down, PATIENCE_S)
        journal.put([event("later")])
        assert deliver(journal) == ["later"]
        errors = leader.communicate(timeout=PATIENCE_S)[1]
    assert "Traceback" not in errors
    journal.close()
