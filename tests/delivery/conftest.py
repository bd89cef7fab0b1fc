"""Real Redis servers for the spool of several machines: alone, as a cluster, and watched by a sentinel."""

import pytest
from support.components import needs

NEEDED = needs("redis-server")
KINDS = ("redis", "redis-cluster", "redis-sentinel")


@pytest.fixture(scope="session")
def redis_alone(tmp_path_factory):
    """Give the address of one Redis, and all servers behind it."""
    from support import redis_servers

    with redis_servers.running(tmp_path_factory.mktemp("redis")) as server:
        yield server.url, [server]


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory):
    """Give the address of three that are one."""
    from support import redis_servers

    with redis_servers.cluster(tmp_path_factory.mktemp("cluster")) as nodes:
        yield f"redis+cluster://127.0.0.1:{nodes[0].port}?partitions=4", nodes


@pytest.fixture(scope="session")
def redis_sentinel(tmp_path_factory):
    """Give the address of a pair with a sentinel."""
    from support import redis_servers

    with redis_servers.watched_pair(tmp_path_factory.mktemp("sentinel")) as (url, primary, _):
        yield url, [primary]


@pytest.fixture
def redis_url(request):
    """Give the address of an empty Redis of some kind."""

    def redis_url(kind):
        if NEEDED.args[0]:
            pytest.skip(NEEDED.kwargs["reason"])
        fixture = {"redis": "redis_alone"}.get(kind, kind.replace("-", "_"))
        url, servers = request.getfixturevalue(fixture)
        for server in servers:
            with server.client() as client:
                client.flushall()
        return url

    return redis_url
