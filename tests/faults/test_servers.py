"""Servers with ways of their own: uWSGI forks without hooks, and its workers have no threads."""

import contextlib
import http.client
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.inbox import Inbox
from support.mutants import TESTS, python_path
from support.waiting import wait_until

from mixpanel_visitor.emulator import LocalMixpanel
from mixpanel_visitor.tracker import Tracker

SETTINGS = {"token": "servers", "secret_key": "a-key-of-some-length"}
REQUESTS = 20
UWSGI = shutil.which("uwsgi", path=str(Path(sys.executable).parent)) or "uwsgi"


def _ask(port, number):
    """Ask once; whether the answer was whole."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("GET", f"/?n={number}")
        return connection.getresponse().read() == b"ok"


@pytest.mark.servers
@pytest.mark.skipif(not Path(UWSGI).exists() and not os.environ.get("CI"), reason="uwsgi is not installed")
def test_uwsgi_without_threads_loses_nothing(tmp_path):
    """Built before the fork, in workers without threads: every answer's event is stored."""
    spool = tmp_path / "spool"
    log_path = tmp_path / "server.log"
    with LocalMixpanel() as mixpanel, socket.socket() as listener, log_path.open("wb") as log:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        port = listener.getsockname()[1]
        command = [UWSGI, "--http-socket", f"fd://{listener.fileno()}", "--module", "support.kill_app:app"]
        command += ["--home", sys.prefix, "--master", "--processes", "2", "--die-on-term"]
        server = subprocess.Popen(
            command,
            env={
                **os.environ,
                "PYTHONPATH": python_path(TESTS),
                "MIXPANEL_TOKEN": SETTINGS["token"],
                "MIXPANEL_VISITOR_SECRET_KEY": SETTINGS["secret_key"],
                "MIXPANEL_API_HOST": mixpanel.url,
                "MIXPANEL_VISITOR_SPOOL": str(spool),
            },
            pass_fds=[listener.fileno()],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            assert all(_ask(port, number) for number in range(REQUESTS)), log_path.read_text()
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
        tracker = Tracker(**SETTINGS, api_host=mixpanel.url, spool=str(spool))
        tracker.start()
        assert wait_until(lambda: tracker.stats()["spool"]["pending"] == 0, 10)
        tracker.close()
        arrived = sorted(int(event["properties"]["n"]) for event in Inbox(mixpanel.url).events())
    assert arrived == list(range(REQUESTS))
