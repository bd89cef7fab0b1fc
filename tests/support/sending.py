"""A sender with everything around it in the test's hands: spool, clock and Mixpanel."""

from __future__ import annotations

import json

from mixpanel_visitor.delivery.sending.http_client import Response
from mixpanel_visitor.delivery.sending.sender import Sender
from mixpanel_visitor.records import ENDPOINTS, Record
from support.spools import RecordingSpool

NOW_S = 1_760_000_000.0
POLL_S = 0.5


class FakeTime:
    """A wall clock and a monotonic one that move only when somebody waits."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.waits_s: list[float] = []

    def clock(self) -> float:
        return NOW_S + self.now_s

    def monotonic(self) -> float:
        return 1_000.0 + self.now_s

    def wait(self, seconds: float) -> None:
        self.waits_s.append(seconds)
        self.now_s += seconds


class Mixpanel:
    """Answers each request: by the script for its endpoint while that lasts, then by `otherwise`."""

    def __init__(self, fake_time: FakeTime) -> None:
        self.time = fake_time
        self.scripts: dict[str, list] = {endpoint: [] for endpoint in ENDPOINTS}
        self.otherwise = received
        self.sent: list[tuple[str, list[bytes]]] = []
        self.timeouts_s: list[float | None] = []

    def __call__(self, endpoint, bodies, timeout_s=None) -> Response:
        self.sent.append((endpoint, list(bodies)))
        self.timeouts_s.append(timeout_s)
        script = self.scripts[endpoint]
        scripted = script.pop(0) if script else self.otherwise
        return scripted if isinstance(scripted, Response) else scripted(bodies)

    def batches(self, endpoint="import") -> list[list[bytes]]:
        return [bodies for sent_to, bodies in self.sent if sent_to == endpoint]


class Rig:
    """A sender with everything around it in the test's hands."""

    def __init__(self) -> None:
        self.spool = RecordingSpool(waits=True)
        self.time = FakeTime()
        self.mixpanel = Mixpanel(self.time)
        self.sender = self.make()

    def make(self, **options) -> Sender:
        settings = {
            "clock": self.time.clock,
            "monotonic": self.time.monotonic,
            "uniform": lambda low, high: low,
            "wait": self.time.wait,
            "poll_s": POLL_S,
        }
        return Sender(self.spool, self.mixpanel, **(settings | options))

    def put(self, *bodies: bytes, endpoint="import") -> None:
        self.spool.put([Record(endpoint, body) for body in bodies])

    def run(self, for_s: float = 0.0) -> None:
        """Step until nothing is due for `for_s` seconds, moving the clock over the waits."""
        ends_s = self.time.now_s + for_s
        while True:
            wait_s = self.sender.step()
            if self.time.now_s + wait_s > ends_s:
                return
            self.time.wait(wait_s)

    def pauses_s(self, count: int) -> list[int]:
        """How long the events' lane pauses after each of so many tries."""
        pauses_s = []
        for _ in range(count):
            self.sender.step()
            pauses_s.append(round(self.lane()["paused_until_s"] - self.time.clock()))
            self.time.wait(pauses_s[-1])
        return pauses_s

    def lane(self, endpoint="import") -> dict:
        return self.sender.stats()["lanes"][endpoint]


def event(name: str) -> bytes:
    """An event as it is stored."""
    properties = {"$insert_id": name, "time": NOW_S, "distinct_id": "someone"}
    return json.dumps({"event": name, "properties": properties}).encode()


def events(count: int) -> list[bytes]:
    """Many different events."""
    return [event(f"event-{number}") for number in range(count)]


def answer(status: int, body: object = None, **headers: str) -> Response:
    """What Mixpanel says."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status=status, headers=names, body=json.dumps(body).encode(), sent=True)


def received(bodies) -> Response:
    """Mixpanel takes everything."""
    return answer(200, {"code": 200, "num_records_imported": len(bodies)})


def refusing(*poisons: bytes):
    """A server that refuses any request with a poison in it, and names nobody."""

    def judge(bodies) -> Response:
        return answer(400, {"code": 400}) if set(poisons) & set(bodies) else received(bodies)

    return judge


def limited(limit_bytes: int, text: str):
    """A server that takes no larger requests."""

    def judge(bodies) -> Response:
        size = len(b"[" + b",".join(bodies) + b"]")
        return answer(413, {"error": text}) if size > limit_bytes else received(bodies)

    return judge


def failed(*entries) -> Response:
    """Mixpanel takes all but these."""
    return answer(400, {"code": 400, "failed_records": list(entries)})


UNREACHABLE = Response(status=0, failure="refused: nobody there")
LOST = Response(status=0, failure="timeout: no answer", sent=True)
FUTURE = {"index": 0, "insert_id": "event-0", "field": "properties.time", "message": "is in the future"}
