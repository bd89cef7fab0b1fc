"""The live stream and the questions of tests: search, count, wait."""

from __future__ import annotations

import http.client
import json
import threading

import pytest
from support.waiting import PATIENCE_S

from mixpanel_visitor.emulator.stream import MAX_AT_ONCE


class Listener:
    """An open stream."""

    def __init__(self, port):
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
        self._connection.request("GET", "/_local/stream")
        self.response = self._connection.getresponse()

    def message(self):
        """Return the next one; the test's timeout is when there is none."""
        while True:
            line = self.response.readline()
            if not line:
                return None
            if line.startswith(b"data: "):
                return json.loads(line[6:])

    def close(self):
        self.response.close()
        self._connection.close()


@pytest.fixture
def listener(local, client, event):
    """Return a stream of a server that has one event already."""
    client.import_([event("before")])
    listener = Listener(local.port)
    yield listener
    listener.close()


def names(message):
    return [each["event"] for each in message["events"]]


def test_the_first_message_says_what_is_there(listener):
    """Whoever comes late sees it all the same."""
    assert listener.response.headers["content-type"] == "text/event-stream"
    first = listener.message()
    assert first["first"] is True
    assert names(first) == ["before"]
    assert first["stats"]["unique"] == 1


def test_an_event_is_streamed_as_it_arrives(listener, client, event):
    """Once, with its lane."""
    listener.message()
    client.import_([event("now", mp_lib="web")])
    message = listener.message()
    assert names(message) == ["now"]
    assert message["events"][0]["lane"] == "browser"
    assert (message["first"], message["skipped"]) == (False, 0)


def test_a_flood_is_counted_and_its_end_is_sent(listener, client, event):
    """A page is not to drown."""
    listener.message()
    client.import_([event(f"e{number}") for number in range(MAX_AT_ONCE + 100)])
    message = listener.message()
    assert len(message["events"]) == MAX_AT_ONCE
    assert message["skipped"] == 100
    assert names(message)[-1] == f"e{MAX_AT_ONCE + 99}"


def test_refusals_are_streamed_with_their_fix(listener, client, event):
    """All that are kept, up to a hundred."""
    listener.message()
    client.import_([event(distinct_id="null")])
    (refused,) = listener.message()["rejected"]
    assert refused["fix"].startswith("Mixpanel bans")


def test_two_ids_are_told_until_they_are_merged(client, event):
    """A log-in that joins both is the end of it."""
    page = {"$current_url": "https://shop.example/"}
    server = event(distinct_id="$device:s", **{**page, "$device_id": "s"}, mp_lib="python")
    browser = event(distinct_id="$device:b", **{**page, "$device_id": "b"}, mp_lib="web")
    client.import_([server])
    client.post("/track", [browser])
    (found,) = client.get("/_local/two-ids").json()["two_ids"]
    assert (found["browser_id"], found["server_id"]) == ("$device:b", "$device:s")
    assert "VisitorMiddleware" in found["fix"]
    merged = [event(distinct_id="u", **{"$device_id": each, "$user_id": "u"}) for each in "sb"]
    client.import_(merged)
    assert client.get("/_local/two-ids").json() == {"two_ids": []}


def test_after_a_reset_it_begins_anew(listener, client, event):
    """The page forgets as well."""
    listener.message()
    client.request("POST", "/_local/reset")
    message = listener.message()
    assert message["first"] is True
    assert names(message) == []
    client.import_([event("after")])
    assert names(listener.message()) == ["after"]


def test_the_end_of_the_server_ends_the_stream(local, listener):
    """At once: stopping does not wait for pages."""
    listener.message()
    local.stop()
    assert listener.message() is None


def test_a_website_cannot_listen(client):
    """Neither by a name of its own, nor by CORS."""
    assert client.get("/_local/stream", Host="evil.example.com").status == 403
    answer = client.request("HEAD", "/_local/stream", headers={"Origin": "https://evil.example.com"})
    assert "access-control-allow-origin" not in answer.headers


def test_events_are_searched_and_counted(client, event):
    """In names and properties, in any case of letters."""
    client.import_([event("Bought", item="Earl Grey"), event("Looked"), event("grey cat")])
    assert names(client.get("/_local/events?search=GREY").json()) == ["Bought", "grey cat"]
    assert client.get("/_local/count?search=grey&event=Bought").json() == {"count": 1}
    assert client.get("/_local/count").json() == {"count": 3}
    assert names(client.get("/_local/events?after=2").json()) == ["grey cat"]


def test_the_events_of_a_person_are_found_under_all_their_ids(client, event):
    """By the canonical one."""
    device = {"$device_id": "D"}
    client.import_([event("before", distinct_id="$device:D", **device), event("other", distinct_id="v")])
    client.import_([event("log-in", distinct_id="u", **device, **{"$user_id": "u"})])
    assert names(client.get("/_local/events?person=u").json()) == ["before", "log-in"]


def test_a_test_can_wait_for_events(local, connect, event):
    """It is answered when they are there."""
    answers = []
    asking = connect(local)
    waiting = threading.Thread(
        target=lambda: answers.append(asking.get("/_local/events?event=late&count=2&wait=9"))
    )
    waiting.start()
    connect(local).import_([event("late"), event("other"), event("late")])
    waiting.join(10)
    assert names(answers[0].json()) == ["late", "late"]


def test_waiting_in_vain_ends(client):
    """With what there is."""
    assert client.get("/_local/events?wait=1").json() == {"events": []}
