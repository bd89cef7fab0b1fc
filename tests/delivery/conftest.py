"""A real Redis for the spools of several machines."""

import pytest
from support.components import needs

NEEDED = needs("redis-server")


def pytest_runtest_setup(item):
    """Skip what needs Redis where it is missing: here, so that it is one line and not one for each test."""
    if {"redis_server"} & set(item.fixturenames) and NEEDED.args[0]:
        pytest.skip(NEEDED.kwargs["reason"])


@pytest.fixture(scope="session")
def redis_process(tmp_path_factory):
    """Give one Redis for all tests."""
    from support import redis_servers

    with redis_servers.running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_server(redis_process):
    """Give the Redis, empty."""
    with redis_process.client() as client:
        client.flushall()
    return redis_process
