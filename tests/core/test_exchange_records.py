"""Exchange: when records are handed over, and whose events they are."""

import sys
import threading

import orjson
import pytest
from support.exchanges import DEVICE, OK, RECORD, House, sdk_cookie
from support.facts import BROWSER_DOCUMENT, BROWSER_FETCH

from mixpanel_visitor.core.exchange import COMMIT_AT_RECORDS
from mixpanel_visitor.records import Record


def ended(exchange):
    """End the exchange; return the records that are left."""
    assert exchange.on_response_end() is None
    return exchange.take()


def test_records_leave_once(house):
    """What was taken is not taken again."""
    exchange = house.open(house.cookie())
    exchange.add(RECORD)
    assert exchange.has_records
    assert exchange.take() == [RECORD]
    assert exchange.take() == []
    assert not exchange.has_records


def test_a_full_request_hands_over_early(house):
    """A stream that tracks without end does not grow without end."""
    exchange = house.open(house.cookie())
    due = [len(exchange.add(RECORD)) for _ in range(COMMIT_AT_RECORDS * 2)]
    assert [count for count in due if count] == [COMMIT_AT_RECORDS, COMMIT_AT_RECORDS]


def test_large_records_hand_over_early(house):
    """So do a few large ones."""
    exchange = house.open()
    assert [len(exchange.add(Record("import", b"x" * 600_000))) for _ in range(3)] == [0, 2, 0]


def test_threads_that_track_the_first_event_at_once_lose_none(house):
    """The queue is made by the first event, and there is one, however many threads come for it at once."""

    def track(exchange, ready):
        ready.wait()
        exchange.add(RECORD)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(100):
            exchange, ready = house.open(house.cookie()), threading.Barrier(4)
            threads = [threading.Thread(target=track, args=(exchange, ready)) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(exchange.take()) == 4
    finally:
        sys.setswitchinterval(interval)


def test_what_comes_after_the_end_is_handed_over_at_once(house):
    """A thread that outlives its request loses nothing."""
    exchange = house.open()
    assert ended(exchange) == []
    assert exchange.add(RECORD) == [RECORD]


def test_a_socket_hands_over_each_record(house):
    """There is no end of the response to wait for."""
    exchange = house.open(house.cookie(), protocol="websocket")
    assert exchange.add(RECORD) == [RECORD]


# --- whose events ------------------------------------------------------------------------------------


def event(**properties):
    return Record("import", orjson.dumps({"event": "x", "properties": properties}))


def distinct_ids(records):
    return [orjson.loads(record.body)["properties"]["distinct_id"] for record in records]


def test_a_new_visitors_events_wait_for_the_answer(house):
    """Whether the ID is worth anything, the answer decides."""
    exchange = house.open(BROWSER_DOCUMENT)
    exchange.add(event(distinct_id="$device:fresh-1"))
    assert not exchange.has_records
    exchange.on_response_start(*OK)
    assert distinct_ids(exchange.take()) == ["$device:fresh-1"]


@pytest.mark.parametrize(
    ("headers", "method", "response"),
    [
        (BROWSER_DOCUMENT, "GET", (304, list)),
        (BROWSER_DOCUMENT, "GET", (200, lambda: [("Cache-Control", "public, max-age=60")])),
        (BROWSER_DOCUMENT, "HEAD", OK),
        ({**BROWSER_DOCUMENT, "sec-purpose": "prefetch"}, "GET", OK),
        ({**BROWSER_FETCH, "sec-fetch-site": "cross-site"}, "POST", OK),
    ],
)
def test_where_no_cookie_can_be_set_events_are_nobodys(house, headers, method, response):
    """They must not become a new person each; with an empty distinct ID Mixpanel only counts them."""
    exchange = house.open(headers, method=method)
    exchange.add(event(**{"distinct_id": "$device:fresh-1", "$device_id": "fresh-1"}))
    assert exchange.on_response_start(*response).headers == []
    assert distinct_ids(ended(exchange)) == [""]


def test_the_browsers_own_id_needs_no_cookie_of_ours(house):
    """It comes again with the next request anyway."""
    exchange = house.open({**BROWSER_DOCUMENT, "cookie": sdk_cookie(house, DEVICE)})
    exchange.add(event(distinct_id=f"$device:{DEVICE}"))
    exchange.on_response_start(200, lambda: [("Cache-Control", "public")])
    assert distinct_ids(ended(exchange)) == [f"$device:{DEVICE}"]


def test_a_request_without_any_answer_is_nobodys(house):
    """Its handler failed, and the server's own answer passes us by."""
    exchange = house.open()
    exchange.add(event(distinct_id="$device:fresh-1"))
    assert distinct_ids(ended(exchange)) == [""]


def test_a_tagged_bot_is_nobody():
    """Its events may go through, but no visitor is minted for it."""
    exchange = House(bots="tag").open({"user-agent": "Googlebot/2.1"})
    exchange.add(event(distinct_id=f"$device:{exchange.identity.device_id}"))
    exchange.on_response_start(*OK)
    assert distinct_ids(ended(exchange)) == [""]


def test_a_log_out_after_the_head_makes_nobody(house):
    """The new ID can no longer reach the browser."""
    exchange = house.open(house.cookie(user_id="anna"))
    exchange.on_response_start(*OK)
    exchange.reset(house.fresh)
    exchange.add(event(distinct_id="$device:fresh-1"))
    assert distinct_ids(ended(exchange)) == [""]
