"""Servers with ways of their own: workers without threads, workers that are recycled, a reload under load."""

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from support.inbox import Inbox
from support.mutants import TESTS, python_path
from support.waiting import PATIENCE_S, wait_until

from mixpanel_visitor.emulator import LocalMixpanel
from mixpanel_visitor.tracking.tracker import Tracker

SETTINGS = {"token": "servers", "secret_key": "a-key-of-some-length"}
REQUESTS = 20
UWSGI = shutil.which("uwsgi", path=str(Path(sys.executable).parent)) or "uwsgi"


class Site:
    """`support.kill_app` in a server of its own; `ask` is a client who wants a whole answer."""

    def __init__(self, listener, command, environment, log_path):
        self.port = listener.getsockname()[1]
        self.log_path = log_path
        with log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [part.format(fd=listener.fileno()) for part in command],
                env={**os.environ, "PYTHONPATH": python_path(TESTS), **environment},
                pass_fds=[listener.fileno()],
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def ask(self, number):
        with contextlib.closing(
            http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        ) as connection:
            connection.request("GET", f"/?n={number}")
            assert connection.getresponse().read() == b"ok", self.log_path.read_text()

    def end(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def served(command, directory, arrived):
    """Serve, end the server by SIGTERM, let the next process deliver the rest; `arrived` gets all numbers."""
    spool = str(directory / "spool")
    with (
        LocalMixpanel() as mixpanel,
        socket.socket() as listener,
        tempfile.TemporaryDirectory(prefix="mpv-") as home,  # short: gunicorn puts a Unix socket there
    ):
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        environment = {
            "HOME": home,
            "MIXPANEL_TOKEN": SETTINGS["token"],
            "MIXPANEL_VISITOR_SECRET_KEY": SETTINGS["secret_key"],
            "MIXPANEL_API_HOST": mixpanel.url,
            "MIXPANEL_VISITOR_SPOOL": spool,
        }
        site = Site(listener, command, environment, directory / "server.log")
        try:
            yield site
        finally:
            site.end()
        tracker = Tracker(**SETTINGS, api_host=mixpanel.url, spool=spool)
        tracker.start()
        assert wait_until(lambda: tracker.stats()["spool"]["pending"] == 0, PATIENCE_S)
        tracker.close()
        arrived += sorted(int(event["properties"]["n"]) for event in Inbox(mixpanel.url).events())


@pytest.mark.servers
@pytest.mark.skipif(not Path(UWSGI).exists() and not os.environ.get("CI"), reason="uwsgi is not installed")
def test_uwsgi_without_threads_loses_nothing(tmp_path):
    """Built before the fork, in workers without threads: every answer's event is stored."""
    command = [UWSGI, "--http-socket", "fd://{fd}", "--module", "support.kill_app:app"]
    command += ["--home", sys.prefix, "--master", "--processes", "2", "--die-on-term"]
    arrived = []
    with served(command, tmp_path, arrived) as site:
        for number in range(REQUESTS):
            site.ask(number)
    assert arrived == list(range(REQUESTS))


@pytest.mark.servers
def test_gunicorn_reloads_and_recycles_without_loss(tmp_path):
    """Through HUP, workers that are recycled and SIGTERM no request fails, and every event arrives once."""
    command = [sys.executable, "-m", "gunicorn", "--bind", "fd://{fd}", "--workers", "2"]
    command += ["--max-requests", "7", "support.kill_app:app"]
    arrived = []
    with served(command, tmp_path, arrived) as site:
        for number in range(REQUESTS):
            site.ask(number)
            if number == REQUESTS // 2:
                site.process.send_signal(signal.SIGHUP)
    assert arrived == list(range(REQUESTS))


def workers(site):
    """The processes that uvicorn has spawned to serve."""
    children = Path(f"/proc/{site.process.pid}/task/{site.process.pid}/children").read_text().split()
    serving = []
    for child in children:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it ends at this moment
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                serving.append(int(child))
    return serving


@pytest.mark.servers
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for processes as Linux shows them")
def test_uvicorn_with_several_workers_loses_nothing(tmp_path):
    """Two workers, one killed and replaced, and SIGTERM for all: no event is lost or comes twice."""
    command = [sys.executable, "-m", "uvicorn", "--fd", "{fd}", "--workers", "2", "support.kill_app:asgi_app"]
    arrived = []
    with served(command, tmp_path, arrived) as site:
        for number in range(REQUESTS // 2):
            site.ask(number)
        first, second = workers(site)
        os.kill(first, signal.SIGKILL)
        assert wait_until(lambda: len({*workers(site)} - {first, second}) == 1, PATIENCE_S)
        for number in range(REQUESTS // 2, REQUESTS):
            site.ask(number)
    assert arrived == list(range(REQUESTS))
