"""`/track`: what browsers and the official library send, in each of its forms."""

from __future__ import annotations

import base64
import gzip
import json
import urllib.parse

import pytest

from mixpanel_visitor.emulator import LocalMixpanel

FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def form(**fields: str) -> bytes:
    """Write a form."""
    return urllib.parse.urlencode(fields).encode()


def test_a_form_with_json_is_taken(client, local, event):
    """The browser SDK's default, with its trailing slash."""
    answer = client.request("POST", "/track/", form(data=json.dumps(event("Signed up"))), FORM)
    assert (answer.status, answer.body) == (200, b"1")
    assert answer.headers["content-type"].startswith("text/plain")
    assert [each.name for each in local.store.events()] == ["Signed up"]


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_form_with_base64_is_taken(client, event, encode):
    """The older form, with an escaped plus sign or not."""
    data = encode(json.dumps(event(text="~~~???")).encode())
    assert client.request("POST", "/track", b"data=" + data, FORM).body == b"1"
    assert client.request("POST", "/track", form(data=data.decode()), FORM).body == b"1"


def test_a_form_without_its_content_type_is_taken(client, event):
    """The browser's sendBeacon calls it plain text."""
    body = form(data=json.dumps(event()))
    answer = client.request("POST", "/track/", body, {"Content-Type": "text/plain;charset=UTF-8"})
    assert answer.body == b"1"


def test_a_json_body_is_taken(client, event):
    """One event or a list."""
    assert client.post("/track", event()).body == b"1"
    assert client.post("/track", [event(), event()]).body == b"1"


def test_a_gzip_body_is_taken(client, event):
    """As the reference allows."""
    body = gzip.compress(json.dumps([event()]).encode())
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert client.request("POST", "/track", body, headers).body == b"1"


def test_data_may_stand_in_the_query(client, local, event):
    """A GET, as in a pixel of an e-mail."""
    answer = client.get("/track/?" + form(data=json.dumps(event("Opened"))).decode())
    assert answer.body == b"1"
    assert local.store.events()[0].name == "Opened"


def test_verbose_answers_json(client, event):
    """Status and error, as the official library reads them."""
    answer = client.request("POST", "/track", form(data=json.dumps(event()), verbose="1", ip="0"), FORM)
    assert answer.json() == {"error": None, "status": 1}
    assert answer.headers["content-type"] == "application/json"


def test_verbose_tells_what_is_wrong(client, event):
    """The reason, in words."""
    answer = client.post("/track?verbose=1", event(token=None))
    assert answer.json() == {"error": "'properties.token' must not be missing or blank", "status": 0}


def test_one_good_event_is_enough_for_a_1(client, local, event):
    """As documented; what was refused is listed and, if asked, told."""
    batch = [event(token=None), event(), event(token=None)]
    assert client.post("/track", batch).body == b"1"
    answer = client.post("/track?verbose=1", batch).json()
    assert answer["status"] == 1
    assert answer["error"].startswith("2 of 3 records refused")
    assert local.store.stats()["rejected"] == 4


@pytest.mark.parametrize("body", [b"", b"data=", b"other=1", b"data=%%%", b"data=eyJ", b"data=abcde"])
def test_a_form_without_data_is_a_0(client, body):
    """Nothing in it is valid, and the answer keeps to its form."""
    assert client.request("POST", "/track", body, FORM).body == b"0"
    answer = client.request("POST", "/track", body + b"&verbose=1", FORM).json()
    assert answer["status"] == 0
    assert answer["error"]


def test_a_list_without_events_is_a_0(client):
    """There is nothing valid in it, and the answer keeps to its form."""
    assert client.post("/track", []).body == b"0"
    assert client.post("/track?verbose=1", []).json() == {"error": "the request has no records", "status": 0}


def test_an_old_event_is_refused_and_counted(client, local, event):
    """More than five days are for /import."""
    assert client.post("/track", event(time=1_799_000_000)).body == b"0"
    assert local.store.stats()["rejected"] == 1


def test_events_without_an_insert_id_are_never_duplicates(client, local, event):
    """There is nothing to tell them by."""
    item = event(**{"$insert_id": None})
    client.post("/track", [item, item])
    assert local.store.stats()["unique"] == 2


def test_strict_answers_with_the_failed_records(client, event):
    """The Identity API documents it for /track as well; the status stays 200."""
    answer = client.post("/track?strict=1", [event(), event(token=None)])
    assert answer.status == 200
    assert answer.json()["num_records_imported"] == 1
    assert [each["index"] for each in answer.json()["failed_records"]] == [1]


def test_img_answers_a_pixel(client, event):
    """For places without JavaScript."""
    answer = client.get("/track?img=1&" + form(data=json.dumps(event())).decode())
    assert answer.headers["content-type"] == "image/gif"
    assert answer.body.startswith(b"GIF89a")


def test_callback_answers_a_call(client, event):
    """With the status as its argument."""
    answer = client.get("/track?callback=done.now&" + form(data=json.dumps(event())).decode())
    assert answer.headers["content-type"].startswith("text/javascript")
    assert answer.body == b"done.now(1);"


@pytest.mark.parametrize("callback", ["alert(1)//", "a b", "<script>", "1x", "x" * 101])
def test_a_callback_is_a_name(client, event, callback):
    """Nothing else is written into a script."""
    query = form(data=json.dumps(event()), callback=callback).decode()
    assert client.get("/track?" + query).body == b"1"


def test_another_token_is_refused_if_one_was_given(connect, event):
    """The whole request, as wrong credentials."""
    with LocalMixpanel(token="good", now_ms=lambda: 1_800_000_000_000) as local:
        client = connect(local)
        answer = client.post("/track", [event(token="good"), event(token="bad")])
        assert answer.status == 401
        assert answer.json()["status"] == "error"
        assert local.store.stats()["received"] == 0
        assert client.post("/track", event(token="good")).body == b"1"


def test_too_many_events_are_too_large(client, event):
    """2,000 are the most, here too."""
    assert client.post("/track", [event()] * 2001).status == 413


def test_a_website_may_send(client, event):
    """Its origin is let in with credentials, and told so."""
    answer = client.post("/track", event(), Origin="https://shop.example.com")
    assert answer.headers["access-control-allow-origin"] == "https://shop.example.com"
    assert answer.headers["access-control-allow-credentials"] == "true"
    assert answer.headers["vary"] == "Origin"


@pytest.mark.parametrize("path", ["/track", "/track/", "/engage/", "/groups/", "/import"])
def test_a_preflight_is_answered(client, path):
    """204, with the headers that our clients use."""
    headers = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"}
    answer = client.request("OPTIONS", path, headers=headers)
    assert (answer.status, answer.body) == (204, b"")
    assert "Content-Type" in answer.headers["access-control-allow-headers"]
    assert "POST" in answer.headers["access-control-allow-methods"]


def test_a_folded_origin_is_not_echoed(client, event):
    """Or it would become a header of its own."""
    answer = client.post("/track", event(), Origin="http://a\r\n X-Injected: 1")
    assert "x-injected" not in answer.headers
    assert "access-control-allow-origin" not in answer.headers
