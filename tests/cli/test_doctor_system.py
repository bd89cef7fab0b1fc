"""`mixpanel-visitor doctor` on the installation: versions, and servers that let no thread run."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.waiting import PATIENCE_S, wait_until

from mixpanel_visitor.cli.doctor.system import look_at_system, old_packages, threadless_servers

REQUIREMENTS = [
    "click>=8.1",
    "urllib3 >=2.2",
    "flask>=3.0; extra == 'flask'",
    'pytest>=8.3; extra == "dev"',
    "odd @ https://example.com/odd.zip",
]
UWSGI = shutil.which("uwsgi", path=str(Path(sys.executable).parent)) or "uwsgi"


@pytest.mark.parametrize(
    ("installed", "told"),
    [
        ({"click": "8.1.7", "urllib3": "2.2"}, []),
        ({"click": "9", "urllib3": "2.10.0rc1"}, []),
        ({"click": "8.1", "urllib3": "2.2.0", "pytest": "3"}, []),
        ({"click": "8.0.9", "urllib3": "2.2"}, ["click 8.0.9 is older than 8.1"]),
        ({"click": "8.1"}, ["urllib3 is not installed"]),
        ({"click": "8.1", "urllib3": "2.2", "flask": "2.3.3"}, ["flask 2.3.3 is older than 3.0"]),
    ],
)
def test_packages_that_are_missing_or_too_old_are_found(installed, told):
    """Those of extras only if they are there; those of the package's own development never."""
    findings = list(old_packages(REQUIREMENTS, installed.get))
    assert [finding.what for finding in findings] == told
    assert all(finding.level == "problem" and finding.fix.startswith("pip install") for finding in findings)


def test_the_versions_stand_in_the_report():
    """Whoever reads a report of trouble asks for them first."""
    told = [finding.what for finding in look_at_system() if finding.level == "ok"]
    assert len(told) == 1
    assert importlib.metadata.version("mixpanel-visitor") in told[0]
    assert "Python 3." in told[0]


@pytest.fixture
def proc(tmp_path):
    """A directory like /proc; give the function that starts a process there."""

    def start(pid, *words, environ="", ini=None):
        directory = tmp_path / "proc" / str(pid)
        directory.mkdir(parents=True)
        (directory / "cmdline").write_text("\0".join([*words, ""]))
        (directory / "environ").write_text(environ)
        (directory / "cwd").symlink_to(tmp_path)
        if ini is not None:
            (tmp_path / "site.ini").write_text(ini)
        return tmp_path / "proc"

    return start


INI = "[uwsgi]\nmodule = shop:app\nenv = A=1\nenv = B=%(x)\n"


@pytest.mark.parametrize(
    ("words", "options", "is_found"),
    [
        (["uwsgi", "--http", ":80"], {}, True),
        (["/usr/bin/uwsgi", "--processes=4"], {}, True),
        (["uwsgi", "--enable-threads"], {}, False),
        (["uwsgi", "-T"], {}, False),
        (["uwsgi", "--threads", "4"], {}, False),
        (["uwsgi", "--gevent=100"], {}, False),
        (["uwsgi", "--http", ":80"], {"environ": "HOME=/\0UWSGI_ENABLE_THREADS=1\0"}, False),
        (["uwsgi", "--ini", "site.ini"], {"ini": INI}, True),
        (["uwsgi", "--ini=site.ini"], {"ini": INI + "enable-threads = false\n"}, True),
        (["uwsgi", "site.ini"], {"ini": INI + "enable-threads = true\n"}, False),
        (["uwsgi", "site.ini"], {"ini": "[uwsgi]\nthreads = 2\n"}, False),
        (["uwsgi", "site.ini"], {"ini": "no ini file"}, False),
        (["uwsgi", "missing.ini"], {}, False),
        (["uwsgi", "--yaml", "site.yaml"], {}, False),
        (["/usr/bin/python3", "/usr/bin/uwsgi_python3", "--http", ":80"], {}, True),
        (["python", "uwsgi.py"], {}, False),
        (["tail", "-f", "uwsgi"], {}, False),
    ],
)
def test_a_uwsgi_without_threads_is_found(proc, words, options, is_found):
    """There the thread that delivers stands still; what cannot be read for sure is left alone."""
    found = list(threadless_servers(proc(17, *words, **options), {}.get))
    assert [finding.what for finding in found] == ["uWSGI runs without threads (process 17)"] * is_found


def test_where_nothing_can_be_read_nothing_is_found(proc, tmp_path):
    """Other users' processes, those that have ended, and systems without /proc."""
    (proc(17, "uwsgi") / "17" / "cmdline").unlink()
    (tmp_path / "proc" / "18").mkdir()
    assert list(threadless_servers(tmp_path / "proc", {}.get)) == []
    assert list(threadless_servers(tmp_path / "none", {}.get)) == []


@pytest.mark.parametrize(
    ("package", "version", "is_found"),
    [
        ("uwsgi", "2.0.26", True),
        ("pyuwsgi", "2.0.27", False),
        ("pyuwsgi", "2.0.30.post1", False),
        ("uwsgi", "2.1", False),
    ],
)
def test_a_later_uwsgi_lets_threads_run_unasked(proc, package, version, is_found):
    """Since 2.0.27."""
    found = list(threadless_servers(proc(17, "uwsgi"), {package: version}.get))
    assert len(found) == is_found


@pytest.mark.servers
@pytest.mark.skipif(
    not Path("/proc/self").is_dir() or (not Path(UWSGI).exists() and not os.environ.get("CI")),
    reason="needs /proc and uwsgi",
)
@pytest.mark.parametrize("threads", [[], ["--enable-threads"]])
def test_a_real_uwsgi_is_recognised(threads):
    """By its process, if it were an old one."""
    command = [UWSGI, "--socket", "127.0.0.1:0", "--need-app=0", *threads]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        cmdline = Path(f"/proc/{process.pid}/cmdline")
        assert wait_until(lambda: UWSGI.encode() in cmdline.read_bytes(), PATIENCE_S)
        told = " ".join(finding.what for finding in threadless_servers(Path("/proc"), {}.get))
        assert (str(process.pid) in re.findall(r"[0-9]+", told)) == (not threads)
    finally:
        process.kill()
        process.wait(10)
