"""Answers: each answer of the table leads to what the table says, and no bytes make it raise."""

from __future__ import annotations

import email.utils
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mixpanel_visitor.delivery.sending.http_client import Response
from mixpanel_visitor.delivery.sending.responses import (
    FUTURE_WAIT_MAX_S,
    FUTURE_WAIT_MIN_S,
    RETRY_AFTER_MAX_S,
    Verdict,
    interpret,
    retry_after_s,
    server_time_s,
)
from mixpanel_visitor.records import ENDPOINTS

NOW_S = 1_760_000_000.0
PROFILES = ("engage", "groups")


def event(insert_id: str, time_s: float = NOW_S) -> bytes:
    """An event as it is stored."""
    properties = {"time": time_s, "$insert_id": insert_id, "distinct_id": "someone"}
    return json.dumps({"event": "Seen", "properties": properties}).encode()


EVENTS = [event("id-0"), event("id-1"), event("id-2")]
PROFILE = b'{"$token":"t","$distinct_id":"someone","$set":{"a":1}}'


def judge(
    status, body=b"", *, endpoint="import", records=EVENTS, headers=None, failure="", sent=True
) -> Verdict:
    """What is made of such an answer."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    answer = Response(status=status, headers=headers or {}, body=body, failure=failure, sent=sent)
    return interpret(endpoint, answer, records, now_s=NOW_S)


def failed(*entries, imported=None) -> dict:
    """The body of a StrictInvalid answer."""
    body = {"code": 400, "status": "Bad Request", "failed_records": list(entries)}
    return body if imported is None else {**body, "num_records_imported": imported}


# --- taken -------------------------------------------------------------------------------------


def test_a_200_with_code_200_delivers_all():
    """Mixpanel's StrictReceived acknowledges the whole batch."""
    verdict = judge(200, {"code": 200, "num_records_imported": 3, "status": "OK"})
    assert (verdict.kind, verdict.delivered(3), verdict.shortfall) == ("delivered", [0, 1, 2], 0)


def test_a_200_that_counts_less_is_a_shortfall():
    """Fewer imported than sent is delivered, and counted."""
    verdict = judge(200, {"code": 200, "num_records_imported": 1})
    assert (verdict.kind, verdict.shortfall) == ("delivered", 2)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Welcome to our Wi-Fi</html>",
        b'{"code":20',
        b"1",
        b"[]",
        {"code": 500},
        {"code": True},
        {},
    ],
)
def test_a_200_with_anything_else_is_transient_for_events(body):
    """A proxy's page, an empty body or a truncated one acknowledges nothing."""
    verdict = judge(200, body)
    assert (verdict.kind, verdict.status_class, verdict.delivered(3)) == ("retry", "garbage", [])


@pytest.mark.parametrize("status", [100, 201, 202, 204])
def test_other_successes_are_transient(status):
    """Mixpanel says 200; any other 2xx is somebody else's."""
    assert judge(status, {"code": 200}).kind == "retry"


@pytest.mark.parametrize("endpoint", PROFILES)
@pytest.mark.parametrize("body", [b"1", b" 1\n", {"status": 1, "error": None}, {"code": 200, "status": "OK"}])
def test_profiles_are_delivered_by_one(endpoint, body):
    """Profile endpoints say 1, verbose or plain, or answer like the strict import."""
    assert judge(200, body, endpoint=endpoint).kind == "delivered"


@pytest.mark.parametrize("body", [b"true", b"", b'"1"', {"status": True}, {"status": "ok"}, b"<html>"])
def test_profiles_with_any_other_200_are_transient(body):
    """What is neither 1 nor 0 is not Mixpanel's."""
    assert judge(200, body, endpoint="engage").kind == "retry"


# --- refused -----------------------------------------------------------------------------------


def test_failed_records_are_dead_and_the_others_delivered():
    """A 400 with failed records means that the others were ingested."""
    entry = {"index": 1, "insert_id": "id-1", "field": "properties.time", "message": "is invalid"}
    verdict = judge(400, failed(entry, imported=2))
    assert (verdict.kind, verdict.delivered(3), list(verdict.dead)) == ("partial", [0, 2], [1])


def test_a_dead_record_carries_mixpanels_reason():
    """Field, message and status are kept for whoever reads the dead letters."""
    reason = judge(400, failed({"index": 0, "field": "event", "message": "must not be empty"})).dead[0]
    assert (reason.field, reason.message, reason.status) == ("event", "must not be empty", 400)


def test_the_log_line_names_fields_but_no_messages():
    """Mixpanel's messages may quote the event, so they stay out of the log."""
    verdict = judge(400, failed({"index": 0, "field": "event", "message": "'secret name' is invalid"}))
    assert "event" in verdict.message
    assert "secret name" not in verdict.message


@pytest.mark.parametrize("spelling", ["insert_id", "$insert_id"])
def test_the_id_overrules_a_wrong_index(spelling):
    """Where index and id disagree, the record with that id is meant, in either spelling."""
    verdict = judge(400, failed({"index": 0, spelling: "id-2", "message": "bad"}))
    assert list(verdict.dead) == [2]


def test_an_id_is_enough_without_an_index():
    """A record may be named by its id alone."""
    assert list(judge(400, failed({"insert_id": "id-1", "message": "bad"})).dead) == [1]


@pytest.mark.parametrize("index", [0, 0.0])
def test_an_index_is_enough_without_an_id(index):
    """A record may be named by its index alone; the OpenAPI calls it a number."""
    assert list(judge(400, failed({"index": index, "insert_id": "", "message": "bad"})).dead) == [0]


def test_a_record_that_is_no_json_is_found_by_its_index():
    """What cannot be read has no id to verify."""
    entry = {"index": 0, "insert_id": "made by the server", "message": "bad"}
    assert list(judge(400, failed(entry), records=[b"garbage", *EVENTS]).dead) == [0]


def test_two_ids_overrule_their_indexes():
    """The records of a batch are looked through once for all entries."""
    entries = [{"index": 0, "insert_id": "id-2"}, {"index": 2, "insert_id": "id-0"}]
    assert sorted(judge(400, failed(*entries)).dead) == [0, 2]


def test_an_id_cannot_be_verified_on_a_record_without_one():
    """Profile updates have no insert id: there the index counts."""
    entry = {"index": 1, "insert_id": "made by the server", "message": "bad"}
    assert list(judge(400, failed(entry), endpoint="engage", records=[PROFILE] * 2).dead) == [1]


@pytest.mark.parametrize(
    "entry",
    [
        {"index": 0, "insert_id": "unknown"},
        {"index": 3},
        {"index": -1},
        {"index": True},
        {"index": 0.5},
        {"index": 0, "insert_id": 7},
        {"index": 0, "insert_id": ["id-0"]},
        {},
        "text",
        None,
    ],
)
def test_an_entry_that_fits_no_record_makes_the_answer_unusable(entry):
    """Rather than blame the wrong record, the batch is bisected."""
    verdict = judge(400, failed({"index": 1, "insert_id": "id-1"}, entry))
    assert (verdict.kind, verdict.dead) == ("bisect", {})


@pytest.mark.parametrize(
    "body", [b"", b"Bad Request", {"code": 400, "error": "no"}, failed(), {"failed_records": 1}]
)
def test_a_400_without_records_is_bisected(body):
    """Nobody says which record is at fault: search for it."""
    assert judge(400, body).kind == "bisect"


def test_a_400_for_a_single_record_is_poison():
    """A single refused record is set aside with what Mixpanel said."""
    verdict = judge(400, {"code": 400, "error": "malformed"}, records=EVENTS[:1])
    assert (verdict.kind, verdict.status_class) == ("partial", "poison")
    assert verdict.dead[0].message == "poison: malformed"


def test_two_problems_of_one_record_are_one_dead_letter():
    """Both messages are kept, under the first field."""
    entries = [{"index": 0, "field": "a", "message": "one"}, {"index": 0, "field": "b", "message": "two"}]
    reason = judge(400, failed(*entries)).dead[0]
    assert (reason.field, reason.message) == ("a", "one; two")


def test_a_400_counts_its_shortfall_against_the_records_it_accepted():
    """What neither failed nor was imported is counted."""
    assert judge(400, failed({"index": 0, "message": "bad"}, imported=1)).shortfall == 1


@pytest.mark.parametrize("body", [b"0", {"status": 0, "error": "some reason"}])
def test_a_profile_answer_of_zero_is_bisected(body):
    """A 200 that says 0 is a refusal that names nobody."""
    assert judge(200, body, endpoint="engage", records=[PROFILE] * 2).kind == "bisect"


def test_a_profile_answer_of_zero_for_one_record_is_poison():
    """A single refused profile update is set aside with the error."""
    verdict = judge(200, {"status": 0, "error": "no $token"}, endpoint="groups", records=[PROFILE])
    assert verdict.dead[0].message == "poison: no $token"


@pytest.mark.parametrize("status", [0, "Bad Request"])
def test_a_profile_answer_with_failed_records_uses_them(status):
    """A strict profile answer names its records even under a 200."""
    body = {"code": 400, "status": status, "failed_records": [{"index": 1, "message": "bad"}]}
    verdict = judge(200, body, endpoint="engage", records=[PROFILE] * 2)
    assert (verdict.kind, verdict.delivered(2), list(verdict.dead)) == ("partial", [0], [1])


# --- time in the future ------------------------------------------------------------------------

FUTURE = {"index": 1, "field": "properties.time", "message": "'properties.time' is invalid: in the future"}


def future_verdict(ahead_s: float, headers=None) -> Verdict:
    """What is made of a batch whose second event is so far ahead of our clock."""
    records = [event("id-0"), event("id-1", NOW_S + ahead_s)]
    return judge(400, failed(FUTURE), records=records, headers=headers)


def test_a_time_in_the_future_is_kept():
    """A fast clock is no reason to lose an event."""
    verdict = future_verdict(7_200)
    assert (verdict.delivered(2), verdict.retry, verdict.dead) == ([0], (1,), {})


@pytest.mark.parametrize(
    ("ahead_s", "wait_s"), [(5, FUTURE_WAIT_MIN_S), (300, 300.0), (86_400, FUTURE_WAIT_MAX_S)]
)
def test_a_future_event_waits_for_its_time_within_bounds(ahead_s, wait_s):
    """The wait is what is missing, at least a minute and at most ten."""
    assert future_verdict(ahead_s).wait_s == wait_s


def test_the_future_is_measured_by_mixpanels_clock():
    """A Date header tells how far ahead the event is where our own clock is wrong."""
    date = email.utils.formatdate(NOW_S - 200, usegmt=True)
    assert future_verdict(0, {"date": date}).wait_s == 200.0


def test_a_time_in_milliseconds_is_understood():
    """Mixpanel takes both units, and so does the wait."""
    records = [event("id-0"), event("id-1", (NOW_S + 300) * 1000)]
    assert judge(400, failed(FUTURE), records=records).wait_s == pytest.approx(300.0)


def test_a_date_of_next_year_is_a_mistake():
    """What would block for months goes to the dead letters."""
    verdict = future_verdict(365 * 86_400)
    assert (verdict.retry, list(verdict.dead)) == ((), [1])


def test_another_problem_beside_the_future_is_final():
    """An event that is invalid in some other way as well will not get better by waiting."""
    records = [event("id-0"), event("id-1", NOW_S + 7_200)]
    verdict = judge(400, failed(FUTURE, {"index": 1, "field": "event", "message": "empty"}), records=records)
    assert (verdict.retry, list(verdict.dead)) == ((), [1])


# --- too large, configuration, transient -------------------------------------------------------


def test_a_413_with_a_figure_teaches_it():
    """Mixpanel's text holds the limit."""
    verdict = judge(413, {"code": 413, "error": "request exceeds max limit of 2097152 bytes"})
    assert (verdict.kind, verdict.limit_bytes) == ("split", 2_097_152)


def test_a_413_without_a_figure_is_split_too():
    """A proxy's 413 names no limit."""
    verdict = judge(413, b"<h1>413 Request Entity Too Large</h1>")
    assert (verdict.kind, verdict.limit_bytes) == ("split", None)


def test_a_413_for_a_single_record_is_dead():
    """A record that is too large alone can never be sent."""
    verdict = judge(413, b"", records=EVENTS[:1])
    assert (verdict.kind, verdict.dead[0].status) == ("partial", 413)


@pytest.mark.parametrize("status", [301, 302, 307, 308, 401, 402, 403, 404, 405, 407, 410, 422, 451])
def test_a_wrong_configuration_pauses(status):
    """Nothing is dead for a wrong token, region or proxy."""
    verdict = judge(status, {"error": "Invalid credentials"}, records=EVENTS[:1])
    assert (verdict.kind, verdict.dead) == ("pause", {})


def test_refused_credentials_are_explained():
    """The message holds the status and Mixpanel's words."""
    assert "401: Invalid credentials" in judge(401, {"error": "Invalid\ncredentials"}).message.replace(
        "  ", " "
    )


@pytest.mark.parametrize(
    ("status", "status_class"),
    [
        (0, "network"),
        (408, "server"),
        (425, "server"),
        (429, "rate_limited"),
        (500, "server"),
        (503, "server"),
    ],
)
def test_transient_trouble_is_retried(status, status_class):
    """Time-outs, rate limits, server errors and no answer at all: everything is sent again."""
    verdict = judge(status, failure="" if status else "timeout: no bytes")
    assert (verdict.kind, verdict.status_class) == ("retry", status_class)


@pytest.mark.parametrize("status", [0, 200, 400])
def test_a_mistake_of_our_own_is_not_called_the_network(status):
    """It is named with type and place, and everything is sent again."""
    verdict = judge(status, failure="internal: TypeError at delivery/x.py:7: no")
    assert (verdict.kind, verdict.status_class, verdict.unknown) == ("retry", "internal", True)
    assert verdict.message == "mixpanel-visitor itself failed (internal: TypeError at delivery/x.py:7: no)"


@pytest.mark.parametrize("status", [200, 400])
def test_a_body_that_ended_early_decides_nothing(status):
    """Even one that could be read: it is not the one that Mixpanel sent."""
    body = failed({"index": 0, "message": "bad"}) | {"code": status}
    assert judge(status, body, failure="protocol: IncompleteRead").kind == "retry"


def test_a_status_that_needs_no_body_counts_without_it():
    """A 401 whose body was cut is still a 401."""
    assert judge(401, b'{"err', failure="reset: by peer").kind == "pause"


# --- waits -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("30", 30.0),
        (" 1.5 ", 1.5),
        ("0", 0.0),
        ("1000000000", RETRY_AFTER_MAX_S),
        ("9" * 5_000, RETRY_AFTER_MAX_S),
        ("-5", None),
        ("soon", None),
        ("", None),
        ("\u0661\u0662", None),
        ("nan", None),
        (email.utils.formatdate(NOW_S + 90, usegmt=True), 90.0),
        (email.utils.formatdate(NOW_S + 9_000, usegmt=True), RETRY_AFTER_MAX_S),
        (email.utils.formatdate(NOW_S - 90, usegmt=True), 0.0),
        ("Wed, 21 Oct 99999 07:28:00 GMT", None),
    ],
)
def test_retry_after_is_understood_and_clamped(value, seconds):
    """Seconds or a date, never negative, never more than ten minutes, and nonsense is ignored."""
    assert retry_after_s({"retry-after": value}, NOW_S) == seconds


def test_a_retry_after_date_is_compared_with_the_servers_date():
    """Both dates are by the server's clock, so ours does not matter."""
    headers = {
        "retry-after": email.utils.formatdate(5_000_060, usegmt=True),
        "date": email.utils.formatdate(5_000_000, usegmt=True),
    }
    assert retry_after_s(headers, NOW_S) == 60.0


def test_retry_after_reaches_the_verdict():
    """A 429 passes its wait on."""
    assert judge(429, headers={"retry-after": "42"}).wait_s == 42.0


def test_the_date_header_is_read():
    """The server's clock serves to notice that ours is wrong."""
    assert server_time_s({"date": email.utils.formatdate(NOW_S, usegmt=True)}) == NOW_S


def test_a_date_without_a_zone_is_gmt():
    """HTTP knows no other zone."""
    assert server_time_s({"date": "Thu, 09 Oct 2025 08:53:20 -0000"}) == NOW_S


# --- anything ----------------------------------------------------------------------------------

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
entries = st.dictionaries(
    st.sampled_from(["index", "insert_id", "$insert_id", "field", "message"]),
    st.integers(-1, 5)
    | st.sampled_from(["id-0", "id-1", "time in the future"])
    | scalars
    | st.lists(scalars),
)
objects = st.dictionaries(
    st.sampled_from(["code", "status", "error", "num_records_imported", "failed_records"]),
    st.sampled_from([0, 1, 200, 400]) | scalars | st.lists(entries | scalars, max_size=4),
)
bodies = st.binary(max_size=60) | objects.map(lambda value: json.dumps(value).encode())
headers = st.dictionaries(
    st.sampled_from(["retry-after", "date"]),
    st.text(max_size=20) | st.datetimes().map(lambda at: at.strftime("%a, %d %b %Y %H:%M:%S GMT")),
)
statuses = st.sampled_from([0, 200, 301, 400, 401, 413, 429, 503]) | st.integers(-1, 1_000)
batches = st.lists(st.sampled_from([*EVENTS, PROFILE]) | st.binary(max_size=20), min_size=1, max_size=6)


@given(
    st.sampled_from(ENDPOINTS), statuses, headers, bodies, st.sampled_from(["", "reset: by peer"]), batches
)
@example("import", 400, {}, b"[" * 100_000, "", EVENTS)
@example("import", 413, {}, b"limit of " + b"9" * 10_000 + b" bytes", "", EVENTS)
def test_every_record_is_accounted_for(endpoint, status, headers, body, failure, records):
    """No answer raises, and each record has exactly one fate."""
    verdict = judge(status, body, endpoint=endpoint, records=records, headers=headers, failure=failure)
    count = len(records)
    delivered = verdict.delivered(count)
    if verdict.kind in ("delivered", "partial"):
        assert sorted([*delivered, *verdict.dead, *verdict.retry]) == list(range(count))
    else:
        assert not delivered
        assert not verdict.dead
        assert not verdict.retry
    assert verdict.wait_s is None or 0 <= verdict.wait_s <= RETRY_AFTER_MAX_S
    assert count > 1 or verdict.kind not in ("split", "bisect")


@given(statuses, bodies)
def test_only_an_acknowledgement_lets_events_go(status, body):
    """Of all answers, only a 200 with code 200 and a 400 with the failed records deliver an event."""
    verdict = judge(status, body)
    if verdict.delivered(3):
        parsed = json.loads(body)
        assert parsed.get("failed_records") if status == 400 else parsed["code"] == 200
