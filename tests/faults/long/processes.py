"""What the parts share: processes that end with the block, requests to them, results."""

from __future__ import annotations

import contextlib
import http.client
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
TESTS = HERE.parent.parent
sys.path.insert(0, str(TESTS))

from support.mutants import python_path  # noqa: E402  # needs the path of the line above
from support.waiting import wait_until  # noqa: E402

TOKEN = "long"
KEY = "a-key-of-some-length"


@dataclass(frozen=True, slots=True)
class Result:
    """A part's outcome: the rows of its table, and what has missed its goal."""

    part: str
    columns: tuple[str, ...]
    rows: list[tuple[object, ...]]
    missed: list[str] = field(default_factory=list)

    def table(self) -> str:
        """Write it as Markdown."""
        lines = [self.columns, ("---",) * len(self.columns), *self.rows]
        text = "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
        return text + ("\n\nMissed: " + "; ".join(self.missed) + "." if self.missed else "")


def say(line: str) -> None:
    """Tell whoever watches the run."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


@contextlib.contextmanager
def running(*arguments: object, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run Python with these arguments, ended with the block."""
    environment = options.pop("env", {})
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": python_path(HERE, TESTS), **environment},
        **options,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@contextlib.contextmanager
def counting(directory: Path, *options: str) -> Iterator[int]:
    """Run the counting Mixpanel; give its port."""
    port_file = directory / "port"
    with running(HERE / "counting.py", port_file, *options):
        if not wait_until(port_file.exists, 20):
            raise RuntimeError("the counting server did not start")
        yield int(port_file.read_text())


def ask(port: int, path: str, content: object = None, *, timeout_s: float = 120) -> Any:
    """Ask the counting Mixpanel: POST with content, otherwise GET."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    with contextlib.closing(connection):
        if content is None:
            connection.request("GET", path)
        else:
            connection.request("POST", path, orjson.dumps(content))
        return orjson.loads(connection.getresponse().read())


def percentile(values: list[float], share: float) -> float:
    """Return the value that `share` of all are not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
