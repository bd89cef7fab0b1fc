"""Rows 29 and 31 over a network: hosts, Redis and a worker on machines of their own, whose cables are pulled.

Network namespaces are the machines and a bridge is the switch, so this needs root and `ip`. Nothing of it can
reach another network.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from processes import HERE, TESTS, TOKEN, Result, say
from support.mutants import python_path
from support.waiting import wait_until

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

SECONDS = 60
PER_SECOND = 1_000
DELIVER_S = 240.0
MACHINES = ("one", "two", "redis", "worker")
COLUMNS = (
    *("seconds", "cables pulled", "accepted events", "of them through journals", "lost", "altered"),
    *("surviving dedupe", "delivered again", "seconds until all had arrived", "seed"),
)

_ASK = """
import sys; from processes import ask
print(__import__("json").dumps(ask(int(sys.argv[1]), sys.argv[2], __import__("json").loads(sys.argv[3]))))
"""


class Network:
    """A switch, and a machine for each name, at 10.77.0.1 and so on; both known to nobody else."""

    def __init__(self) -> None:
        self._tag = f"mpv{os.getpid()}"
        self.addresses = {name: f"10.77.0.{number}" for number, name in enumerate(MACHINES, 1)}

    def __enter__(self) -> Self:
        self._ip("netns", "add", f"{self._tag}-switch")
        self._ip("-n", f"{self._tag}-switch", "link", "add", "bridge", "type", "bridge")
        self._ip("-n", f"{self._tag}-switch", "link", "set", "bridge", "up")
        for name, address in self.addresses.items():
            machine, switch = f"{self._tag}-{name}", f"{self._tag}-switch"
            self._ip("netns", "add", machine)
            self._ip("-n", machine, "link", "set", "lo", "up")
            self._ip(
                "-n", machine, "link", "add", "eth0", "type", "veth", "peer", "name", name, "netns", switch
            )
            self._ip("-n", machine, "addr", "add", f"{address}/24", "dev", "eth0")
            self._ip("-n", machine, "link", "set", "eth0", "up")
            self._ip("-n", switch, "link", "set", name, "master", "bridge", "up")
        return self

    def __exit__(self, *_: object) -> None:
        for name in ("switch", *MACHINES):
            subprocess.run(
                ["ip", "netns", "del", f"{self._tag}-{name}"], check=False, stderr=subprocess.DEVNULL
            )

    def pull(self, name: str) -> None:
        """Pull the cable of a machine."""
        self._ip("-n", f"{self._tag}-switch", "link", "set", name, "down")

    def plug(self, name: str) -> None:
        """Put it back."""
        self._ip("-n", f"{self._tag}-switch", "link", "set", name, "up")

    def start(self, machine: str, *command: object, **options: Any) -> subprocess.Popen[str]:
        """Start a program on a machine."""
        environment = {**os.environ, "PYTHONPATH": python_path(HERE, TESTS), **options.pop("env", {})}
        return subprocess.Popen(
            ["ip", "netns", "exec", f"{self._tag}-{machine}", *map(str, command)],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            **options,
        )

    def _ip(self, *words: str) -> None:
        subprocess.run(["ip", *words], check=True)


@contextlib.contextmanager
def ending(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """Kill it with the block."""
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def run(options: Namespace) -> Result:
    """Track on two hosts while cables are pulled; then see what has arrived."""
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("redis-server") is None:
        say("network: left out, it needs root, `ip` and redis-server")
        return Result("network", COLUMNS, [])
    chance = random.Random(options.seed)
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mpv-")))
        network = stack.enter_context(Network())
        address = network.addresses["redis"]
        stack.enter_context(ending(network.start("redis", *_redis(directory, address))))
        port_file = directory / "port"
        stack.enter_context(ending(network.start("worker", sys.executable, HERE / "counting.py", port_file)))
        assert wait_until(port_file.exists, 20), "the counting server did not start"
        port = port_file.read_text()

        def ask(path: str, content: object) -> Any:
            asking = network.start("worker", sys.executable, "-c", _ASK, port, path, json.dumps(content))
            return json.loads(asking.communicate(timeout=60)[0])

        def url(name: str) -> str:
            return f"redis://{address}:6379/0?idle_s=5&journal={directory}/{name}"

        worker = network.start(
            *("worker", sys.executable, "-m", "mixpanel_visitor", "worker"),
            *("--spool", url("worker"), "--concurrency", "2"),
            env={"MIXPANEL_TOKEN": TOKEN, "MIXPANEL_API_HOST": f"http://127.0.0.1:{port}"},
        )
        stack.enter_context(ending(worker))
        script = HERE / "network_host.py"
        hosts = [
            stack.enter_context(
                ending(network.start(name, sys.executable, script, url(name), number, SECONDS, PER_SECOND))
            )
            for number, name in enumerate(("one", "two"))
        ]
        cuts = _pull_cables(network, chance)
        told = [host.communicate(timeout=DELIVER_S)[0].split() for host in hosts]
        healed_s = time.monotonic()
        accepted = {str(number): int(words[0]) for number, words in enumerate(told)}
        left = [host.returncode for host in hosts]
        found: dict[str, int] = {}

        def all_is_there() -> bool:
            found.update(ask("/verify", accepted))
            return found["lost"] == 0

        wait_until(all_is_there, DELIVER_S)
        took_s = time.monotonic() - healed_s
        running = worker.poll() is None
    total = sum(accepted.values())
    row = (
        *(SECONDS, cuts, total, sum(int(words[1]) for words in told), found["lost"], found["altered"]),
        *(found["surviving"], found["redelivered"], f"{took_s:.1f}", options.seed),
    )
    missed = [f"{found[name]} {name}" for name in ("lost", "altered", "surviving") if found[name]]
    missed += [] if running else ["the worker ended"]
    missed += ["something was left on a host"] if any(left) else []
    return Result("network", COLUMNS, [row], missed)


def _redis(directory: Path, address: str) -> list[str]:
    place = directory / "redis"
    place.mkdir()
    settings = {"bind": address, "protected-mode": "no", "dir": str(place), "appendonly": "yes", "save": ""}
    return ["redis-server", *(word for name, value in settings.items() for word in (f"--{name}", value))]


def _pull_cables(network: Network, chance: random.Random) -> int:
    """Pull one or two at a time, for a moment or for some seconds; give how often."""
    cuts, ends_s = 0, time.monotonic() + SECONDS
    while time.monotonic() < ends_s:
        time.sleep(chance.uniform(0.2, 2.0))
        names = chance.sample(MACHINES, chance.choice((1, 1, 2)))
        for name in names:
            network.pull(name)
        time.sleep(chance.choice((chance.uniform(0.05, 0.5), chance.uniform(1, 8))))
        for name in names:
            network.plug(name)
        cuts += len(names)
    return cuts
