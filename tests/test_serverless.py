"""Processes that are stopped with their response, as on AWS Lambda: what Mixpanel or the spool has then."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.components import needs_delivered
from support.inbox import Inbox
from support.mutants import python_path
from support.spools import SECRET_KEY
from support.waiting import PATIENCE_S, wait_until

from mixpanel_visitor.emulator import LocalMixpanel
from mixpanel_visitor.tracking.tracker import Tracker

TESTS = Path(__file__).parent
TOKEN = "serverless"
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
DURABILITIES = ["before-response", pytest.param("delivered", marks=needs_delivered())]


class Frozen:
    """A process of `support.lambda_runtime`, which runs during an invocation only."""

    def __init__(self, directory, mixpanel_url, **settings):
        self.spool = directory / "spool"
        self._log = (directory / "lambda.log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.lambda_runtime", json.dumps(settings)],
            env={
                **os.environ,
                "HOME": str(directory),
                "PYTHONPATH": python_path(TESTS),
                "MIXPANEL_TOKEN": TOKEN,
                "MIXPANEL_API_HOST": mixpanel_url,
                "MIXPANEL_VISITOR_SECRET_KEY": SECRET_KEY,
                "MIXPANEL_VISITOR_SPOOL": str(self.spool),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        self._invoked = False

    def order(self, number):
        """Invoke it; give the response once the process is stopped."""
        if self._invoked:
            self._process.send_signal(signal.SIGCONT)
        self._invoked = True
        self._process.stdin.write(json.dumps(invocation(f"n={number}")).encode() + b"\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert wait_until(self._is_stopped, PATIENCE_S)
        return answer

    def _is_stopped(self):
        return os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOHANG) is not None

    def kill(self):
        """End it as it is, which the platform may do at any time."""
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()
        self._log.close()


def invocation(query):
    """What an HTTP API gives to a Lambda function, as far as Mangum looks at it."""
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": "/order",
        "rawQueryString": query,
        "headers": {"host": "shop.example", "user-agent": BROWSER},
        "requestContext": {
            "http": {"method": "POST", "path": "/order", "protocol": "HTTP/1.1", "sourceIp": "192.0.2.7"}
        },
        "isBase64Encoded": False,
    }


@pytest.fixture
def freeze(tmp_path):
    """Start processes that are stopped with their response; they end with the test."""
    with contextlib.ExitStack() as running:

        def freeze(mixpanel_url, **settings):
            process = Frozen(tmp_path, mixpanel_url, **settings)
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
@needs_delivered()
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
