"""Group commit: whoever waits shares a commit, and nobody waits for more to come."""

import os
import threading

import pytest
from support.journals import event, forks, names
from support.waiting import PATIENCE_S, wait_until

from mixpanel_visitor.delivery.group_commit import GroupCommit
from mixpanel_visitor.errors import SpoolFullError, SpoolUnavailableError


class Server:
    """Remembers what was stored together; can be made to hold a commit up, and to fail."""

    def __init__(self):
        self.commits = []
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        self.gate.set()
        self.error = None

    def commit(self, records):
        self.entered.release()
        assert self.gate.wait(PATIENCE_S)
        if self.error is not None:
            raise self.error
        self.commits.append(names([record.body for record in records]))


class Caller(threading.Thread):
    """A request that puts one event; `outcome` is None, or what was raised."""

    def __init__(self, group_commit, name):
        super().__init__()
        self.outcome = "still waits"
        self._group_commit = group_commit
        self._record = event(name)
        self.start()

    def run(self):
        try:
            self._group_commit.put([self._record])
        except Exception as error:  # whatever it is, the test looks at it
            self.outcome = error
        else:
            self.outcome = None


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def group_commit(server):
    return GroupCommit(server.commit)


@pytest.fixture
def held_up(server, group_commit):
    """Hold the first caller up in its commit until three others wait; return all four."""

    def held_up():
        server.gate.clear()
        first = Caller(group_commit, "first")
        assert server.entered.acquire(timeout=PATIENCE_S)
        others = [Caller(group_commit, number) for number in range(3)]
        assert wait_until(lambda: len(group_commit._waiting.records) == 3, PATIENCE_S)
        return [first, *others]

    return held_up


def finish(server, callers):
    """Let the commits go on, and wait for the callers."""
    server.gate.set()
    for caller in callers:
        caller.join(PATIENCE_S)
    return [caller.outcome for caller in callers]


def test_one_alone_does_not_wait_for_others(server, group_commit):
    """There is no window: each put is a commit."""
    group_commit.put([event(1), event(2)])
    group_commit.put([event(3)])
    assert server.commits == [["1", "2"], ["3"]]


def test_what_comes_during_a_commit_shares_the_next_one(server, held_up):
    """However many they are, two commits are all."""
    assert finish(server, held_up()) == [None] * 4
    first, second = server.commits
    assert (first, sorted(second)) == (["first"], ["0", "1", "2"])


def test_each_of_a_group_learns_that_it_failed(server, held_up):
    """As the error that it was, so that the refusal is counted under its reason."""
    callers = held_up()
    server.error = SpoolFullError("no room")
    assert [type(outcome) for outcome in finish(server, callers)] == [SpoolFullError] * 4


def test_a_mistake_in_one_record_is_trouble_with_the_spool_for_all(server, group_commit):
    """They are stored elsewhere then, one by one, where the mistake is its owner's alone."""
    server.error = ValueError("a newline")
    with pytest.raises(SpoolUnavailableError, match="a newline"):
        group_commit.put([event(1)])


def test_after_a_failure_the_next_one_is_stored(server, group_commit):
    """Whoever comes then finds nobody at it."""
    server.error = SpoolFullError("no room")
    with pytest.raises(SpoolFullError):
        group_commit.put([event(1)])
    server.error = None
    group_commit.put([event(2)])
    assert server.commits == [["2"]]


def test_an_interrupted_commit_leaves_the_way_free(server, group_commit):
    """A caller that is ended in its commit (SIGINT, a worker's time-out) holds nobody else up."""
    server.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        group_commit.put([event(1)])
    server.error = None
    group_commit.put([event(2)])
    assert server.commits == [["2"]]


@pytest.mark.parametrize("how", list(forks))
def test_a_forked_child_does_not_wait_for_its_parents_threads(server, group_commit, how):
    """Who was in a commit at the fork is the parent's, whether Python knows of the fork or not."""
    server.gate.clear()
    first = Caller(group_commit, "first")
    assert server.entered.acquire(timeout=PATIENCE_S)
    child = forks[how]()
    if child == 0:
        server.gate = threading.Event()
        server.gate.set()
        group_commit.put([event(2)])
        os._exit(0 if server.commits == [["2"]] else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert finish(server, [first]) == [None]
