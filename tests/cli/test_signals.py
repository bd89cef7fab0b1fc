"""Signals: how a command that runs until it is told to end waits for that."""

import signal
import subprocess
import sys

import pytest
from support.waiting import PATIENCE_S

from mixpanel_visitor.cli.signals import hold_signals

TWICE = """
import signal
from mixpanel_visitor.cli.signals import hold_signals
with hold_signals() as signals:
    signal.raise_signal(signal.{name})
    signals.wait()
    print("first", flush=True)
    signal.raise_signal(signal.{name})
    print("second")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_comes_before_the_wait_is_not_lost(number):
    """It interrupts nothing, and the wait ends at once."""
    with hold_signals() as signals:
        assert not signals.is_set
        signal.raise_signal(number)
        signals.wait(PATIENCE_S)
        assert signals.is_set


def test_a_wait_has_an_end_without_one():
    """Then none has come."""
    with hold_signals() as signals:
        signals.wait(0)
        assert not signals.is_set


def test_another_signal_ends_no_wait():
    """Python writes every signal with a handler into the same socket."""
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        with hold_signals() as signals:
            signal.raise_signal(signal.SIGUSR1)
            signals.wait(0)
            assert not signals.is_set
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_at_the_end_all_is_as_before():
    """Handlers, and the descriptor that Python writes to."""
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with hold_signals():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    wakeup_fd = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup_fd)
    assert wakeup_fd == -1


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_the_second_one_ends_the_process_at_once(name):
    """Whoever cannot wait for the end says so twice."""
    done = subprocess.run([sys.executable, "-c", TWICE.format(name=name)], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (-getattr(signal, name), b"first\n")
