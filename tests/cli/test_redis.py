"""The commands, and a spool in Redis."""

import json

import pytest
from click.testing import CliRunner
from support.components import needs
from support.journals import event

from mixpanel_visitor.cli import main
from mixpanel_visitor.delivery.spool import DeadReason
from mixpanel_visitor.delivery.spool_factory import open_spool
from mixpanel_visitor.delivery.subject_digest import digests
from mixpanel_visitor.settings.project import project_of

pytestmark = [needs("redis-server"), pytest.mark.servers]
TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Return a Redis."""
    from support import redis_servers

    with redis_servers.running(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def url(server, tmp_path):
    """Return its address, with nothing in it."""
    with server.client() as client:
        client.flushall()
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("appendonly", "yes")
    return f"{server.url}?journal={tmp_path}/here"


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
    url = f"redis://:hush@127.0.0.1:1/0?journal={tmp_path}/here"
    result = run("doctor", spool=url)
    assert result.exit_code == 1
    assert f"until it is, events wait in {tmp_path}/here" in result.output
    assert run("spool", "status", spool=url).exit_code == 1
    assert "hush" not in result.output


# --- dead letters ----------------------------------------------------------------------------


@pytest.fixture
def spool(url):
    """Return the spool of the project."""
    spool = open_spool(url, project=project_of(TOKEN))
    yield spool.server
    spool.close()


def bury(spool, reasons):
    """Put an event for each reason, and have Mixpanel refuse it."""
    spool.put([event(number) for number in range(len(reasons))])
    claim = spool.claim("import", 1_000, 10**6)
    spool.bury(claim, {index: DeadReason(message=reason) for index, reason in enumerate(reasons)})


def listed(url, *arguments):
    """List dead letters."""
    result = run("spool", "dead", "list", "--json", *arguments, spool=url)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.output.splitlines()]


def test_dead_letters_are_listed_and_shown(url, spool):
    """As those of a directory are."""
    bury(spool, ["bad time", "bad name"])
    first, second = listed(url)
    assert (first["reason"], second["reason"], first["endpoint"]) == ("bad time", "bad name", "import")
    assert listed(url, "--reason", "NAME") == [second]
    shown = run("spool", "dead", "show", first["number"][:6], "--json", spool=url)
    assert json.loads(shown.output)["record"] == json.loads(event(0).body)
    assert "2 dead letters. See why with" in run("spool", "status", spool=url).output


def test_dead_letters_are_put_back(url, spool):
    """Into Redis, byte for byte; the others stay."""
    bury(spool, ["quota", "bad name"] * 300)
    result = run("spool", "dead", "retry", "--reason", "quota", spool=url)
    assert result.output == "300 of 300 dead letters were put back into the spool.\n"
    assert {each["reason"] for each in listed(url, "--limit", "0")} == {"bad name"}
    claim = spool.claim("import", 1_000, 10**6)
    assert list(claim.bodies) == [event(number).body for number in range(0, 600, 2)]
    assert spool.counts().store_dead == 300


def test_dead_letters_are_thrown_away(server, url, spool):
    """All of them, and with them what cannot be read."""
    bury(spool, ["quota", "bad name"])
    with server.client() as client:
        client.xadd(spool.dead_letters.key, {"reason": "no JSON"})
    assert len(listed(url)) == 2
    result = run("spool", "dead", "purge", "--all", "--yes", spool=url)
    assert result.output == "2 dead letters were thrown away.\n"
    assert spool.counts().store_dead == 0


def test_an_opt_out_reaches_dead_letters_of_every_page(spool):
    """Many are looked at in pages; nothing of that person is left in any, and all else is."""
    anns = b'{"event":"%d","properties":{"distinct_id":"ann"}}'
    for number in (0, 1):
        bury(spool, ["quota"] * 300)
        spool.dead_letters.write("import", anns % number, DeadReason(message="quota"))
    spool.withdraw(digests(["ann"]))
    left = [letter.body for letter in spool.dead_letters.entries()]
    assert len(left) == 600
    assert not [body for body in left if b"ann" in body]


def test_dead_letters_of_a_redis_that_is_not_there(tmp_path):
    """That is said, and no password is."""
    url = f"redis://:hush@127.0.0.1:1/0?journal={tmp_path}/here"
    for command in (["list"], ["retry", "--all"], ["purge", "--all", "--yes"]):
        result = run("spool", "dead", *command, spool=url)
        assert result.exit_code == 1
        assert "the dead letters cannot be read" in result.output
        assert "hush" not in result.output
