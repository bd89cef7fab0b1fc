"""The commands, and a spool in Redis."""

import json

import pytest
from click.testing import CliRunner
from support.components import needs
from support.journals import event

from mixpanel_visitor.cli import main
from mixpanel_visitor.delivery.opening import open_spool, project_of

pytestmark = [needs("redis-server"), pytest.mark.servers]
TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Give a Redis."""
    from support import redis_servers

    with redis_servers.running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def url(server, tmp_path):
    """Give its address, with nothing in it."""
    with server.client() as client:
        client.flushall()
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("appendonly", "yes")
    return f"{server.url}?fallback={tmp_path}/here"


def run(*arguments, spool):
    """Run a command with this spool in the environment."""
    environment = {
        "MIXPANEL_TOKEN": TOKEN,
        "MIXPANEL_API_HOST": "http://127.0.0.1:9",
        "MIXPANEL_VISITOR_SPOOL": spool,
        "MIXPANEL_VISITOR_SECRET_KEY": "a-key-of-some-length-and-more-of-it",
    }
    return CliRunner().invoke(main, arguments, env=environment)


def test_status_tells_what_waits(url):
    """Of the project that the environment names."""
    spool = open_spool(url, project=project_of(TOKEN))
    spool.put([event(1), event(2)])
    spool.close()
    result = run("spool", "status", "--json", spool=url)
    found = json.loads(result.output)
    assert (result.exit_code, found["waiting"], found["dead_letters"], found["findings"]) == (0, 2, 0, [])
    assert "waiting       2 records" in run("spool", "status", spool=url).output


def test_status_and_doctor_tell_what_would_lose_events(server, url):
    """With the fix, and exit code 1."""
    with server.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    for arguments in (("spool", "status"), ("doctor",)):
        result = run(*arguments, spool=url)
        assert result.exit_code == 1
        assert "maxmemory-policy is allkeys-lru" in result.output
        assert "set maxmemory-policy noeviction" in result.output


def test_a_worker_does_not_start_on_it(server, url):
    """It would deliver, but what is evicted nobody can."""
    with server.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    result = run("worker", "--once", spool=url)
    assert result.exit_code == 1
    assert "maxmemory-policy is allkeys-lru" in result.output


def test_a_worker_warns_and_works(server, url):
    """Without an append-only file Redis may forget; that is its owner's choice."""
    with server.client() as client:
        client.config_set("appendonly", "no")
    result = run("worker", "--once", spool=url)
    assert result.exit_code == 0
    assert "Warning: appendonly is off" in result.output


def test_a_redis_that_is_not_there_is_told(tmp_path):
    """And where events wait until it is."""
    url = f"redis://:hush@127.0.0.1:1/0?fallback={tmp_path}/here"
    result = run("doctor", spool=url)
    assert result.exit_code == 1
    assert f"until it is, events wait in {tmp_path}/here" in result.output
    assert run("spool", "status", spool=url).exit_code == 1
    assert "hush" not in result.output


def test_dead_letters_are_of_directories(url):
    """Where those of a Redis are is told."""
    result = run("spool", "dead", "list", spool=url)
    assert result.exit_code == 2
    assert "is no directory. Of a Redis `spool status` and `doctor` tell" in result.output
