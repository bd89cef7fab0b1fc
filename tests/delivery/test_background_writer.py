"""Committer: requests hand over and go on; nothing is left behind."""

import os
import threading

import pytest
from support.waiting import PATIENCE_S

from mixpanel_visitor.delivery.background_writer import MAX_WAITING, BackgroundWriter
from mixpanel_visitor.records import Record


def records(*names):
    return [Record("import", name.encode()) for name in names]


class Book:
    """Remembers commits, and in which thread; can be made to wait."""

    def __init__(self):
        self.groups = []
        self.threads = set()
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.wrote = threading.Semaphore(0)

    def commit(self, group):
        self.entered.set()
        assert self.gate.wait(PATIENCE_S)
        self.groups.append([record.body.decode() for record in group])
        self.threads.add(threading.current_thread().name)
        self.wrote.release()

    @property
    def names(self):
        return sorted(name for group in self.groups for name in group)


def running(book):
    """A committer whose thread has proven that it runs."""
    committer = BackgroundWriter(book.commit)
    committer.submit(records("first"))
    deadline = threading.Event()
    while not committer._run_of_thread.running:
        deadline.wait(0.001)
    return committer


def test_the_first_is_committed_by_the_caller():
    """Until the thread has proven that it runs, nobody depends on it."""
    book = Book()
    committer = BackgroundWriter(book.commit)
    committer.submit(records("a"))
    assert book.groups == [["a"]]
    assert book.threads == {threading.current_thread().name}
    committer.stop(PATIENCE_S)


def test_later_ones_are_committed_by_the_thread():
    """The event loop does not touch the disk."""
    book = Book()
    committer = running(book)
    committer.submit(records("b"))
    for _ in range(2):
        assert book.wrote.acquire(timeout=PATIENCE_S)
    assert "mixpanel-visitor-committer" in book.threads
    committer.stop(PATIENCE_S)


def test_what_waits_is_committed_together():
    """Requests that finish while the disk is busy share the next write, in their order."""
    book = Book()
    committer = running(book)
    book.entered.clear()
    book.gate.clear()
    committer.submit(records("b"))
    assert book.entered.wait(PATIENCE_S)
    committer.submit(records("c", "d"))
    committer.submit(records("e"))
    book.gate.set()
    committer.stop(PATIENCE_S)
    assert book.groups == [["first"], ["b"], ["c", "d", "e"]]


def test_a_full_queue_loses_nothing():
    """Nothing is lost where the queue is full."""
    book = Book()
    committer = running(book)
    book.entered.clear()
    book.gate.clear()
    committer.submit(records("b"))
    assert book.entered.wait(PATIENCE_S)
    for number in range(MAX_WAITING):
        committer.submit(records(str(number)))
    book.gate.set()
    committer.submit(records("over"))
    committer.stop(PATIENCE_S)
    assert len(book.names) == MAX_WAITING + 3


def test_drain_commits_in_the_calling_thread():
    """At exit no thread may be counted on."""
    book = Book()
    committer = running(book)
    committer.submit(records("b"))
    assert committer.drain(PATIENCE_S)
    assert book.names == ["b", "first"]
    committer.stop(PATIENCE_S)


def test_drain_gives_up_on_a_stuck_disk():
    """It says so instead of hanging."""
    book = Book()
    committer = running(book)
    book.entered.clear()
    book.gate.clear()
    committer.submit(records("b"))
    assert book.entered.wait(PATIENCE_S)
    assert not committer.drain(0)
    book.gate.set()
    committer.stop(PATIENCE_S)


def test_a_stopped_committer_goes_on_with_the_next():
    """Stopping loses nothing and ends nothing for good."""
    book = Book()
    committer = running(book)
    committer.stop(PATIENCE_S)
    committer.submit(records("b"))
    committer.drain(PATIENCE_S)
    assert book.names == ["b", "first"]
    committer.stop(PATIENCE_S)


def test_a_thread_that_was_stopped_before_it_ran_leaves_nothing_waiting():
    """Its successor, or the caller, commits what comes later."""
    book = Book()
    committer = BackgroundWriter(book.commit)
    for name in ("a", "b", "c"):
        committer.submit(records(name))
        committer.stop(PATIENCE_S)
    assert book.names == ["a", "b", "c"]


def test_many_threads_lose_nothing():
    """Submitting, draining and stopping at once, every record is committed exactly once."""
    book = Book()
    committer = running(book)

    def submit(thread):
        for number in range(200):
            committer.submit(records(f"{thread}-{number}"))
            if number % 50 == 0:
                committer.drain(PATIENCE_S)
            if number % 70 == 0:
                committer.stop(PATIENCE_S)

    threads = [threading.Thread(target=submit, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    committer.stop(PATIENCE_S)
    assert len(book.names) == len(set(book.names)) == 801


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12 on; forking is the point
def test_a_forked_child_starts_empty():
    """What waited in the parent is the parent's; the child commits its own."""
    book = Book()
    committer = running(book)
    committer._waiting.append(records("the parent's"))
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        committer.submit(records("the child's"))
        committer.drain(PATIENCE_S)
        os.write(writer, ",".join(book.names).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(reader, 100) == b"first,the child's"
    os.close(reader)
    os.close(writer)
    committer.stop(PATIENCE_S)
    assert book.names == ["first", "the parent's"]


def never(_thread):
    """As uWSGI without threads: the thread is made and does not run."""


def refused(_thread):
    raise RuntimeError("can't start new thread")


@pytest.mark.parametrize("start", [never, refused])
def test_without_threads_callers_commit(monkeypatch, start):
    """Nothing waits for a thread that does not run."""
    monkeypatch.setattr(threading.Thread, "start", start)
    book = Book()
    committer = BackgroundWriter(book.commit)
    for name in ("a", "b", "c"):
        committer.submit(records(name))
    assert book.groups == [["a"], ["b"], ["c"]]


def test_beyond_a_full_queue_the_caller_commits_its_own_at_once():
    """The queue is bounded even while the disk keeps the thread."""
    book = Book()
    here = threading.current_thread()

    def commit(group):
        if threading.current_thread() is here:
            book.groups.append([record.body.decode() for record in group])
        else:
            book.commit(group)

    committer = BackgroundWriter(commit)
    committer.submit(records("first"))
    deadline = threading.Event()
    while not committer._run_of_thread.running:
        deadline.wait(0.001)
    book.gate.clear()
    committer.submit(records("stuck"))
    assert book.entered.wait(PATIENCE_S)
    for number in range(MAX_WAITING):
        committer.submit(records(str(number)))
    assert book.groups == [["first"]]
    committer.submit(records("over"))
    assert book.groups == [["first"], ["over"]]
    book.gate.set()
    assert committer.stop(PATIENCE_S)


def test_stop_ends_the_thread():
    """A stopped committer leaves no thread behind, and its thread never keeps a process alive."""
    before = set(threading.enumerate())
    committer = running(Book())
    (thread,) = set(threading.enumerate()) - before
    assert thread.daemon
    committer.stop(PATIENCE_S)
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12 on; forking is the point
def test_a_forked_child_that_only_drains_commits_nothing():
    """A child that ends without an event of its own must not store the parent's again."""
    book = Book()
    committer = running(book)
    committer._waiting.append(records("the parent's"))
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        committer.drain(PATIENCE_S)
        os.write(writer, ",".join(book.names).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(reader, 100) == b"first"
    os.close(reader)
    os.close(writer)
    committer.stop(PATIENCE_S)
