"""The collector over both protocols: what is taken in, and what is in it then."""

import gzip
import json

import pytest
from support.clients import CLIENTS
from support.collecting import DEVICE, PAGE, event, form, plain, update
from support.collector_sites import ADDED, assert_taken
from support.trackers import NOW_S, TOKEN, recording_tracker

from mixpanel_visitor.core.collector.routes import own_names
from mixpanel_visitor.plan import Plan
from mixpanel_visitor.testing import capture_events


@pytest.mark.parametrize("encode", [form, plain, lambda items: json.dumps(items).encode()])
def test_a_batch_is_stored_as_the_sdk_has_sent_it(make, encode):
    """Each event with its own moment, insert ID and identity; only the address is added."""
    site = make()
    assert_taken(site.send([event("One"), event("Two", item="tea")], encode=encode))
    assert [each["event"] for each in site.spool.events] == ["One", "Two"]
    assert site.properties == [
        {**event("One")["properties"], **ADDED},
        {**event("Two", item="tea")["properties"], **ADDED},
    ]
    assert site.tracker.stats()["accepted"] == 2


def test_a_beacon_is_text(make):
    """With the same body."""
    site = make()
    headers = {"content-type": "text/plain;charset=UTF-8", "sec-fetch-mode": "no-cors"}
    assert_taken(site.send([event()], headers=headers))
    assert site.spool.names == ["Clicked"]


def test_gzip(make):
    """Where a page's own code packs its batches."""
    site = make()
    assert_taken(site.send(gzip.compress(form([event()])), headers={"content-encoding": "gzip"}))
    assert site.spool.names == ["Clicked"]


def test_without_verbose_the_answer_is_one_digit(make):
    """As the SDK reads it after `send_immediately`."""
    site = make()
    answer = site.send(event(), query="ip=1&_=1")
    assert (answer.status, answer.body) == (200, b"1")
    assert site.send(b"data=!", query="ip=1&_=1").body == b"0"


@pytest.mark.parametrize("route", ["track", "engage", "groups"])
def test_the_projects_own_names_lead_to_the_same(make, route):
    """Those that the page is told."""
    site = make()
    group = {"$group_key": "company", "$group_id": "Acme"}
    sent = {"track": event(), "engage": update(), "groups": update(**group)}[route]
    assert_taken(site.send([sent], own_names(TOKEN)[route]))
    assert len(site.spool.records) == 1


def test_a_profile_update_goes_to_its_endpoint(make):
    """With the address that we see, for Mixpanel's geography, and the time at which it came."""
    site = make()
    assert_taken(site.send([update("$add", {"visits": 1})], "engage"))
    (sent,) = site.spool.messages("engage")
    assert sent == {**update("$add", {"visits": 1}), "$ip": "127.0.0.1", "$time": NOW_S}


def test_a_group_update_goes_to_its_endpoint(make):
    """Which knows no address."""
    site = make()
    sent = update(**{"$group_key": "company", "$group_id": "Acme"})
    assert_taken(site.send([sent], "groups"))
    assert site.spool.messages("groups") == [{**sent, "$time": NOW_S}]


def test_what_is_missing_is_made(make):
    """An old SDK sends no insert ID."""
    site = make()
    assert_taken(site.send([event(**{"$insert_id": None, "time": None})]))
    (properties,) = site.properties
    assert properties["time"] == round(NOW_S * 1000)
    assert properties["$insert_id"].startswith("insert-")


def test_no_cookie_is_set(make):
    """A page whose SDK keeps its ID elsewhere would become two visitors."""
    site = make(signed=False)
    assert_taken(site.send([event()]))
    assert not site.client.jar


def test_the_rest_of_the_site_goes_on(make):
    """The application answers what is not the collector's."""
    site = make()
    assert site.client.request("GET", "/m/").text == DEVICE
    assert site.client.request("POST", "/m/tracks/").text == DEVICE


def test_without_a_path_there_is_none(make):
    """It is off by default."""
    tracker, spool = recording_tracker()
    for client in CLIENTS.values():
        assert client(tracker).request("POST", "/m/track/", PAGE, form([event()])).status == 200
    assert spool.records == []


# --- what is in them ------------------------------------------------------------------------------------


def test_secrets_are_taken_out(make):
    """By the names of properties, and in the queries of addresses."""
    site = make()
    site.send([event(password="hush", **{"$current_url": "http://localhost/?access_token=abc"})])
    (properties,) = site.properties
    assert properties["password"] == "REDACTED"
    assert properties["$current_url"] == "http://localhost/?access_token=REDACTED"
    assert properties["token"] == TOKEN
    site.send([update("$set", {"password": "hush", "$initial_referrer": "http://a/?token=x"})], "engage")
    (profile,) = site.spool.messages("engage")
    assert profile["$set"] == {"password": "REDACTED", "$initial_referrer": "http://a/?token=REDACTED"}


def test_before_send_has_the_last_word(make):
    """On the browser's events as on our own."""

    def before_send(given):
        given["properties"]["seen"] = given["properties"]["ip"]
        return None if given["event"] == "Unwanted" else given

    site = make(before_send=before_send)
    assert site.send([event("Unwanted"), event("Wanted")]).status == 200
    assert site.spool.names == ["Wanted"]
    assert site.properties[0]["seen"] == "127.0.0.1"
    assert site.refused == {"before_send": 1}


@pytest.mark.parametrize("client_ip", ["send", "truncate", "off"])
def test_the_address_is_that_of_the_policy(make, client_ip):
    """Whichever it is for the server's own events."""
    site = make(client_ip=client_ip, trusted_proxies="127.0.0.1")
    site.send([event()], headers={"x-forwarded-for": "203.0.113.7"})
    expected = {"send": "203.0.113.7", "truncate": "203.0.113.0", "off": "0"}
    assert site.properties[0]["ip"] == expected[client_ip]


def test_a_page_that_wants_no_geography(make):
    """`ip: false` in `mixpanel.init`."""
    site = make()
    site.send([event()], query="verbose=1&ip=0&_=1")
    assert site.properties[0]["ip"] == "0"


def test_the_plan_is_asked(make):
    """What differs from it is counted and sent, as with our own events in production."""
    site = make(plan=Plan())
    assert_taken(site.send([event()]))
    assert site.notes["off_plan"] == 1


def test_a_test_that_captures_sees_them(make):
    """And nothing is raised at a browser."""
    site = make()
    with capture_events() as events:
        assert site.send([event("Seen"), event("", token=TOKEN)]).status == 200
    assert events.names == ["Seen"]


def test_a_dry_run_stores_nothing(make):
    """It logs."""
    site = make(dry_run=True)
    assert_taken(site.send([event()]))
    assert site.spool.records == []


def test_what_the_doctor_asks(make):
    """A batch without events says which address events get."""
    assert json.loads(make().send([]).body)["address"] == "local"
    assert json.loads(make().send([], headers={"x-forwarded-for": "8.8.8.8"}).body)["address"] == "proxy"
    trusting = make(trusted_proxies="127.0.0.1")
    assert json.loads(trusting.send([], headers={"x-forwarded-for": "8.8.8.8"}).body)["address"] == "client"
