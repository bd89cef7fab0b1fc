"""A real server with our application, asked and looked at from outside."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from processes import KEY, TOKEN, running
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVERS = {
    "gunicorn gthread": (
        *("-m", "gunicorn", "--bind", "fd://{fd}", "--workers", "1", "--worker-class", "gthread"),
        *("--threads", "4", "--log-level", "warning", "app:wsgi_app"),
    ),
    "uvicorn": ("-m", "uvicorn", "--fd", "{fd}", "--log-level", "warning", "app:asgi_app"),
}
_BROWSER = {
    "Connection": "close",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
}


class Site:
    """A running server and a client of it."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self._port = port
        self.failures = 0
        self.seconds: list[float] = []

    def get(self, path: str = "/") -> bytes:
        """Ask for one page; failures are counted."""
        # A connection each: on a kept one, Nagle and delayed acknowledgements cost 40 ms now and then.
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        began_s = time.perf_counter()
        try:
            with contextlib.closing(connection):
                connection.request("GET", path, headers=_BROWSER)
                answer = connection.getresponse()
                body = answer.read()
        except (OSError, http.client.HTTPException):
            self.failures += 1
            return b""
        self.seconds.append(time.perf_counter() - began_s)
        self.failures += answer.status != 200
        return body

    def stats(self) -> dict[str, Any]:
        """Return the counters of the application's tracker."""
        stats: dict[str, Any] = json.loads(self.get("/stats"))
        self.seconds.pop()
        return stats

    def rss_mb(self) -> float:
        """Return the memory of the server and its workers."""
        pid = self.process.pid
        pids = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
        statuses = [Path(f"/proc/{each}/status").read_text() for each in pids]
        found = [re.search(r"VmRSS:\s+(\d+) kB", status) for status in statuses]
        return sum(int(match[1]) for match in found if match) / 1024

    def forget(self) -> None:
        """Forget what was measured so far."""
        self.failures = 0
        self.seconds = []

    def end(self) -> float:
        """SIGTERM; give the seconds until it was gone."""
        began_s = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            return float("inf")
        return time.monotonic() - began_s


@contextlib.contextmanager
def site(server: str, directory: Path, mixpanel_port: int, *, enabled: bool = True) -> Iterator[Site]:
    """Run a server with our application; its spool and its log are in `directory`."""
    directory.mkdir(exist_ok=True)
    with socket.socket() as listener, (directory / "log").open("wb") as log:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        fd = listener.fileno()
        environment = {
            "HOME": str(directory),
            "MIXPANEL_TOKEN": TOKEN,
            "MIXPANEL_API_HOST": f"http://127.0.0.1:{mixpanel_port}",
            "MIXPANEL_VISITOR_SECRET_KEY": KEY,
            "MIXPANEL_VISITOR_SPOOL": str(directory / "spool"),
            "MIXPANEL_VISITOR_ENABLED": str(enabled).lower(),
        }
        arguments = [part.format(fd=fd) for part in SERVERS[server]]
        with running(*arguments, env=environment, pass_fds=[fd], stdout=log, stderr=log) as process:
            started = Site(process, listener.getsockname()[1])
            if not wait_until(lambda: process.poll() is not None or started.get("/stats") != b"", 30):
                raise RuntimeError(f"{server} did not start")
            if process.poll() is not None:
                raise RuntimeError(f"{server} did not start:\n{(directory / 'log').read_text()}")
            started.forget()
            try:
                yield started
            finally:
                if process.poll() is None:
                    started.end()
