"""What is dear for the application beside the collector: large bodies, and senders of junk."""

import gzip
import sys
import threading
import time

import pytest
from support.clients import CLIENTS
from support.collecting import PAGE, QUERY, event, form
from support.trackers import NOW_S, TOKEN, known, recording_tracker

EVENTS = 1_000


@pytest.fixture
def no_forced_switch():
    """Python takes the interpreter from no thread: others run where one sleeps or waits, and nowhere else."""
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(600)
    yield
    sys.setswitchinterval(interval_s)


class Observer:
    """A thread that looks, whenever it gets its turn, how many events were handled."""

    def __init__(self):
        self.handled = 0
        self.seen = set()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ends.set()
        self._thread.join()

    def _look(self):
        while not self._ends.is_set():
            self.seen.add(self.handled)
            time.sleep(0.0001)

    def count(self, event):
        self.handled += 1
        return event


class Site:
    """A site with a collector, to which browsers at any address send bodies."""

    def __init__(self, protocol, **settings):
        self.now_s = 0.0
        settings = {"collector_path": "/m", "trusted_proxies": "127.0.0.1", **settings}
        self.tracker, self.spool = recording_tracker(monotonic=lambda: self.now_s, **settings)
        self._client = CLIENTS[protocol](self.tracker, lambda _visitor: None)
        self._query = {"QUERY_STRING": QUERY} if protocol == "wsgi" else {"query_string": QUERY.encode()}

    def status(self, body, address="9.9.9.9", **headers):
        """Return the status of the answer to a body."""
        named = {**PAGE, **headers, "x-forwarded-for": address}
        return self._client.request("POST", "/m/track/", named, body, **self._query).status


@pytest.fixture(params=list(CLIENTS))
def make(request):
    """Return a site over either protocol, with settings."""
    sites = []

    def make(**settings):
        sites.append(Site(request.param, **settings))
        return sites[-1]

    yield make
    for site in sites:
        site.tracker.close(0)


def events(count, **more):
    return form([event(**{"time": NOW_S, "token": TOKEN, **more})] * count)


@pytest.mark.usefixtures("no_forced_switch")
def test_others_run_in_the_middle_of_a_large_body(make):
    """A thousand events are some fifty milliseconds of computing."""
    with Observer() as observer:
        site = make(before_send=observer.count)
        assert site.status(events(EVENTS)) == 200
    assert len(site.spool.events) == EVENTS
    assert len(observer.seen - {0, EVENTS}) > 5


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
def test_large_bodies_are_taken_two_a_second(make, compressed):
    """From all addresses together, by what they are unpacked; 429: the SDK keeps its batch, and waits."""
    site = make()
    large, headers = events(400), {}
    if compressed:
        large, headers = gzip.compress(large), {"content-encoding": "gzip"}
    statuses = [site.status(large, f"9.9.9.{each}", **headers) for each in range(32)]
    assert statuses == [200] * 30 + [429] * 2
    assert site.status(events(50), "9.9.9.50") == 200
    site.now_s = 1.0
    assert [site.status(large, "9.9.9.51", **headers) for _ in range(3)] == [200, 200, 429]


SUSPECT = {
    "junk": b"data=!",
    "foreign token": events(1, token="another project's"),
    "forged user": events(1, user="victim"),
}


@pytest.mark.parametrize("name", SUSPECT)
@pytest.mark.parametrize("cookie", ["", "forged"])
def test_an_address_that_sends_junk(make, name, cookie):
    """Fifty at once, then one a second; a cookie that nobody has signed does not help."""
    site = make(collector_trust="refuse")
    headers = {"cookie": f"{site.tracker.settings.cookie_name}=forged"} if cookie else {}
    statuses = {site.status(SUSPECT[name], **headers) for _ in range(50)}
    assert statuses == {400 if name == "junk" else 200}
    assert [site.status(SUSPECT[name], **headers) for _ in range(2)] == [429, 429]
    assert site.status(SUSPECT[name], "9.9.9.10") == min(statuses)
    site.now_s = 1.0
    assert [site.status(SUSPECT[name], **headers) for _ in range(2)] == [*statuses, 429]


@pytest.mark.parametrize("name", SUSPECT)
def test_signed_visitors_at_an_address_that_sends_junk(make, name):
    """They are told apart from who sends it, as one company has one address."""
    site = make(collector_trust="refuse")
    for _ in range(60):
        site.status(SUSPECT[name])
    assert site.status(events(1), **known()) == 200


def test_what_is_too_large_is_no_junk(make):
    """413: the SDK sends it in halves, and is no suspect."""
    site = make()
    assert {site.status(events(2_001, user=None)[: 2**20 + 1], f"9.9.{n}.1") for n in range(3)} == {413}
    assert {site.status(b" " * 2**20 + b"!") for _ in range(10)} == {413}
    assert site.status(events(1)) == 200
