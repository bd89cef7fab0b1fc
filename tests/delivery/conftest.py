"""Real Redis servers for the spool of several machines: alone, as a cluster, and watched by a sentinel."""

import contextlib

import pytest
from support.components import needs
from support.journals import Clock, open_journal
from support.scripted_server import ScriptedServer
from support.sending import Rig

from mixpanel_visitor.delivery.sending.http_client import MixpanelAPI, Timeouts

NEEDED = needs("redis-server")
KINDS = ("redis", "redis-cluster", "redis-sentinel")


@pytest.fixture(scope="session")
def redis_alone(tmp_path_factory):
    """Return the address of one Redis, and all servers behind it."""
    from support import redis_servers

    with redis_servers.running(tmp_path_factory.mktemp("redis")) as server:
        yield server.url, [server]


@pytest.fixture
def client(redis_alone):
    """Return a client of the test's own."""
    with redis_alone[1][0].client() as client:
        yield client


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory):
    """Return the address of three that are one."""
    from support import redis_servers

    with redis_servers.cluster(tmp_path_factory.mktemp("cluster")) as nodes:
        yield f"redis+cluster://127.0.0.1:{nodes[0].port}?partitions=4", nodes


@pytest.fixture(scope="session")
def redis_sentinel(tmp_path_factory):
    """Return the address of a pair with a sentinel."""
    from support import redis_servers

    with redis_servers.watched_pair(tmp_path_factory.mktemp("sentinel")) as (url, primary, _):
        yield url, [primary]


@pytest.fixture
def redis_url(request):
    """Return the address of an empty Redis of some kind."""

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


@pytest.fixture
def clock():
    """Return a clock that stands still."""
    return Clock()


@pytest.fixture
def directory(tmp_path):
    """Return the path of a directory that does not exist yet."""
    return tmp_path / "spool"


@pytest.fixture
def open_spool(directory, clock):
    """Return a function that opens journals in the directory; all are closed in the end."""
    opened = []

    def open_one(**options):
        opened.append(open_journal(directory, clock, **options))
        return opened[-1]

    yield open_one
    for journal in opened:
        journal.close()


@pytest.fixture
def journal(open_spool):
    """Return a journal with the usual bounds."""
    return open_spool()


@pytest.fixture
def rig() -> Rig:
    """A fresh sender."""
    return Rig()


@pytest.fixture
def serve():
    """Start scripted servers, and end them with the test."""
    with contextlib.ExitStack() as stack:

        def start(*scenes, context=None) -> ScriptedServer:
            server = ScriptedServer(*scenes, context=context)
            stack.callback(server.close)
            return server

        yield start


@pytest.fixture
def connect():
    """Make clients, and close them with the test."""
    with contextlib.ExitStack() as stack:

        def make(url: str, token="the-token", service_account=None, **options) -> MixpanelAPI:
            options.setdefault("timeouts", Timeouts(connect_s=5.0, read_s=5.0, total_s=10.0))
            api = MixpanelAPI(url, token, service_account, **options)
            stack.callback(api.close)
            return api

        yield make
