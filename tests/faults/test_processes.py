"""Threads that cannot be had and interpreters that end: nothing is lost, and nobody sees a traceback."""

import os
import subprocess
import sys

import pytest
from support.inbox import Inbox
from support.mutants import TESTS, python_path

from mixpanel_visitor.emulator import LocalMixpanel
from mixpanel_visitor.tracker import Tracker

SETTINGS = {"token": "processes", "secret_key": "a-key-of-some-length"}

BEGIN = r"""
import atexit, sys, threading
from support.kill_app import _answer
from mixpanel_visitor.wsgi import VisitorMiddleware

def ask(name):
    environ = {
        "REQUEST_METHOD": "GET", "PATH_INFO": "/", "QUERY_STRING": f"n={name}", "SERVER_NAME": "site.test",
        "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.url_scheme": "http",
        "REMOTE_ADDR": "127.0.0.1",
    }
    answer = app(environ, lambda status, headers, exc_info=None: lambda data: None)
    assert b"".join(answer) == b"ok"
    answer.close()

atexit.register(ask, "after ours")
"""
APP = 'app = VisitorMiddleware(_answer, durability="before-response")\n'
REFUSED = r"""
def refuse(thread):
    raise RuntimeError("can't start new thread")

threading.Thread.start = refuse
"""
LAST_MOMENT = r"""
ask("first")
atexit.register(ask, "before ours")
"""


def _run(script, mixpanel, spool):
    """Run it in an interpreter of its own; give its standard error."""
    result = subprocess.run(
        [sys.executable, "-c", script],
        env={
            **os.environ,
            "PYTHONPATH": python_path(TESTS),
            "MIXPANEL_TOKEN": SETTINGS["token"],
            "MIXPANEL_VISITOR_SECRET_KEY": SETTINGS["secret_key"],
            "MIXPANEL_API_HOST": mixpanel.url,
            "MIXPANEL_VISITOR_SPOOL": str(spool),
        },
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stderr


def _deliver_rest(mixpanel, spool):
    """Deliver what the process has left in its spool; give what arrived in all."""
    tracker = Tracker(**SETTINGS, api_host=mixpanel.url, spool=str(spool))
    tracker.start()
    assert tracker.drain(10)
    tracker.close()
    return sorted(event["properties"]["n"] for event in Inbox(mixpanel.url).events())


@pytest.mark.parametrize("threads", ["", REFUSED], ids=["threads", "refused"])
def test_events_of_the_last_moment_are_kept(threads, tmp_path):
    """Events in exit handlers before and after ours are stored, with threads and without."""
    with LocalMixpanel() as mixpanel:
        stderr = _run(BEGIN + threads + APP + LAST_MOMENT, mixpanel, tmp_path / "spool")
        arrived = _deliver_rest(mixpanel, tmp_path / "spool")
    assert arrived == ["after ours", "before ours", "first"]
    assert stderr == ""
