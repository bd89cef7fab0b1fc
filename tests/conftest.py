"""What holds for all tests."""

import os
import threading

import pytest
from hypothesis import HealthCheck, Phase, settings
from support.mutants import IN_A_MUTANT
from support.trackers import end_abandoned_senders

# A slow machine is no finding: timing never fails a test.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("mutant", settings.get_profile("patient"), phases=[Phase.generate])
settings.load_profile("mutant" if IN_A_MUTANT in os.environ else "patient")

SENT = "sent to the local Mixpanel"


def pytest_addoption(parser):
    """Add what `tests/browser` can be asked for besides."""
    parser.addoption(
        "--through-collector",
        action="store_true",
        help="send the events of the browsers in tests/browser through the application",
    )
    parser.addoption(
        "--every-id-merge",
        action="store_true",
        help="walk each journey of tests/browser in both ways of merging IDs, not most in one of them",
    )


@pytest.fixture(autouse=True)
def _no_abandoned_senders():
    """A tracker that a test has dropped, with events that nobody takes, would try to send them for ever."""
    yield
    end_abandoned_senders(threading.enumerate())


@pytest.fixture
def note_sent(record_property):
    """Note what a library has sent to a local Mixpanel; all of it is listed at the end of the run."""

    def note_sent(library, call, local):
        requests = local.store.stats()["requests"]
        answers = [
            f"{path} {status} x{count}" for path in requests for status, count in requests[path].items()
        ]
        names = sorted({event.name for event in local.store.events()})
        record_property(SENT, f"{library}: {call}: {', '.join([*names, *answers])}")

    return note_sent


def pytest_terminal_summary(terminalreporter):
    """List what the official libraries have sent unchanged, and that it was taken: the tests are green."""
    passed = terminalreporter.stats.get("passed", [])
    sent = sorted(text for report in passed for name, text in report.user_properties if name == SENT)
    if sent:
        terminalreporter.section("what Mixpanel's own libraries sent to the local Mixpanel")
        for line in sent:
            terminalreporter.write_line(line)
