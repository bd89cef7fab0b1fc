"""What is dear for the application beside the collector: large bodies, and senders of junk."""

import gzip
import sys
import threading

import pytest
from support.collecting import event, form
from support.trackers import NOW_S, TOKEN, known

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
        while not self._ends.wait(0.0001):
            self.seen.add(self.handled)

    def count(self, event):
        self.handled += 1
        return event


class Clock:
    now_s = 0.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def open_site(make, clock):
    """Return a site, over either protocol, to which browsers without a cookie send from any address."""
    return lambda **more: make(signed=False, monotonic=clock, trusted_proxies="127.0.0.1", **more)


def status(site, body, address="9.9.9.9", **headers):
    """Return the status of the answer to a body."""
    return site.send(body, headers={**headers, "x-forwarded-for": address}).status


def events(count, **more):
    return form([event(**{"time": NOW_S, "token": TOKEN, **more})] * count)


@pytest.mark.usefixtures("no_forced_switch")
def test_others_run_in_the_middle_of_a_large_body(open_site):
    """A thousand events are some fifty milliseconds of computing."""
    with Observer() as observer:
        site = open_site(before_send=observer.count)
        assert status(site, events(EVENTS)) == 200
    assert len(site.spool.events) == EVENTS
    assert len(observer.seen - {0, EVENTS}) > 5


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
def test_large_bodies_are_taken_two_a_second(open_site, clock, compressed):
    """From all addresses together, by what they are unpacked; 429: the SDK keeps its batch, and waits."""
    site = open_site()
    large, headers = events(400), {}
    if compressed:
        large, headers = gzip.compress(large), {"content-encoding": "gzip"}
    statuses = [status(site, large, f"9.9.9.{each}", **headers) for each in range(32)]
    assert statuses == [200] * 30 + [429] * 2
    assert status(site, events(50), "9.9.9.50") == 200
    clock.now_s = 1.0
    assert [status(site, large, "9.9.9.51", **headers) for _ in range(3)] == [200, 200, 429]


SUSPECT = {
    "junk": b"data=!",
    "foreign token": events(1, token="another project's"),
    "forged user": events(1, user="victim"),
}


@pytest.mark.parametrize("name", SUSPECT)
@pytest.mark.parametrize("cookie", ["", "forged"])
def test_an_address_that_sends_junk(open_site, clock, name, cookie):
    """Fifty at once, then one a second; a cookie that nobody has signed does not help."""
    site = open_site(collector_trust="refuse")
    headers = {"cookie": f"{site.tracker.settings.cookie_name}=forged"} if cookie else {}
    statuses = {status(site, SUSPECT[name], **headers) for _ in range(50)}
    assert statuses == {400 if name == "junk" else 200}
    assert [status(site, SUSPECT[name], **headers) for _ in range(2)] == [429, 429]
    assert status(site, SUSPECT[name], "9.9.9.10") == min(statuses)
    clock.now_s = 1.0
    assert [status(site, SUSPECT[name], **headers) for _ in range(2)] == [*statuses, 429]


@pytest.mark.parametrize("name", SUSPECT)
def test_signed_visitors_at_an_address_that_sends_junk(open_site, name):
    """They are told apart from who sends it, as one company has one address."""
    site = open_site(collector_trust="refuse")
    for _ in range(60):
        status(site, SUSPECT[name])
    assert status(site, events(1), **known()) == 200


def test_what_is_too_large_is_no_junk(open_site):
    """413: the SDK sends it in halves, and is no suspect."""
    site = open_site()
    assert {status(site, events(2_001, user=None)[: 2**20 + 1], f"9.9.{n}.1") for n in range(3)} == {413}
    assert {status(site, b" " * 2**20 + b"!") for _ in range(10)} == {413}
    assert status(site, events(1)) == 200
