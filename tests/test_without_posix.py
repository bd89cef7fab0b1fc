"""A system without file locks, forks and POSIX signals, as Windows is: what works there, and what is refused.

Nobody can run Windows here; `support/without_posix` hides from Python what it has not there.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.components import needs
from support.mutants import python_path
from support.trackers import SECRET_KEY
from support.waiting import PATIENCE_S

from mixpanel_visitor.emulator import LocalMixpanel

TESTS = Path(__file__).parent
PLAN = """
from dataclasses import dataclass
from mixpanel_visitor.plan import Plan

plan = Plan()


@plan.event("Signed up")
@dataclass
class SignedUp:
    seats: int = 1
"""
APPLICATION = """
import sys
from mixpanel_visitor import SettingsError, Tracker

settings = {"token": "t", "secret_key": "a-key-of-some-length", "api_host": sys.argv[1]}
tracker = Tracker(**settings)
Tracker(**settings)
tracker.track("somebody", "E")
print(tracker.flush(30), tracker.stats()["delivered"], tracker.close(30))
for spool in ("C:/spool", "file:///C:/spool"):
    try:
        Tracker(**settings, spool=spool)
    except SettingsError as error:
        print("WSL" in str(error))
"""


def environment(**more):
    """Return that of a process in which all this is hidden."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MIXPANEL")}
    return {**kept, "PYTHONPATH": python_path(TESTS / "support" / "without_posix"), **more}


def python(*arguments, cwd=None, **more):
    """Run Python there to its end."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=environment(**more),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE_S,
        check=False,
    )


def command(*arguments, cwd=None, **more):
    """Run a command there to its end; return its code and all that it prints."""
    settings = {"MIXPANEL_TOKEN": "t" * 32, "MIXPANEL_VISITOR_SECRET_KEY": SECRET_KEY * 2, **more}
    done = python("-m", "mixpanel_visitor", *arguments, cwd=cwd, **settings)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout + done.stderr


def test_it_hides_for_real():
    """From the test process's children, and from theirs."""
    look = "import os, signal; print(*(hasattr(os, 'fork'), hasattr(signal, 'SIGKILL')))\nimport fcntl"
    again = f"import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', {look!r}]).returncode)"
    for code in (look, again):
        done = python("-c", code)
        assert (done.returncode, done.stdout.split()) == (1, ["False", "False"])
        assert "fcntl" in done.stderr


def test_events_wait_in_memory():
    """The package delivers, with one warning; a directory is refused with the fix, as a path and as a URL."""
    with LocalMixpanel() as mixpanel:
        done = python("-c", APPLICATION, mixpanel.url)
    assert done.stdout.split() == ["True", "1", "True", "True", "True"], done.stdout + done.stderr
    assert done.stderr.count("Events wait in memory") == 1


def test_every_scenario_in_this_process_comes_out_the_same(tmp_path):
    """The scenario suite, under each harness that starts no server."""
    done = python(
        *("-m", "pytest", "scenarios", "-q", "-m", "not servers", "-p", "no:cacheprovider", "-p", "no:xdist"),
        *("-p", "no:platformdirs"),  # of a development tool: it asks for POSIX
        *("-k", "not pyramid"),  # what it imports takes a system without Windows' name for one with users
        *("--rootdir", TESTS.parent, "-c", TESTS.parent / "pyproject.toml", "--basetemp", tmp_path / "there"),
        cwd=TESTS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


@pytest.mark.servers
def test_dev_takes_events_until_it_is_told_to_end():
    """Without the POSIX calls that wait for a signal."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mixpanel_visitor", "dev", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    with process:
        try:
            url = process.stdout.readline().split()[-1].rstrip("/")
            assert "1 True" in python("-c", APPLICATION.replace("print(", "print(1, "), url).stdout
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=PATIENCE_S)
        finally:
            if process.poll() is None:
                process.kill()
    assert process.returncode == 0, errors
    assert "Stopped. Events received: 1; refused: 0." in output


@pytest.mark.servers
def test_demo_walks_through_its_shop():
    """The shop is a process of its own, which takes its port by number, and keeps its events in memory."""
    code, output = command("demo", "--once")
    assert code == 0, output
    assert "All events arrived, under one visitor ID." in output


def test_version():
    """The smallest one."""
    assert command("version")[0] == 0


def test_a_plan_is_checked_and_exported(tmp_path):
    """It needs nothing of the system."""
    (tmp_path / "shop.py").write_text(PLAN)
    assert command("plan", "check", "shop:plan", cwd=tmp_path)[0] == 0
    assert "Signed up" in command("plan", "export", "shop:plan", cwd=tmp_path)[1]


def test_doctor_names_what_can_be_had_there():
    """A directory cannot."""
    with LocalMixpanel() as mixpanel:
        code, output = command("doctor", MIXPANEL_API_HOST=mixpanel.url)
    assert code == 0, output
    assert "the spool is in memory [W070]" in output
    assert "run it in WSL, take a Redis" in output
    assert "to a directory" not in output


@pytest.mark.parametrize(
    "arguments",
    [
        ("doctor", "--spool", "C:/spool"),
        ("spool", "status", "--spool", "file:///C:/spool"),
        ("spool", "dead", "list", "--spool", "spool"),
        ("send", "--spool", "~/spool"),
        ("worker", "--once", "--spool", "spool"),
        ("dev", "--keep", "there"),
    ],
    ids=" ".join,
)
def test_what_needs_file_locks_is_refused_with_the_fix(arguments, tmp_path):
    """As a mistake in the command, and nothing is made on the disk."""
    code, output = command(*arguments, cwd=tmp_path)
    assert code == 2, output
    assert "WSL" in output
    assert list(tmp_path.iterdir()) == []


@needs("redis-server")
@pytest.mark.servers
def test_a_redis_is_delivered_and_looked_at(tmp_path):
    """Its spool has no journal beside it there."""
    from support import redis_servers

    with redis_servers.running(tmp_path) as server, LocalMixpanel() as mixpanel:
        more = {"MIXPANEL_VISITOR_SPOOL": server.url, "MIXPANEL_API_HOST": mixpanel.url}
        track = "import mixpanel_visitor as it; t = it.Tracker(deliver=False); t.track('u', 'E'); t.close()"
        settings = {"MIXPANEL_TOKEN": "t" * 32, "MIXPANEL_VISITOR_SECRET_KEY": SECRET_KEY}
        assert python("-c", track, **more, **settings).returncode == 0
        code, output = command("spool", "status", **more)
        assert "waiting       1 record," in output
        code, output = command("send", "--timeout", "20", **more)
        assert (code, [event.name for event in mixpanel.store.events()]) == (0, ["E"]), output
        assert command("spool", "dead", "list", **more)[0] == 0
        assert "answers" in command("doctor", **more)[1]
    code, output = command("doctor", **more)
    assert (code, "every event is refused" in output) == (1, True), output
