"""What the tests of the spools share: clocks that stand still, records, and other interpreters."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixpanel_visitor.delivery.journal import Journal, frames
from mixpanel_visitor.records import Record

from .waiting import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mixpanel_visitor.delivery.spool import Spool
    from mixpanel_visitor.records import Endpoint

START_S = 1_763_934_567.890
ALL = 10**9
TESTS = Path(__file__).parent.parent


def _fork_by_libc() -> int:
    """Fork as C code does, of which Python does not know.

    A thread that has waited for the interpreter for the switch interval asks the one that has it to let go. A
    child that was asked just before the fork would wait for that thread for ever (CPython, `drop_gil`).
    """
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(600)
    try:
        time.sleep(2 * interval_s)  # for who waits already, by the interval of before
        return ctypes.PyDLL(None).fork()
    finally:
        sys.setswitchinterval(interval_s)


forks = {"os": os.fork, "libc": _fork_by_libc}
"""Two ways to fork; Python's own hooks know only of the first."""


class Clock:
    """Wall clock and monotonic clock in one; both move only when told to."""

    def __init__(self) -> None:
        self.wall_s = START_S
        self.monotonic_s = 1000.0

    def time(self) -> float:
        """Wall clock."""
        return self.wall_s

    def monotonic(self) -> float:
        """Monotonic clock."""
        return self.monotonic_s

    def tick(self, seconds: float) -> None:
        """Let time pass."""
        self.wall_s += seconds
        self.monotonic_s += seconds


def open_journal(directory: Path, clock: Clock | None = None, **options: Any) -> Journal:
    """Open a journal with the test's clock."""
    clock = clock or Clock()
    return Journal(directory, clock=clock.time, monotonic=clock.monotonic, **options)


def event(name: object) -> Record:
    """Make a record for /import."""
    return Record("import", f'{{"event":"{name}"}}'.encode())


def profile(name: object) -> Record:
    """Make a record for /engage."""
    return Record("engage", f'{{"$set":"{name}"}}'.encode())


def names(bodies: Any) -> list[str]:
    """Return the names back that `event` and `profile` were given."""
    return [body.split(b'"')[3].decode() for body in bodies]


def claims(spool: Spool, endpoint: Endpoint = "import", max_records: int = 2000) -> Iterator[Any]:
    """Claim until nothing is left."""
    while (claim := spool.claim(endpoint, max_records, ALL)) is not None:
        yield claim


def waiting(spool: Spool, endpoint: Endpoint = "import") -> list[str]:
    """Return the names of all that can be claimed, and put it back."""
    found = list(claims(spool, endpoint))
    for claim in found:
        spool.release(claim, range(len(claim)))
    return [name for claim in found for name in names(claim.bodies)]


def deliver(spool: Spool, endpoint: Endpoint = "import") -> list[str]:
    """Claim and acknowledge everything; give its names."""
    delivered = []
    for claim in claims(spool, endpoint):
        delivered += names(claim.bodies)
        spool.ack(claim, range(len(claim)))
    return delivered


def balanced(spool: Spool) -> bool:
    """Whether what was put is all accounted for."""
    counts = spool.counts()
    return counts.written == counts.delivered + counts.dead_lettered + counts.pending + counts.lost


def segments(directory: Path) -> list[Path]:
    """Return the segments in a directory, oldest first."""
    return sorted(directory.glob("*.seg"))


def frame_size(record: Record) -> int:
    """Return the size of a record on disk."""
    return frames.HEADER_BYTES + len(record.body) + 1


def start_python(script: str, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    """Run a script in an interpreter of its own; it can import from `support`."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def run_python(script: str, *arguments: object, **options: Any) -> str:
    """Run a script to its end, which must be a good one; give what it has printed."""
    with start_python(script, *arguments, **options) as process:
        printed, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, errors
    assert not errors
    return printed.strip()


def leave_behind(directory, records, *, rest=b"", name="0000000000000001-dead-1-0-1.seg"):
    """Write what a process leaves that was killed."""
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_bytes(frames.encode(records, 1) + rest)
    return path


def put_until(kind, journal, record, message):
    """Put a record again and again until that is refused; return how often it was not."""
    for count in range(1000):
        try:
            journal.put([record])
        except kind as error:
            if message not in str(error):
                raise
            return count
    raise AssertionError("it was never refused")
