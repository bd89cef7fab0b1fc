"""Processes that are stopped with their response, as on AWS Lambda: what Mixpanel or the spool has then."""

import contextlib
import socket

import pytest
from support.frozen import TOKEN, FrozenProcess
from support.inbox import Inbox
from support.trackers import SECRET_KEY
from support.waiting import PATIENCE_S, wait_until

from mixpanel_visitor.emulator import LocalMixpanel
from mixpanel_visitor.tracking.tracker import Tracker

DURABILITIES = ["before-response", "delivered"]


@pytest.fixture
def freeze(tmp_path):
    """Start processes that are stopped with their response; they end with the test."""
    with contextlib.ExitStack() as running:

        def freeze(mixpanel_url, **settings):
            process = FrozenProcess(tmp_path, mixpanel_url, **settings)
            running.callback(process.kill)
            return process

        yield freeze


@pytest.fixture
def mixpanel():
    """A local Mixpanel."""
    with LocalMixpanel() as mixpanel:
        yield mixpanel


def numbers(mixpanel):
    """Return what has arrived of the orders, in their order."""
    return [event["properties"]["n"] for event in Inbox(mixpanel.url).events()]


def deliver_what_waits(spool, mixpanel, *, until):
    """Do what the next process does that uses the spool, until so many events have arrived."""
    tracker = Tracker(token=TOKEN, secret_key=SECRET_KEY, api_host=mixpanel.url, spool=str(spool))
    try:
        tracker.start()
        assert wait_until(lambda: len(numbers(mixpanel)) >= until, PATIENCE_S)
        assert tracker.flush(PATIENCE_S)
    finally:
        tracker.close()


@pytest.mark.servers
def test_a_stopped_process_has_delivered(freeze, mixpanel):
    """With "delivered", Mixpanel has each event when its response is out, though the process never ran again.

    How long it may take is a setting; here it is as long as a test may wait.
    """
    process = freeze(mixpanel.url, durability="delivered", delivery_timeout_s=PATIENCE_S)
    assert process.order(1)["statusCode"] == 200
    assert numbers(mixpanel) == ["1"]
    process.order(2)
    assert numbers(mixpanel) == ["1", "2"]


@pytest.mark.servers
@pytest.mark.parametrize("durability", DURABILITIES)
def test_what_a_stopped_process_could_not_deliver_is_in_its_spool(durability, freeze, mixpanel):
    """Mixpanel is away: the response goes out, the process is killed as it stands, and nothing is lost."""
    process = freeze(f"http://127.0.0.1:{closed_port()}", durability=durability)
    assert process.order(1)["statusCode"] == 200
    process.kill()
    deliver_what_waits(process.spool, mixpanel, until=1)
    assert numbers(mixpanel) == ["1"]


@pytest.mark.servers
@pytest.mark.parametrize("durability", DURABILITIES)
def test_events_of_a_process_that_is_stopped_again_and_again_count_once(durability, freeze, mixpanel):
    """Whatever it was stopped in: what had waited arrives with the next invocations, or after its end."""
    process = freeze(mixpanel.url, durability=durability)
    for number in (1, 2, 3):
        assert process.order(number)["statusCode"] == 200
    process.kill()
    deliver_what_waits(process.spool, mixpanel, until=3)
    assert sorted(numbers(mixpanel)) == ["1", "2", "3"]


def closed_port():
    """Return a port on which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
