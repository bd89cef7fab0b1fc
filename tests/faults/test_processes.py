"""Threads that cannot be had, gevent, a busy processor, interpreters that end: nothing is lost."""

import os
import subprocess
import sys

import pytest
from support.inbox import Inbox
from support.mutants import TESTS, python_path
from support.waiting import PATIENCE_S

from mixpanel_visitor.emulator import LocalMixpanel
from mixpanel_visitor.tracking.tracker import Tracker, engine_of

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
HOG_APP = "app = VisitorMiddleware(_answer)\n"  # so that threads of ours have work as well
REFUSED = r"""
def refuse(thread):
    raise RuntimeError("can't start new thread")

threading.Thread.start = refuse
"""
LAST_MOMENT = r"""
ask("first")
atexit.register(ask, "before ours")
"""


DAEMON = r"""
import os, time

def busy():
    for number in range(1_000_000):
        ask(number)
        os.write(1, b"%d\n" % number)

threading.Thread(target=busy, daemon=True).start()
time.sleep(float(sys.argv[1]))
"""
GREENLETS = r"""
import gevent
gevent.joinall([gevent.spawn(ask, number) for number in range(20)], raise_error=True)
assert app.tracker.flush(10)
ask("last")
"""
HOG = r"""
def hog():
    while True:
        pass

for _ in range(3):
    threading.Thread(target=hog, daemon=True).start()
for number in range(20):
    ask(number)
"""


def _run(script, mixpanel, spool, *arguments):
    """Run it in an interpreter of its own; give its output and its standard error."""
    result = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
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
        timeout=PATIENCE_S,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout, result.stderr


def _deliver_rest(mixpanel, spool):
    """Deliver what the process has left in its spool; give what arrived in all."""
    tracker = Tracker(**SETTINGS, api_host=mixpanel.url, spool=str(spool))
    tracker.start()
    assert engine_of(tracker).drain(10)
    tracker.close()
    return sorted(event["properties"]["n"] for event in Inbox(mixpanel.url).events())


@pytest.mark.parametrize("threads", ["", REFUSED], ids=["threads", "refused"])
def test_events_of_the_last_moment_are_kept(threads, tmp_path):
    """Events in exit handlers before and after ours are stored, with threads and without."""
    with LocalMixpanel() as mixpanel:
        _, stderr = _run(BEGIN + threads + APP + LAST_MOMENT, mixpanel, tmp_path / "spool")
        arrived = _deliver_rest(mixpanel, tmp_path / "spool")
    assert arrived == ["after ours", "before ours", "first"]
    assert "Traceback" not in stderr  # on a busy machine Mixpanel may not be reached in the time for an exit


FINALIZER = r"""
from mixpanel_visitor import Tracker

tracker = Tracker()

class Session:
    def __del__(self):
        tracker.track("somebody", "Session ended", {"n": "finalizer"})

session = Session()
"""
TRACKED = 'tracker.track("somebody", "Session began", {"n": "first"})\n'
REQUEST = r"""
class Asking:
    def __del__(self):
        ask("finalizer")

asking = Asking()
ask("first")
"""


@pytest.mark.parametrize(
    ("script", "stored"),
    [
        (FINALIZER + TRACKED, ["finalizer", "first"]),
        (FINALIZER, ["finalizer"]),
        (BEGIN + APP + REQUEST, ["after ours", "finalizer", "first"]),
        (BEGIN + HOG_APP + REQUEST, ["after ours", "finalizer", "first"]),
    ],
    ids=["after the drain", "the first of all", "request", "request, committer"],
)
def test_a_finalizer_that_tracks_while_the_interpreter_ends_is_stored(script, stored, tmp_path):
    """No thread is started then: before Python 3.12 the process would wait for it for ever."""
    with LocalMixpanel() as mixpanel:
        _, stderr = _run(script, mixpanel, tmp_path / "spool")
        arrived = _deliver_rest(mixpanel, tmp_path / "spool")
    assert arrived == stored
    assert "Traceback" not in stderr  # on a busy machine Mixpanel may not be reached in the time for an exit


PATCH = "from gevent import monkey; monkey.patch_all()\n"


@pytest.mark.parametrize("script", [PATCH + BEGIN + APP, BEGIN + PATCH + APP], ids=["before", "after"])
def test_gevent_may_patch_before_or_after_we_are_imported(script, tmp_path):
    """Events of greenlets are delivered while they run, and the last one at exit."""
    with LocalMixpanel() as mixpanel:
        _, stderr = _run(script + GREENLETS, mixpanel, tmp_path / "spool")
        arrived = _deliver_rest(mixpanel, tmp_path / "spool")
    assert arrived == sorted([*map(str, range(20)), "after ours", "last"])
    assert "Traceback" not in stderr  # on a busy machine Mixpanel may not be reached in the time for an exit


PATCHED_LATE = r"""
import sys
from mixpanel_visitor import Tracker

tracker = Tracker()
tracker.track("somebody", "Before", {"n": "before"})
assert tracker.flush(20)
PATCH
for number in range(20):
    tracker.track("somebody", "After", {"n": str(number)})
assert tracker.flush(20)
assert tracker.close(20)
"""
PATCHED_LATE_UNDER_ASGI = r"""
import time, orjson
from mixpanel_visitor.records import Record
from mixpanel_visitor.tracking.tracker import Tracker

tracker = Tracker()


def ask(name):
    properties = {"token": "processes", "n": name, "distinct_id": "u", "$insert_id": f"insert-{name}"}
    body = orjson.dumps({"event": "E", "properties": {**properties, "time": round(time.time() * 1000)}})
    tracker._engine._counters.accept()
    tracker._engine.pipeline.store_soon([Record("import", body)])


tracker.start()
for number in range(20):
    ask(f"before-{number}")
assert tracker.flush(20)
PATCH
for number in range(20):
    ask(f"after-{number}")
assert tracker.flush(20)
assert tracker.close(20)
"""
GEVENT = "from gevent import monkey; monkey.patch_all()"


@pytest.mark.parametrize("run", range(3))
@pytest.mark.parametrize(
    ("script", "events"), [(PATCHED_LATE, 21), (PATCHED_LATE_UNDER_ASGI, 40)], ids=["sender", "committer"]
)
def test_gevent_may_patch_after_our_threads_have_begun(script, events, run, tmp_path):
    """Native threads of ours stop when they notice it, others take their place, and nothing hangs."""
    with LocalMixpanel() as mixpanel:
        _, stderr = _run(script.replace("PATCH", GEVENT), mixpanel, tmp_path / f"spool-{run}")
        arrived = Inbox(mixpanel.url).events()
    assert len(arrived) == events
    assert "Traceback" not in stderr


def test_a_processor_that_is_never_free_loses_nothing(tmp_path):
    """Three threads that never wait share the interpreter with the application."""
    with LocalMixpanel() as mixpanel:
        _, stderr = _run(BEGIN + HOG_APP + HOG, mixpanel, tmp_path / "spool")
        arrived = _deliver_rest(mixpanel, tmp_path / "spool")
    assert arrived == sorted([*map(str, range(20)), "after ours"])
    assert "Traceback" not in stderr


@pytest.mark.parametrize("alive_s", [0.0, 0.02, 0.05, 0.1, 0.2])
def test_a_daemon_thread_may_die_in_the_middle_of_an_event(alive_s, tmp_path):
    """The interpreter ends while a thread stores event after event: all that were answered are kept."""
    with LocalMixpanel() as mixpanel:
        stdout, stderr = _run(BEGIN + APP + DAEMON, mixpanel, tmp_path / "spool", alive_s)
        arrived = _deliver_rest(mixpanel, tmp_path / "spool")
    assert set(stdout.split()) <= set(arrived)
    assert len(arrived) == len(set(arrived)) <= len(stdout.split()) + 2
    assert "Traceback" not in stderr
