"""A Redis of one's own, and machines that use it."""

import contextlib

import pytest
from support.redis_machines import Machine


@pytest.fixture
def server(tmp_path):
    """Return a Redis of one's own."""
    from support import redis_servers

    with redis_servers.running(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def machine(server, tmp_path):
    """Return machines that use the server."""
    with contextlib.ExitStack() as closing:

        def machine(name="host", query="", *, later_s=0, waits=False):
            made = Machine(server, tmp_path / name, query, later_s=later_s, waits=waits)
            closing.callback(made.spool.close)
            return made

        yield machine
