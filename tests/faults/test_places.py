"""Places where a spool cannot be: the application goes on, refused events are counted, the log says why."""

import contextlib
import json
import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from support.journals import start_python
from support.waiting import PATIENCE_S

SCRIPT = r"""
import json, logging, os, sys, tempfile
from support.waiting import PATIENCE_S, wait_until
from mixpanel_visitor import Tracker



def begin(spool):
    return Tracker(token="places", secret_key="a-key-of-some-length", spool=spool, deliver=False)


with tempfile.TemporaryDirectory() as elsewhere:
    tracker = begin(elsewhere)  # so that all is imported: nobody may not be allowed to read that
    tracker.track("somebody", "Warm")
    tracker.close()
logging.basicConfig(stream=sys.stdout, format="%(message)s")
tracker = begin(sys.argv[1])
if sys.argv[2] == "nobody":
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
for number in range(3):
    tracker.track("somebody", f"Refused {number}")
stats = tracker.stats()
print(json.dumps([stats["refused"], stats["spool"]["pending"]]), flush=True)
if sys.stdin.readline():
    kept = lambda: tracker.track("somebody", "Kept") or tracker.stats()["spool"]["pending"]
    assert wait_until(kept, PATIENCE_S)
    print(json.dumps(tracker.stats()["refused"]["spool_unavailable"] >= 3))
tracker.close()
"""


def figures(process):
    """What the process says, up to and with its next figures."""
    said = []
    for line in process.stdout:
        with contextlib.suppress(ValueError):
            return "".join(said), json.loads(line)
        said.append(line)
    raise AssertionError(process.stderr.read())


def check(spool, fix, mend=None, user="root"):
    """Three events are refused with a reason and the `fix`; once it is mended, events are kept."""
    with start_python(SCRIPT, spool, user, stdin=subprocess.PIPE) as process:
        try:
            said, (refused, pending) = figures(process)
            assert (refused, pending) == ({"spool_unavailable": 3}, 0)
            assert str(spool) in said
            assert fix in said
            assert "Traceback" not in said
            if mend is not None:
                mend()
                process.stdin.write("\n")
                process.stdin.flush()
                assert figures(process)[1] is True
            _, errors = process.communicate(timeout=PATIENCE_S)
            assert (process.returncode, errors) == (0, "")
        finally:
            process.kill()


def test_a_place_where_nothing_can_be_made():
    """No directory can be made there, whoever asks."""
    check("/proc/mixpanel-visitor/spool", "that this process may write there")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_directory_of_somebody_else():
    """The service runs under another user than the one who made the directory."""
    with tempfile.TemporaryDirectory() as temporary:  # pytest's own are closed to others further up
        Path(temporary).chmod(0o711)
        spool = Path(temporary, "spool")
        spool.mkdir(mode=0o700)
        fix = "See that this process may read and write there."
        check(spool, fix, lambda: spool.chmod(0o777), user="nobody")


@pytest.fixture
def read_only(tmp_path):
    """A directory on a volume that is mounted to be read only, and what makes it writable."""
    volume = tmp_path / "volume"
    (volume / "spool").mkdir(parents=True)

    def mount(*options):
        return subprocess.run(["mount", *options, volume], check=False, capture_output=True).returncode == 0

    if not (mount("--bind", volume) and mount("-o", "remount,bind,ro")):
        pytest.skip("mounting is not allowed here")
    yield volume / "spool", lambda: mount("-o", "remount,bind,rw")
    subprocess.run(["umount", volume], check=True)


def test_a_volume_that_is_read_only(read_only):
    """So a file system ends up after an error, until somebody mounts it anew."""
    spool, mend = read_only
    check(spool, "It is mounted read-only: mount it for writing", mend)
