"""A legacy project whose pages ask SPiD who the visitor is: Mixpanel joins nothing there after the fact."""

import json

import pytest
from support.clients import CLIENTS
from support.facts import BROWSER_DOCUMENT, BROWSER_FETCH
from support.trackers import recording_tracker

UID = "3a5b9c1d2e"
POST = {"sec-fetch-site": "same-origin", "content-type": "application/json"}
SETTINGS = {"id_mode": "legacy", "browser_sdk": "spid", "spid_client_id": "c"}


@pytest.fixture(params=list(CLIENTS))
def make(request):
    """Return a browser and its site, and the spool."""

    def build(**settings):
        tracker, spool = recording_tracker(durability="before-response", **{**SETTINGS, **settings})
        handler = lambda visitor: visitor.track(visitor._scope.facts.path)  # noqa: E731
        return CLIENTS[request.param](tracker, handler), spool

    return build


def hand_over(client):
    """Let the page post SPiD's answer."""
    assert client.request("POST", "/_visitor", POST, json.dumps({"uid": UID}).encode()).status == 204


def ids(spool):
    """The distinct IDs that Mixpanel has been sent, in order."""
    return [event["properties"]["distinct_id"] for event in spool.events]


@pytest.mark.parametrize("first", [BROWSER_DOCUMENT, BROWSER_FETCH, {}], ids=["page", "call", "no-metadata"])
def test_what_a_first_request_tracks_is_nobodys(make, first):
    """All that comes after SPiD's answer is the uid's, and there is no other person."""
    client, spool = make()
    client.request("GET", "/first", first)
    hand_over(client)
    client.request("GET", "/second", BROWSER_DOCUMENT)
    client.request("POST", "/third", BROWSER_FETCH)
    assert ids(spool) == ["", UID, UID]
    assert spool.names == ["/first", "/second", "/third"]


def test_who_never_hears_of_spid_is_a_device(make):
    """Where it is blocked: from the second request on, with one ID."""
    client, spool = make()
    for _ in range(3):
        client.request("GET", "/", BROWSER_DOCUMENT)
    first, second, third = ids(spool)
    assert first == ""
    assert second == third
    assert second.startswith("$device:")


def test_a_visitor_with_a_uid_is_it_from_the_first_request_on(make):
    """SPiD's cookie came with it."""
    client, spool = make()
    session = {"visitor": {"uid": UID}, "result": False}
    client.jar["vgs_js_c"] = (
        json.dumps(session, separators=(",", ":")).replace(",", "%2C").replace('"', "%22")
    )
    client.request("GET", "/", BROWSER_DOCUMENT)
    assert ids(spool) == [UID]


def test_a_legacy_project_without_spid_is_as_ever(make):
    """Its first event has the browser's own anonymous ID."""
    client, spool = make(browser_sdk="mixpanel", spid_client_id=None)
    client.request("GET", "/", BROWSER_DOCUMENT)
    assert ids(spool)[0].startswith("$device:")
