"""A real RabbitMQ on free ports of this machine, where one is installed."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from .redis_servers import free_port
from .waiting import PATIENCE_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""Debian's, which runs as the user who calls it."""


@contextlib.contextmanager
def running(directory: Path) -> Iterator[str]:
    """Run one for a while, with its files in `directory`; gives its address, for Celery."""
    port, distribution_port = free_port(), free_port()
    home = directory / "home"
    home.mkdir(parents=True)
    plugins = directory / "plugins"
    plugins.write_text("[].")
    log_path = directory / "log"
    environment = {
        "HOME": str(home),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODENAME": f"test{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(distribution_port),
        "RABBITMQ_MNESIA_BASE": str(directory / "data"),
        "RABBITMQ_LOG_BASE": str(directory),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
        # No daemon that knows the nodes of this machine, and outlives them.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-start_epmd false -erl_epmd_port {distribution_port} "
        "-kernel inet_dist_use_interface {127,0,0,1}",
    }
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [str(SERVER)],
            env={**os.environ, **environment},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def is_up() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as peer:
            peer.settimeout(5)
            peer.sendall(b"AMQP\x00\x00\x09\x01")
            return len(peer.recv(1)) == 1
        return False

    try:
        started = wait_until(lambda: process.poll() is not None or is_up(), PATIENCE_S)
        assert started, log_path.read_text(errors="replace")
        assert process.poll() is None, log_path.read_text(errors="replace")
        yield f"amqp://guest:guest@127.0.0.1:{port}//"
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
