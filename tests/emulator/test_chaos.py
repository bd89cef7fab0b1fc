"""Failures on purpose."""

from __future__ import annotations

import http.client

import pytest

from mixpanel_visitor.emulator import LocalMixpanel
from mixpanel_visitor.emulator.chaos import KINDS, Chaos


@pytest.mark.parametrize("status", [401, 413, 429, 500])
def test_a_status_is_answered_and_nothing_is_taken(connect, event, status):
    """Says that it was on purpose."""
    with LocalMixpanel(chaos={str(status): 1}) as local:
        client = connect(local)
        answer = client.import_([event()])
        assert answer.status == status
        assert "chaos" in answer.json()["error"]
        assert ("retry-after" in answer.headers) == (status == 429)
        assert client.get("/_local/count").json() == {"count": 0}


def test_a_lost_answer_was_taken(local, client, event, connect):
    """That is what makes duplicates."""
    local.chaos.set({"lost": 1})
    with pytest.raises(http.client.RemoteDisconnected):
        client.import_([event()])
    assert connect(local).get("/_local/count").json() == {"count": 1}


def test_a_hanging_request_ends_with_the_server(local, client, event):
    """And is not taken."""
    local.chaos.set({"hang": 1})
    client.connection.request("POST", "/track", b"[]")
    local.stop()
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        client.connection.getresponse()
    assert local.store.stats()["received"] == 0


def test_a_partial_refusal_refuses_every_second_event(local, client, event):
    """As Mixpanel tells of it."""
    local.chaos.set({"partial": 1})
    answer = client.import_([event() for _ in range(5)])
    assert answer.status == 400
    assert [each["index"] for each in answer.json()["failed_records"]] == [1, 3]
    assert answer.json()["num_records_imported"] == 3


def test_the_rates_can_be_set_by_a_test(client, event):
    """Under /_local/, which itself never fails."""
    assert client.post("/_local/chaos", {"500": 1}).json() == {"500": 1.0}
    assert client.import_([event()]).status == 500
    assert client.get("/_local/chaos").json() == {"500": 1.0}
    assert client.post("/_local/chaos", {}).json() == {}
    assert client.import_([event()]).status == 200


@pytest.mark.parametrize(
    "rates", [{"418": 0.1}, {"500": 2}, {"500": -1}, {"500": True}, {"500": "x"}, {"429": 0.6, "500": 0.6}, 5]
)
def test_what_is_no_rate_is_refused(client, rates):
    """400, and nothing changes."""
    assert client.post("/_local/chaos", rates).status == 400
    assert client.get("/_local/chaos").json() == {}


def test_the_shares_are_about_right_and_the_same_each_time():
    """They are drawn with a seed."""
    rates = dict.fromkeys(KINDS, 0.1)
    first, second = Chaos(rates, seed=7), Chaos(rates, seed=7)
    drawn = [first.drawn() for _ in range(2_000)]
    assert drawn == [second.drawn() for _ in range(2_000)]
    assert all(120 < drawn.count(kind) < 280 for kind in KINDS)
