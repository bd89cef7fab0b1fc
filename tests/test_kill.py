"""kill -9 of the app at random moments: every event whose response was complete reaches Mixpanel once."""

import contextlib
import http.client
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from support.inbox import Inbox
from support.mutants import python_path
from support.waiting import PATIENCE_S, wait_until

from mixpanel_visitor.emulator import LocalMixpanel
from mixpanel_visitor.tracking.tracker import Tracker

ROUNDS = 50
WHOLE_SERVER_EVERY = 10
WORKERS = 2
CLIENTS = 3
TESTS = Path(__file__).parent
SETTINGS = {"MIXPANEL_TOKEN": "kill", "MIXPANEL_VISITOR_SECRET_KEY": "a-key-of-some-length"}


class Server:
    """gunicorn with several workers that share a spool; its workers and itself can be killed."""

    def __init__(self, listener, environment, log):
        command = ["gunicorn", "--bind", f"fd://{listener.fileno()}", "--workers", str(WORKERS)]
        command += ["--preload", "--worker-class", "sync", "support.kill_app:app"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env={**os.environ, **environment, "PYTHONPATH": python_path(TESTS)},
            pass_fds=[listener.fileno()],
            stdout=log,
            stderr=subprocess.STDOUT,
        )

    def workers(self):
        """The process ids of the workers that run now."""
        pid = self.process.pid
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
            return [int(child) for child in children.split()]
        return []

    def kill_worker(self, chance):
        """Kill one worker; the master starts another."""
        assert wait_until(lambda: self.workers() != [], PATIENCE_S)
        with contextlib.suppress(ProcessLookupError):
            os.kill(chance.choice(self.workers()), signal.SIGKILL)

    def kill_all(self):
        """Kill the master first, so that it cannot replace anybody, then its workers."""
        workers = self.workers()
        self.process.kill()
        self.process.wait()
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)


class Clients:
    """Threads that ask without a pause and remember which answers they had whole."""

    def __init__(self, port):
        self.port = port
        self.complete = []
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self._ask, args=(name,)) for name in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def _ask(self, name):
        number = 0
        while not self.stopping.is_set():
            number += 1
            key = f"{name}-{number}"
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
                with contextlib.closing(connection):
                    connection.request("GET", f"/?n={key}")
                    if connection.getresponse().read() == b"ok":
                        self.complete.append(key)
            except (OSError, http.client.HTTPException):
                self.stopping.wait(0.005)  # the worker was killed under us: this one does not count

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join()


@pytest.mark.servers
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc to find gunicorn's workers")
def test_nothing_acknowledged_is_lost_by_kill_9(tmp_path):
    """50 rounds: kill a worker after a random number of answers, every tenth time the whole server."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # shown with a failure, so that it can be repeated
    chance = random.Random(seed)
    with LocalMixpanel() as mixpanel, socket.socket() as listener, tempfile.TemporaryDirectory() as home:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        spool = str(tmp_path / "spool")
        environment = {
            **SETTINGS,
            "HOME": home,
            "MIXPANEL_API_HOST": mixpanel.url,
            "MIXPANEL_VISITOR_SPOOL": spool,
        }
        clients = Clients(listener.getsockname()[1])
        with (tmp_path / "server.log").open("wb") as log:
            server = Server(listener, environment, log)
            try:
                for number in range(1, ROUNDS + 1):
                    goal = len(clients.complete) + chance.randrange(1, 40)
                    assert wait_until(lambda goal=goal: len(clients.complete) >= goal, PATIENCE_S), (
                        tmp_path / "server.log"
                    ).read_text()[-2000:]
                    if number % WHOLE_SERVER_EVERY == 0:
                        server.kill_all()
                        server = Server(listener, environment, log)
                    else:
                        server.kill_worker(chance)
            finally:
                clients.stop()
                server.kill_all()

        # The restart: whoever uses the spool next delivers what is left.
        tracker = Tracker(token="kill", secret_key="a-key-of-some-length", api_host=mixpanel.url, spool=spool)
        tracker.start()
        assert wait_until(lambda: tracker.stats()["spool"]["pending"] == 0, PATIENCE_S)
        tracker.close()

        inbox = Inbox(mixpanel.url)
        events = inbox.events()
        arrived = {event["properties"]["n"] for event in events}
        insert_ids = [event["properties"]["$insert_id"] for event in events]
        assert len(clients.complete) > ROUNDS
        assert set(clients.complete) - arrived == set()
        assert len(insert_ids) == len(set(insert_ids))
        stats = inbox.stats()
        assert stats["altered"] == 0
        assert stats["rejected"] == 0
        print(f"{len(clients.complete)} answers, {len(events)} events, {stats['duplicates']} sent again")
