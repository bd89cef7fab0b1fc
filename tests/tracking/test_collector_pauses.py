"""Large bodies and the application beside them: computed in short pieces, and so many a second."""

import gzip
import sys
import threading
import time

import pytest
from support.clients import CLIENTS
from support.collecting import PAGE, QUERY, event, form
from support.trackers import NOW_S, TOKEN, recording_tracker

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


@pytest.mark.usefixtures("no_forced_switch")
@pytest.mark.parametrize("protocol", list(CLIENTS))
def test_others_run_in_the_middle_of_a_large_body(protocol):
    """A thousand events are some fifty milliseconds of computing."""
    with Observer() as observer:
        tracker, spool = recording_tracker(collector_path="/m", before_send=observer.count)
        client = CLIENTS[protocol](tracker, lambda _visitor: None)
        more = {"QUERY_STRING": QUERY} if protocol == "wsgi" else {"query_string": QUERY.encode()}
        body = form([event(time=NOW_S, token=TOKEN)] * EVENTS)
        assert client.request("POST", "/m/track/", PAGE, body, **more).status == 200
        tracker.close(0)
    assert len(spool.events) == EVENTS
    assert len(observer.seen - {0, EVENTS}) > 5


@pytest.mark.parametrize("protocol", list(CLIENTS))
@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
def test_large_bodies_are_taken_two_a_second(protocol, compressed):
    """From all addresses together, by what they are unpacked; 429: the SDK keeps its batch, and waits."""
    now_s = [0.0]
    tracker, _ = recording_tracker(
        collector_path="/m", monotonic=lambda: now_s[0], trusted_proxies="127.0.0.1"
    )
    client = CLIENTS[protocol](tracker, lambda _visitor: None)
    more = {"QUERY_STRING": QUERY} if protocol == "wsgi" else {"query_string": QUERY.encode()}
    large = form([event(time=NOW_S, token=TOKEN)] * 400)

    def sent(body, address, **headers):
        named = {**PAGE, **headers, "x-forwarded-for": f"9.9.9.{address}"}
        return client.request("POST", "/m/track/", named, body, **more).status

    if compressed:
        statuses = [sent(gzip.compress(large), each, **{"content-encoding": "gzip"}) for each in range(32)]
    else:
        statuses = [sent(large, each) for each in range(32)]
    assert statuses == [200] * 30 + [429] * 2
    assert sent(form([event(time=NOW_S, token=TOKEN)] * 50), 250) == 200
    now_s[0] = 1.0
    assert [sent(large, 251) for _ in range(3)] == [200, 200, 429]
    tracker.close(0)
