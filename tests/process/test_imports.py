"""Late imports: a process that forks in the middle of one has children that can import the same."""

import pytest
from support.journals import run_python

FORK = """
import os, signal, sys, threading, warnings
from mixpanel_visitor.process.imports import importing

warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads: that is what is tested
signal.alarm(30)  # whoever is locked in dies of it
sys.path.insert(0, sys.argv[1])
begun, is_over, go_on = threading.Event(), threading.Event(), threading.Event()
sys.begun, sys.go_on = begun, go_on  # for the module below


def import_late():
    with importing:
        import slow
    is_over.set()


def fork(live):
    child = os.fork()
    if not child:
        signal.alarm(10)
        live()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""

SLOW = """
import sys
sys.begun.set()
sys.go_on.wait()
value = 1
"""


@pytest.fixture
def slow(tmp_path):
    """A directory with a module whose import takes until somebody lets it go on."""
    (tmp_path / "slow.py").write_text(SLOW)
    return tmp_path


def test_a_fork_waits_for_an_import_of_another_thread(slow):
    """The child imports the same module, and is not kept waiting by the lock of a thread that it lacks."""
    run_python(
        FORK
        + """
threading.Thread(target=import_late).start()
begun.wait()
os.register_at_fork(before=go_on.set)  # called before ours, which was there first
fork(lambda: __import__("slow").value)
assert is_over.wait(10)
""",
        slow,
    )


def test_a_fork_waits_for_half_a_second_at_most(slow):
    """An import that does not end, as from a dead network drive, must not stop the whole program."""
    run_python(
        FORK
        + """
thread = threading.Thread(target=import_late)
thread.start()
begun.wait()


def import_another():
    with importing:  # the lock is the child's own
        import colorsys


fork(import_another)
assert not is_over.is_set()
go_on.set()
thread.join()
""",
        slow,
    )


def test_a_thread_may_fork_in_its_own_import(slow):
    """Modules that start processes when they are imported do not wait for themselves."""
    run_python(
        FORK
        + """
with importing:
    fork(lambda: None)
with importing:
    import colorsys
""",
        slow,
    )
