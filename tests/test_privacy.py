"""Consent from end to end: what a handler can say, and what then becomes of events and cookies."""

import pytest
from support.facts import facts
from support.trackers import COOKIE, TOKEN, known, recording_tracker

from mixpanel_visitor.delivery.spool import SpoolCounts
from mixpanel_visitor.tracking.tracker import engine_of

OK = (200, lambda: [("content-type", "text/html")])
DEVICE = "6f1c2a3b-4d5e-4f60-8a7b-9c0d1e2f3a4b"
SDK_COOKIE = f"__mp_opt_in_out_{TOKEN}"


def begin(tracker, headers):
    return engine_of(tracker).begin(facts(headers), in_background=False)


def cookies(added):
    return [value for name, value in added if name == "set-cookie"]


def waiting(spool):
    """The names of the events that would be sent."""
    claim = spool.claim("import", 100, 10**6)
    return [] if claim is None else [b.split(b'"')[3].decode() for b in claim.bodies]


def test_an_opt_out_drops_what_was_queued_and_what_waits():
    """Of this visitor; of all others everything stays."""
    tracker, spool = recording_tracker()
    for headers in (known(DEVICE), known("11111111-2222-4333-8444-555555555555")):
        exchange, visitor = begin(tracker, headers)
        visitor.track("Earlier")
        engine_of(tracker).on_response_end(exchange, in_background=False)
    exchange, visitor = begin(tracker, known(DEVICE))
    visitor.track("Queued")
    visitor.opt_out()
    visitor.track("Afterwards")
    engine_of(tracker).on_response_start(exchange, *OK)
    engine_of(tracker).on_response_end(exchange, in_background=False)
    assert visitor.consent == "denied"
    assert waiting(spool) == ["Earlier"]
    stats = tracker.stats()
    assert stats["refused"] == {"consent_denied": 2}
    assert stats["accepted"] == 4
    assert (stats["delivered"], stats["pending"], stats["dead_lettered"]) == (0, 1, 1)


def test_a_users_events_go_with_the_opt_out():
    """Who is logged in has left some under the user's ID."""
    tracker, spool = recording_tracker()
    tracker.track("user-42", "In a job")
    exchange, visitor = begin(tracker, known(DEVICE))
    visitor.identify("user-42")
    visitor.opt_out()
    engine_of(tracker).on_response_end(exchange, in_background=False)
    assert waiting(spool) == []


def test_an_opt_out_is_told_to_the_browser():
    """Our cookie and the SDK's go; the choice is stored where the SDK looks for it."""
    tracker, _ = recording_tracker()
    exchange, visitor = begin(tracker, known(DEVICE))
    visitor.opt_out()
    set_cookies = cookies(engine_of(tracker).on_response_start(exchange, *OK))
    assert any(value.startswith(f"{COOKIE}=;") for value in set_cookies)
    assert any(value.startswith(f"{SDK_COOKIE}=0;") for value in set_cookies)
    assert any(value.startswith(f"mp_{TOKEN}_mixpanel=;") for value in set_cookies)


@pytest.mark.parametrize(("scheme", "site"), [("https", "None"), ("http", "Lax")])
def test_an_opt_out_comes_with_requests_of_other_sites(scheme, site):
    """A payment page that posts back brings no ID of ours, but this: it must not be tracked as a user's."""
    tracker, _ = recording_tracker()
    exchange, visitor = engine_of(tracker).begin(facts(known(), scheme=scheme), in_background=False)
    visitor.opt_out()
    added = [value for _, value in engine_of(tracker).on_response_start(exchange, 200, list)]
    (choice,) = [value for value in added if value.startswith(f"{COOKIE}_js=0")]
    assert f"SameSite={site}" in choice
    assert ("Secure" in choice) == (scheme == "https")


@pytest.mark.parametrize("cookie", [f"{SDK_COOKIE}=0", f"{COOKIE}_js=0"])
def test_who_has_opted_out_is_not_tracked(cookie):
    """The SDK's own cookie counts as ours does."""
    tracker, spool = recording_tracker()
    _, visitor = begin(tracker, {"cookie": cookie})
    visitor.track("Seen")
    assert visitor.consent == "denied"
    assert not spool.records


def test_an_opt_in_begins_anew():
    """With a new ID, from this request on; both opt-out cookies go."""
    tracker, spool = recording_tracker()
    exchange, visitor = begin(tracker, {"cookie": f"{SDK_COOKIE}=0; {COOKIE}_js=0"})
    visitor.opt_in()
    visitor.track("Back")
    set_cookies = cookies(engine_of(tracker).on_response_start(exchange, *OK))
    engine_of(tracker).on_response_end(exchange, in_background=False)
    assert visitor.consent == "granted"
    assert [event["properties"]["$device_id"] for event in spool.events] == [visitor.id]
    assert any(value.startswith(f"{COOKIE}=v") or visitor.id in value for value in set_cookies)
    assert any(value.startswith(f"{SDK_COOKIE}=;") for value in set_cookies)


def test_an_opt_in_of_who_is_tracked_changes_nothing():
    """The visitor stays who it is."""
    tracker, _ = recording_tracker()
    exchange, visitor = begin(tracker, known(DEVICE))
    visitor.opt_in()
    assert visitor.id == DEVICE
    assert not cookies(engine_of(tracker).on_response_start(exchange, *OK))


def test_opting_out_in_a_job():
    """There is no browser to tell; what waits is not sent, and this visitor tracks no more."""
    tracker, spool = recording_tracker()
    tracker.track("user-42", "Earlier")
    with tracker.visitor(user_id="user-42") as visitor:
        visitor.track("Gathered")
        visitor.opt_out()
        visitor.track("Afterwards")
    assert waiting(spool) == []
    tracker.visitor(user_id="user-42").track("Another visit")
    assert waiting(spool) == ["Another visit"]


def test_a_visitor_of_this_moment_has_left_nothing():
    """Nothing is noted for an ID of the same request: so nobody can fill the spool with them."""
    tracker, spool = recording_tracker()
    asked = []
    spool.withdraw = asked.append
    for _ in range(3):
        exchange, visitor = begin(tracker, {})
        visitor.track("Queued")
        visitor.opt_out()
        engine_of(tracker).on_response_end(exchange, in_background=False)
    assert asked == []
    assert not spool.records


def test_a_spool_that_cannot_forget_breaks_nothing():
    """Trouble is logged and counted, and the visitor is tracked no more."""
    tracker, spool = recording_tracker()

    def refuse(people):
        raise OSError("read-only")

    spool.withdraw = refuse
    exchange, visitor = begin(tracker, known(DEVICE))
    visitor.opt_out()
    engine_of(tracker).on_response_end(exchange, in_background=False)
    assert tracker.stats()["notes"] == {"internal_error": 1}
    assert isinstance(spool.counts(), SpoolCounts)
