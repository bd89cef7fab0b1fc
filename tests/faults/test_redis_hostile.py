"""Redis holds what others have put there: bombs, rubbish, entries that kill; all that is ours is delivered.

Rows 32 and 37 of the fault table, and TLS towards a server that has another name.
"""

import contextlib
import random
import subprocess
import sys
import zlib
from itertools import pairwise

import pytest
from support.components import needs
from support.journals import ALL, Clock, event, names
from support.mutants import python_path
from support.waiting import PATIENCE_S, wait_until

from mixpanel_visitor.delivery.redis_streams import takeover
from mixpanel_visitor.delivery.sending.http_client import Response
from mixpanel_visitor.delivery.sending.sender import Sender
from mixpanel_visitor.errors import SpoolUnavailableError
from mixpanel_visitor.records import Record

pytestmark = needs("redis-server")

IDLE_S = 300


@pytest.fixture
def clock():
    """Return a clock that stands still."""
    return Clock()


@pytest.fixture
def make(server, clock):
    """Make spools, each a process of its own as far as Redis is concerned."""
    from mixpanel_visitor.delivery.redis_streams import RedisSpool

    with contextlib.ExitStack() as closing:

        def make():
            spool = RedisSpool(server.url, clock=clock.time, monotonic=clock.monotonic)
            closing.callback(spool.close)
            return spool

        yield make


def bomb(size):
    """Return the fields of an entry whose one record has so many bytes."""
    return {"t": 1, "n": 1, "z": zlib.compress(b"0" * size, 1)}


def endless(size):
    """Return one whose compressed data never ends."""
    return {"t": 1, "n": 1, "z": zlib.compress(b"0" * size, 1)[:-20]}


def many(size):
    """Return one with so many empty records."""
    return {"t": 1, "n": size + 1, "z": zlib.compress(b"\n" * size, 1)}


def drained(spool):
    """Claim and acknowledge everything; gives the names."""
    found = []
    while (claim := spool.claim("import", 2_000, ALL)) is not None:
        found += names(claim.bodies)
        spool.ack(claim, range(len(claim)))
    return found


# --- bombs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hostile", [bomb, endless, many])
def test_what_is_too_large_is_never_read(server, make, hostile):
    """Some kilobytes that hold a hundred megabytes are set aside; all around them is delivered."""
    spool = make()
    spool.put([event(1)])
    with server.client() as client:
        (stream,) = client.keys("*:import")
        client.xadd(stream, hostile(100_000_000))
        spool.put([event(2)])
        assert drained(spool) == ["1", "2"]
        assert client.xlen(stream) == 0
        ((_, letter),) = client.xrange(spool.dead_letters.key)
    assert b"damaged: " in letter[b"reason"]


def test_many_that_are_just_small_enough_are_not_read_at_once(server, make):
    """What is in memory is bounded; the others wait."""
    from mixpanel_visitor.delivery.redis_streams.redis_spool import MAX_IN_FLIGHT_BYTES

    spool = make()
    spool.put([event(1)])
    with server.client() as client:
        (stream,) = client.keys("*:import")
        for _ in range(250):
            client.xadd(stream, bomb(5_000_000))
        claim = spool.claim("import", 1, ALL)
        assert names(claim.bodies) == ["1"]
        assert spool._in_flight["import"].size < 2 * MAX_IN_FLIGHT_BYTES


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (900_000_000, 900_000_000))
from mixpanel_visitor.cli import main
main(["worker", "--spool", sys.argv[1], "--once", "--timeout", "20"])
"""


def test_a_worker_with_little_memory_survives_a_bomb(server, tmp_path):
    """As in a container with a limit; the events before and after it arrive."""
    from support.inbox import Inbox

    from mixpanel_visitor.emulator import LocalMixpanel
    from mixpanel_visitor.tracking.tracker import Tracker

    spool = f"{server.url}?journal={tmp_path}/journal"
    with LocalMixpanel() as mixpanel, server.client() as client:
        tracker = Tracker(
            token="t", secret_key="a-key-of-some-length", api_host=mixpanel.url, spool=spool, deliver=False
        )
        tracker.track("u-1", "before")
        assert wait_until(lambda: client.keys("*:import"), PATIENCE_S)
        client.xadd(client.keys("*:import")[0], bomb(1_500_000_000))
        tracker.track("u-1", "after")
        tracker.close()
        ended = subprocess.run(
            [sys.executable, "-c", LIMITED, spool],
            env={
                "MIXPANEL_TOKEN": "t",
                "MIXPANEL_API_HOST": mixpanel.url,
                "HOME": str(tmp_path),
                "PYTHONPATH": python_path(),
            },
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE_S,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert sorted(each["event"] for each in Inbox(mixpanel.url).events()) == ["after", "before"]


# --- what counts --------------------------------------------------------------------------------------


def foreign(records):
    """Return the fields of an entry that can be read and that nobody has counted."""
    bodies = b"\n".join(b'{"event":"foreign","properties":{"name":"foreign"}}' for _ in range(records))
    return {"t": 1, "n": records, "z": zlib.compress(bodies, 1)}


@pytest.mark.parametrize("number", [1, 6])
def test_foreign_entries_make_no_figure_negative(server, make, clock, number):
    """Neither while they are there nor after they have been delivered."""
    spool = make()
    spool.put([event(each) for each in range(3)])
    with server.client() as client:
        (stream,) = client.keys("*:import")
        client.xadd(stream, foreign(number))
        while (claim := spool.claim("import", 2, ALL)) is not None:
            counts = spool.counts()
            assert counts.store_pending >= client.xlen(stream)
            assert counts.store_bytes >= 0
            spool.ack(claim, range(len(claim)))
            clock.tick(2)
        counts = spool.counts()
        assert (counts.store_pending, counts.store_bytes, counts.oldest_age_s) == (0, 0, 0.0)


def test_an_entry_without_a_time_costs_no_figures(server, make):
    """Whoever asks for them is told the rest."""
    spool = make()
    with server.client() as client:
        spool.put([event(1)])
        (stream,) = client.keys("*:import")
        drained(spool)
        client.xadd(stream, {"t": "noon", "n": 1, "z": b"x"})
        assert spool.counts().store_pending == 1


@pytest.mark.parametrize("size", [6 * 2**20, 16 * 2**20])
def test_what_is_put_can_be_read(make, size):
    """One large record, or many that are large together, whatever the bound is."""
    spool = make()
    large = b'{"event":"large","properties":{"text":"%s"}}' % (b"y" * (size - 100))
    spool.put([event(1), Record("import", large), event(2)])
    assert drained(spool) == ["1", "large", "2"]
    with pytest.raises(ValueError, match="is too large"):
        spool.put([Record("import", b"x" * (16 * 2**20 + 1))])


# --- entries that kill --------------------------------------------------------------------------------


class DiedError(BaseException):
    """A worker has died of what it had in its hands."""


def work(spool, clock, deadly, delivered):
    """Deliver until nothing is left, or until it dies of a record."""

    def post(_endpoint, bodies):
        found = names(bodies)
        if set(found) & deadly:
            raise DiedError
        delivered.extend(found)
        return Response(status=200, body=b'{"code":200,"status":1}', sent=True)

    sender = Sender(
        spool, post, clock=clock.time, monotonic=clock.monotonic, wait=lambda _s: None, endpoints=["import"]
    )
    for _ in range(200):
        clock.tick(1)
        sender.step()


def let_idle(client, seconds):
    """Make all that is in hand look as if its owner had been silent for so long."""
    (stream,) = client.keys("*:import")
    for each in client.xpending_range(stream, "senders", "-", "+", 1_000):
        if each["consumer"] != b"returned":
            client.xclaim(
                *(stream, "senders", each["consumer"], 0, [each["message_id"]]),
                idle=seconds * 1000,
                justid=True,
            )


@pytest.mark.parametrize("deadly", [{"0"}, {"77"}, {"3", "150"}], ids=["first", "one", "two"])
def test_an_entry_that_kills_workers_is_found(server, make, clock, deadly):
    """However many are in hand with it: it alone goes to the dead letters, all others are delivered."""
    producer = make()
    for number in range(200):
        producer.put([event(number)])
    delivered = []
    with server.client() as client:
        (stream,) = client.keys("*:import")
        for _ in range(60):
            if not client.xlen(stream):
                break
            with contextlib.suppress(DiedError):
                work(make(), clock, deadly, delivered)
            let_idle(client, IDLE_S + 1)
            clock.tick(IDLE_S)
        assert client.xlen(stream) == 0
        letters = client.xrange(producer.dead_letters.key)
    assert sorted(delivered, key=int) == [str(each) for each in range(200) if str(each) not in deadly]
    assert len(letters) == len(deadly)
    assert all(b"poison" in letter[b"reason"] for _, letter in letters)


def test_an_entry_that_kills_whoever_reads_it_is_not_read_again(server, make, clock):
    """It goes to the dead letters as it is."""
    spool = make()
    spool.put([event(1)])
    with server.client() as client:
        (stream,) = client.keys("*:import")
        client.xreadgroup("senders", "dead", {stream: ">"})
        (pending,) = client.xpending_range(stream, "senders", "-", "+", 10)
        client.xclaim(stream, "senders", "dead", 0, [pending["message_id"]], retrycount=6, idle=301_000)
        assert spool.claim("import", 10, ALL) is None
        ((_, letter),) = client.xrange(spool.dead_letters.key)
    assert b"poison: the process that takes it has died 6 times" in letter[b"reason"]


def listed(*crash_counts):
    """Return what XPENDING says of entries with so many deaths."""
    return [{"message_id": b"%d-0" % at, "times_delivered": each} for at, each in enumerate(crash_counts)]


def chosen(crash_counts, **options):
    """Return which of them are taken, by their place, and whether some are left."""
    found, left = takeover.choose(
        listed(*crash_counts), **{"holds_suspects": False, "ordered": False, **options}
    )
    return [int(each["message_id"].split(b"-")[0]) for each in found], left


def test_of_suspects_few_are_taken_at_a_time():
    """Those of which least is known first, and never more while some are in hand."""
    assert chosen([1, 1, 1]) == ([0, 1, 2], False)
    assert chosen([1, 4, 1, 4]) == ([0, 1, 2], True)
    assert chosen([4, 3, 3]) == ([1, 2], True)
    assert chosen([4, 1, 3], holds_suspects=True) == ([1], True)
    assert chosen([6, 5, 4, 4]) == ([0, 1, 2], True)
    assert len(chosen([2] * 300)[0]) == 125


def test_in_order_nothing_is_taken_past_a_suspect():
    """Updates of a profile must not overtake each other."""
    assert chosen([1, 4, 1, 4], ordered=True) == ([0, 1, 2], True)
    assert chosen([1, 4, 1], ordered=True, holds_suspects=True) == ([0], True)
    seed = random.Random(1)
    for _ in range(200):
        crash_counts = [seed.randint(1, 6) for _ in range(20)]
        places, left = chosen(crash_counts, ordered=True, holds_suspects=seed.random() < 0.5)
        assert places == list(range(len(places)))
        assert left == (len(places) < len(crash_counts))
        assert all(first < second for first, second in pairwise(places))


# --- TLS ----------------------------------------------------------------------------------------------


@pytest.fixture(params=["localhost", "other.example"])
def tls_server(request, tmp_path):
    """Return a Redis whose certificate is for this name; `ca.pem` vouches for it."""
    import trustme
    from support import redis_servers

    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    certificate = authority.issue_cert(request.param)
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    port = redis_servers.free_port()
    options = {
        "tls-port": str(port),
        "tls-cert-file": str(tmp_path / "cert.pem"),
        "tls-key-file": str(tmp_path / "key.pem"),
        "tls-ca-cert-file": str(tmp_path / "ca.pem"),
        "tls-auth-clients": "no",
    }
    with redis_servers.running(tmp_path / "redis", **options) as server:
        yield server, request.param, f"rediss://localhost:{port}/0?ssl_ca_certs={tmp_path}/ca.pem"


def test_the_name_in_the_certificate_has_to_be_the_host_s(tls_server, tmp_path):
    """Whoever has another certificate of the same authority gets nothing; events wait on this machine."""
    from mixpanel_visitor.delivery.spool_factory import open_spool

    server, name, url = tls_server
    spool = open_spool(f"{url}&journal={tmp_path}/journal")
    with contextlib.closing(spool), server.client() as client:
        spool.put([event(1)])
        with contextlib.suppress(SpoolUnavailableError):
            assert spool.claim("engage", 1, ALL) is None  # which forwards it first
        there, here = len(client.keys("*:import")), spool.journal.counts().store_pending
        assert (there, here) == ((1, 0) if name == "localhost" else (0, 1))


@pytest.mark.parametrize(
    ("address", "asked"),
    [
        ("rediss://localhost/0", True),
        ("rediss://localhost/0?ssl_cert_reqs=none", None),
        ("rediss://localhost/0?ssl_check_hostname=false", False),
        ("redis://localhost/0", None),
    ],
)
def test_the_name_is_asked_for_in_words(address, asked):
    """The library's own default was another one before its version 6; who says otherwise is heard."""
    from mixpanel_visitor.delivery.redis_streams.client import connector
    from mixpanel_visitor.settings import redis_address

    client = connector(redis_address.parse(address))()
    options = client.connection_pool.connection_kwargs
    assert options.get("ssl_check_hostname") is asked
    client.close()
