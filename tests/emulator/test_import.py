"""`POST /import`: credentials, limits, strictness and its answers."""

from __future__ import annotations

import base64
import gzip
import json

import pytest

from mixpanel_visitor.emulator import LocalMixpanel

UNAUTHORIZED = {"code": 401, "error": "Invalid credentials", "status": "Unauthorized"}


def test_good_events_are_counted_and_kept(client, local, event):
    """All good: 200 with how many were imported."""
    answer = client.import_([event(), event()])
    assert answer.status == 200
    assert answer.json() == {"code": 200, "num_records_imported": 2, "status": "OK"}
    assert [each.name for each in local.store.events()] == ["Page viewed", "Page viewed"]


def test_newline_delimited_json_is_taken(client, event):
    """As application/x-ndjson; blank lines do not matter."""
    body = b"\n".join(json.dumps(event()).encode() for _ in range(3)) + b"\r\n\n"
    answer = client.import_(body, Content_Type="application/x-ndjson")
    assert answer.json()["num_records_imported"] == 3


def test_a_gzip_body_is_taken(client, event):
    """By its Content-Encoding, even in several members."""
    body = json.dumps([event()]).encode()
    packed = gzip.compress(body[:10]) + gzip.compress(body[10:])
    assert client.import_(packed, Content_Encoding="gzip").status == 200


@pytest.mark.parametrize("cut", [1, 12, -1])
def test_a_gzip_body_that_ends_early_is_malformed(client, event, cut):
    """It is refused as a whole."""
    packed = gzip.compress(json.dumps([event()]).encode())
    assert client.import_(packed[:cut], Content_Encoding="gzip").status == 400


def test_a_body_that_is_not_gzip_but_says_so_is_malformed(client, event):
    """It is refused as a whole."""
    answer = client.import_([event()], Content_Encoding="gzip")
    assert answer.status == 400
    assert "gzip" in answer.json()["error"]


def test_other_encodings_are_not_supported(client, event):
    """Mixpanel documents gzip only."""
    assert client.import_([event()], Content_Encoding="br").status == 415


def test_strict_names_what_failed_and_takes_the_rest(client, local, event):
    """400, and the good ones were ingested all the same."""
    bad = event(time=5)
    answer = client.import_([event(), bad, event(distinct_id="null"), event()])
    assert answer.status == 400
    found = answer.json()
    assert {key: found[key] for key in ("code", "error", "num_records_imported", "status")} == {
        "code": 400,
        "error": "some data points in the request failed validation",
        "num_records_imported": 2,
        "status": "Bad Request",
    }
    assert [(each["index"], each["field"]) for each in found["failed_records"]] == [
        (1, "properties.time"),
        (2, "properties.distinct_id"),
    ]
    assert found["failed_records"][0]["insert_id"] == bad["properties"]["$insert_id"]
    assert local.store.stats()["received"] == 2
    assert local.store.stats()["rejected"] == 2


@pytest.mark.parametrize("query", ["strict=0", ""])
def test_without_strict_bad_events_are_dropped_in_silence(client, local, event, query):
    """200 with the number that was taken; the listing still says what was refused."""
    answer = client.import_([event(), event(time=5)], query=query)
    assert answer.status == 200
    assert answer.json()["num_records_imported"] == 1
    assert [each.field for each in local.store.rejections()] == ["properties.time"]


@pytest.mark.parametrize("body", [b"", b"[", b"{]", b'[{"event": NaN}]', b'["\xff"]', b"\x00", b"text"])
def test_malformed_json_is_refused_without_failed_records(client, local, body):
    """Nothing can be said of its records, and nothing is counted as one."""
    answer = client.import_(body)
    assert answer.status == 400
    assert set(answer.json()) == {"code", "error", "status"}
    assert local.store.stats()["rejected"] == 0
    assert local.store.rejections()[0].index is None


@pytest.mark.parametrize("body", [b"{}", b"1", b"[]"])
def test_the_body_is_a_list_of_at_least_one(client, body):
    """As the OpenAPI file says."""
    assert client.import_(body).status == 400


def test_2000_events_are_the_most(client, event):
    """One more is too large as a whole."""
    item = event()
    assert client.import_([item] * 2000).json()["num_records_imported"] == 2000
    answer = client.import_([item] * 2001)
    assert answer.status == 413
    assert answer.json()["status"] == "Request Entity Too Large"


@pytest.mark.parametrize("packed", [False, True])
def test_10_mb_uncompressed_are_the_most(client, local, event, packed):
    """Measured after decompression; the limit stands in the answer, and nothing was taken."""
    body = json.dumps([event(text="x" * 900_000) for _ in range(12)]).encode()
    headers = {"Content_Encoding": "gzip"} if packed else {}
    answer = client.import_(gzip.compress(body, 1) if packed else body, **headers)
    assert answer.status == 413
    assert answer.json() == {
        "code": 413,
        "error": "request exceeds max limit of 10485760 bytes",
        "status": "Request Entity Too Large",
    }
    assert local.store.stats()["received"] == 0


def test_the_connection_lives_on_after_a_body_that_was_too_large(client, event):
    """The whole body was read, so the next request is understood."""
    client.import_(b"x" * (11 * 1024 * 1024))
    assert client.import_([event()]).status == 200


def test_the_limit_may_be_another(connect, event):
    """As the 2,097,152 bytes of the OpenAPI file's example."""
    with LocalMixpanel(max_body_bytes=2_097_152) as local:
        answer = connect(local).import_([event(text="x" * 1_000_000) for _ in range(3)])
    assert answer.json()["error"] == "request exceeds max limit of 2097152 bytes"


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "Bearer abc",
        "Basic",
        "Basic " + base64.b64encode(b":").decode(),
        "Basic " + base64.b64encode(b":secret").decode(),
        "Basic " + base64.b64encode(b"token-without-colon").decode(),
    ],
)
def test_basic_credentials_are_required(client, local, event, authorization):
    """Without a user name there is nobody to import for; the listing tells what was wrong."""
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = client.request("POST", "/import?strict=1", json.dumps([event()]).encode(), headers)
    assert answer.status == 401
    assert answer.json() == UNAUTHORIZED
    assert local.store.rejections()[0].status == 401
    assert local.store.stats()["received"] == 0


def test_credentials_may_be_plain_text(client, event):
    """Mixpanel accepts both base64 and plain text."""
    assert client.import_([event()], Authorization="Basic some-token:").status == 200


def test_a_service_account_needs_a_project_id(client, event):
    """Its name and secret alone do not say which project."""
    assert client.import_([event()], user="name:secret").json() == UNAUTHORIZED
    assert client.import_([event()], user="name:secret", query="strict=1&project_id=5").status == 200


def test_any_token_is_let_in_by_default(client, event):
    """No account is needed to try things out."""
    assert client.import_([event()], user="whatever:").status == 200


def test_only_the_given_token_is_let_in(connect, event):
    """A wrong token and a service account are told apart from a good one."""
    with LocalMixpanel(token="good", now_ms=lambda: 1_800_000_000_000) as local:
        client = connect(local)
        assert client.import_([event()], user="bad:").json() == UNAUTHORIZED
        query = "strict=1&project_id=5"
        assert client.import_([event()], user="name:secret", query=query).json() == UNAUTHORIZED
        assert client.import_([event()], user="good:").status == 200


def test_import_takes_no_other_method(client):
    """405 says what is allowed: POST, and GET for the official Node library."""
    answer = client.request("PUT", "/import", b"[]")
    assert answer.status == 405
    assert answer.headers["allow"] == "GET, POST, OPTIONS"


def test_the_same_event_again_is_a_duplicate(client, local, event):
    """(event, time, distinct_id, $insert_id) make it the same."""
    item = event()
    client.import_([item])
    client.import_([item, event()])
    stats = local.store.stats()
    assert (stats["received"], stats["unique"], stats["duplicates"], stats["altered"]) == (3, 2, 1, 0)
    assert [each.deliveries for each in local.store.events()] == [2, 1]


def test_the_same_event_with_other_properties_is_altered(client, local, event):
    """It is counted, and the latest version is shown."""
    item = event(price=1)
    client.import_([item])
    item["properties"]["price"] = 2
    client.import_([item])
    assert local.store.stats()["altered"] == 1
    (stored,) = local.store.events()
    assert stored.altered
    assert stored.properties["price"] == 2


def test_the_order_of_properties_does_not_alter_an_event(client, local, event):
    """An object has no order."""
    item = event(a=1, b=2)
    client.import_([item])
    item["properties"] = dict(reversed(item["properties"].items()))
    client.import_([item])
    assert local.store.stats()["altered"] == 0
    assert local.store.stats()["duplicates"] == 1


@pytest.mark.parametrize("change", [{"time": 1_799_999_999_998}, {"distinct_id": "u-2"}])
def test_another_time_or_visitor_makes_another_event(client, local, event, change):
    """Every part of the key counts."""
    first = event(**{"$insert_id": "same"})
    client.import_([first, event(**{"$insert_id": "same", **change})])
    assert local.store.stats()["unique"] == 2


def test_a_time_in_the_future_defeats_deduplication(connect, event):
    """It is overwritten with the time of arrival, and that differs from delivery to delivery."""
    now = iter(range(1_800_000_000_000, 1_800_000_100_000))
    with LocalMixpanel(now_ms=lambda: next(now)) as local:
        client = connect(local)
        item = event(time=1_800_000_600_000)
        client.import_([item])
        client.import_([item])
        assert local.store.stats()["unique"] == 2
