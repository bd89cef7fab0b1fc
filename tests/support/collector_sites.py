"""Sites with a collector, browsers at them, and the answers that these understand."""

import json

from .clients import CLIENTS
from .collecting import PAGE, QUERY, form
from .trackers import NOW_S, known, recording_tracker

ADDED = {"ip": "127.0.0.1", "time": round((NOW_S - 3.25) * 1000)}
"""The address, and the SDK's own time in milliseconds."""


class Site:
    """A site with a collector, and a browser at it; `signed`: the browser has our cookie."""

    def __init__(self, protocol, *, signed=True, handler=lambda _visitor: None, **settings):
        self.tracker, self.spool = recording_tracker(collector_path="/m", **settings)
        self.client = CLIENTS[protocol](self.tracker, handler)
        if signed:
            more = signed if isinstance(signed, dict) else {}
            name, _, value = known(**more)["cookie"].partition("=")
            self.client.jar[name] = value

    def send(self, items, route="track", headers=None, *, query=QUERY, encode=form, method="POST"):
        body = items if isinstance(items, bytes) else encode(items)
        path = f"/m/{route}/"
        more = (
            {"QUERY_STRING": query}
            if isinstance(self.client, CLIENTS["wsgi"])
            else {"query_string": query.encode()}
        )
        return self.client.request(method, path, {**PAGE, **(headers or {})}, body, **more)

    @property
    def refused(self):
        return self.tracker.stats()["refused"]

    @property
    def notes(self):
        return self.tracker.stats()["notes"]

    @property
    def properties(self):
        return [each["properties"] for each in self.spool.events]


def assert_taken(answer):
    """Check the answer that the SDK takes for success."""
    assert (answer.status, json.loads(answer.body)) == (200, {"status": 1, "error": None})
    assert answer.values("cache-control") == ["no-store"]
    assert answer.values("content-length") == [str(len(answer.body))]
    assert not answer.values("set-cookie")
    assert not answer.values("access-control-allow-origin")


def assert_refused(answer, status):
    """Check that an answer says why not."""
    said = json.loads(answer.body)
    assert (answer.status, said["status"]) == (status, 0)
    assert said["error"]
