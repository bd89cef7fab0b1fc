"""`mixpanel-visitor worker`: a process of its own delivers what others have put."""

import contextlib
import os
import signal
import subprocess
import sys
import urllib.request

import pytest
from click.testing import CliRunner
from support.components import needs
from support.inbox import Inbox
from support.waiting import PATIENCE_S, wait_until

from mixpanel_visitor.cli import main
from mixpanel_visitor.emulator import LocalMixpanel
from mixpanel_visitor.tracking.tracker import Tracker

TOKEN = "worker"

pytestmark = pytest.mark.servers


@pytest.fixture
def mixpanel():
    """Return a local Mixpanel."""
    with LocalMixpanel() as mixpanel:
        yield mixpanel


@pytest.fixture(params=["directory", pytest.param("redis", marks=needs("redis-server"))])
def spool(request, tmp_path):
    """Return each kind of spool that processes share."""
    if request.param == "directory":
        yield str(tmp_path / "spool")
        return
    from support import redis_servers

    with redis_servers.running(tmp_path / "redis") as server:
        yield f"{server.url}?idle_s=1&journal={tmp_path}/journal"


@pytest.fixture
def track(mixpanel, spool):
    """Track events in an application that delivers nothing itself."""
    tracker = Tracker(
        token=TOKEN, secret_key="a-key-of-some-length", api_host=mixpanel.url, spool=spool, deliver=False
    )

    def track(*names):
        for name in names:
            tracker.track("u-1", name)
        assert tracker.stats()["refused"] == {}

    yield track
    tracker.close()


class Worker:
    """One worker as a process; `lines` are what it has said."""

    def __init__(self, mixpanel, spool, *arguments):
        environment = {"MIXPANEL_TOKEN": TOKEN, "MIXPANEL_API_HOST": mixpanel.url}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mixpanel_visitor", "worker", "--spool", spool, *arguments],
            env={**os.environ, **environment, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self):
        """Wait for the next line."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def stop(self, number=signal.SIGTERM):
        """Send a signal; gives the exit code and what was said until then."""
        self.process.send_signal(number)
        return self.end()

    def end(self):
        """Wait for its end; gives the exit code and what was said until then."""
        output, errors = self.process.communicate(timeout=PATIENCE_S)
        assert "Traceback" not in errors, errors
        return self.process.returncode, output


@pytest.fixture
def worker(mixpanel, spool):
    """Start workers on the spool."""
    with contextlib.ExitStack() as closing:

        def worker(*arguments):
            started = Worker(mixpanel, spool, *arguments)
            closing.enter_context(started.process)
            closing.callback(started.process.kill)
            return started

        yield worker


def arrived(mixpanel):
    """Return the names of what Mixpanel has, in order."""
    return [event["event"] for event in Inbox(mixpanel.url).events()]


def test_it_delivers_until_it_is_told_to_stop(mixpanel, track, worker):
    """What was there before it, and what comes later; SIGTERM ends it with exit code 0."""
    track("before")
    started = worker()
    assert started.line().startswith(f"Delivering to {mixpanel.url}")
    track("after")
    assert wait_until(lambda: arrived(mixpanel) == ["before", "after"], PATIENCE_S)
    code, output = started.stop()
    assert code == 0
    assert "Stopped: 2 records were delivered." in output


def test_once_ends_when_nothing_is_left(mixpanel, track, worker):
    """For cron."""
    track(*"abcde")
    code, output = worker("--once").end()
    assert code == 0
    assert "5 records were delivered" in output
    assert sorted(arrived(mixpanel)) == [*"abcde"]


def test_once_says_what_is_left(mixpanel, track, worker):
    """Mixpanel is away: exit code 1, and all of it is still there."""
    mixpanel.stop()
    track(*"abc")
    code, output = worker("--once", "--timeout", "1").end()
    assert code == 1
    assert "3 still wait" in output
    mixpanel.start()
    assert worker("--once").end()[0] == 0
    assert sorted(arrived(mixpanel)) == [*"abc"]


def test_a_killed_worker_has_an_heir(mixpanel, track, worker):
    """What it had in hand, unanswered, is delivered by the next one."""
    mixpanel.chaos.set({"lost": 1})
    track(*"abc")
    first = worker()
    first.line()
    assert wait_until(lambda: received(mixpanel) == 3, PATIENCE_S)
    first.stop(signal.SIGKILL)
    before = received(mixpanel)
    mixpanel.chaos.set({})
    worker()
    assert wait_until(lambda: received(mixpanel) == before + 3, PATIENCE_S)
    assert sorted(arrived(mixpanel)) == [*"abc"]


def received(mixpanel):
    """Return how many records have come, repeated ones included."""
    return mixpanel.store.stats()["received"]


def test_two_workers_share_a_spool(mixpanel, track, worker):
    """Everything arrives once, whoever delivers it."""
    for started in (worker(), worker("--concurrency", "2")):
        started.line()
    names = [f"e{number}" for number in range(200)]
    track(*names)
    assert wait_until(lambda: sorted(arrived(mixpanel)) == sorted(names), PATIENCE_S)
    assert Inbox(mixpanel.url).stats()["duplicates"] == 0


def test_it_shows_metrics_and_health(track, worker):
    """On a free port of this machine."""
    started = worker("--metrics", "0")
    url = started.line().rpartition(" ")[2].removesuffix("/metrics")
    started.line()
    track("a")

    def read(path):
        with urllib.request.urlopen(url + path, timeout=PATIENCE_S) as response:
            return response.read().decode()

    assert wait_until(lambda: "mixpanel_visitor_requests_total 1.0" in read("/metrics"), PATIENCE_S)
    assert read("/healthz") == "ok\n"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--spool", "redis://"], "names no host"),
        (["--spool", "kafka://x"], "there is no kafka spool"),
        (["--concurrency", "0"], "range"),
    ],
)
def test_wrong_use_is_told(arguments, why):
    """Exit code 2."""
    result = CliRunner().invoke(main, ["worker", *arguments], env={"MIXPANEL_TOKEN": TOKEN})
    assert result.exit_code == 2
    assert why in result.output


def test_send_is_a_worker_that_ends(mixpanel, track, spool):
    """For cron and deployments: what waits is delivered."""
    track(*"abc")
    environment = {"MIXPANEL_TOKEN": TOKEN, "MIXPANEL_API_HOST": mixpanel.url}
    ended = subprocess.run(
        [sys.executable, "-m", "mixpanel_visitor", "send", "--spool", spool],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "3 records were delivered" in ended.stdout
    assert sorted(arrived(mixpanel)) == [*"abc"]


def test_send_says_what_is_left(tmp_path):
    """Exit code 1, and all of it is still there."""
    environment = {
        "MIXPANEL_TOKEN": TOKEN,
        "MIXPANEL_API_HOST": "http://127.0.0.1:9",
        "MIXPANEL_VISITOR_SPOOL": str(tmp_path / "spool"),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        with contextlib.closing(Tracker(secret_key="a-key-of-some-length", deliver=False)) as tracker:
            tracker.track("u-1", "a")
    ended = subprocess.run(
        [sys.executable, "-m", "mixpanel_visitor", "send", "--timeout", "0.5"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ended.returncode == 1
    assert "1 still wait" in ended.stdout


@pytest.mark.parametrize(
    ("missing", "arguments", "extra"),
    [
        ("prometheus_client", ["worker", "--spool", "DIR", "--metrics", "0"], "prometheus"),
        ("redis", ["worker", "--spool", "redis://127.0.0.1:9/0"], "redis"),
        ("redis", ["send", "--spool", "redis://127.0.0.1:9/0"], "redis"),
        ("redis", ["spool", "status", "--spool", "redis://127.0.0.1:9/0"], "redis"),
        ("redis", ["spool", "dead", "list", "--spool", "redis://127.0.0.1:9/0"], "redis"),
        ("crawlerdetect", ["worker", "--spool", "DIR"], "bots"),
    ],
)
def test_without_its_extra_a_command_says_how_to_install_it(tmp_path, missing, arguments, extra):
    """At its start, and without a traceback."""
    script = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from mixpanel_visitor.cli import main\nmain(sys.argv[1:])"
    )
    environment = {**os.environ, "MIXPANEL_TOKEN": TOKEN, "MIXPANEL_API_HOST": "http://127.0.0.1:9"}
    if extra == "bots":
        environment["MIXPANEL_VISITOR_BOT_DETECTOR"] = "crawlerdetect"
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            script,
            *(str(tmp_path / "s") if each == "DIR" else each for each in arguments),
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ended.returncode in (1, 2)
    assert f"pip install 'mixpanel-visitor[{extra}]'" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "Metrics are on" not in ended.stdout


def test_the_figures_of_several_spools_have_one_name(mixpanel, tmp_path):
    """And a label that tells them apart."""
    started = Worker(mixpanel, str(tmp_path / "a"), "--spool", str(tmp_path / "b"), "--metrics", "0")
    with started.process:
        try:
            url = started.line().rpartition(" ")[2]
            started.line()
            with urllib.request.urlopen(url, timeout=PATIENCE_S) as response:
                text = response.read().decode()
        finally:
            started.process.kill()
            started.process.communicate()
    for name in "ab":
        assert f'mixpanel_visitor_events_accepted_total{{tracker="{tmp_path}/{name}"}} 0.0' in text
    assert text.count("# TYPE mixpanel_visitor_events_accepted_total counter") == 1
