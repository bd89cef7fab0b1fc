"""Tracker: where core and delivery meet. Its counters add up whatever happens."""

import pytest
from support.delivering import SETTINGS, accepting
from support.facts import facts
from support.trackers import NOW_S, known, recording_tracker
from support.waiting import PATIENCE_S, wait_until

from mixpanel_visitor import asgi, wsgi
from mixpanel_visitor.core.exchange import COMMIT_AT_RECORDS
from mixpanel_visitor.core.identity.spid_browser import signed_payload
from mixpanel_visitor.delivery.sending.http_client import Response
from mixpanel_visitor.errors import SettingsError, SpoolError, SpoolFullError
from mixpanel_visitor.tracking.dependencies import Dependencies
from mixpanel_visitor.tracking.tracker import Tracker, engine_of


def balanced(stats):
    settled = stats["delivered"] + stats["dead_lettered"] + sum(stats["refused"].values())
    return stats["accepted"] == settled + stats["pending"] and stats["pending"] == (
        stats["buffered"] + stats["spooled"]
    )


def test_wrong_settings_raise_at_construction():
    """All mistakes at once, and nothing else of ours ever raises."""
    with pytest.raises(SettingsError) as caught:
        Tracker(secret_key="a-key-of-some-length", regoin="eu")
    assert len(caught.value.problems) == 2


def test_events_are_delivered_and_the_ledger_adds_up():
    """From `track` to acknowledged, through the spool and the sender."""
    requests = []
    tracker = Tracker(**SETTINGS, dependencies=Dependencies(post=accepting(requests)))
    with tracker.visitor("u") as visitor:
        visitor.track("a")
        visitor.people_set({"x": 1})
        visitor.track("")
    assert tracker.flush(timeout_s=PATIENCE_S)
    stats = tracker.stats()
    assert (stats["accepted"], stats["delivered"], stats["pending"]) == (3, 2, 0)
    assert stats["refused"] == {"bad_name": 1}
    assert balanced(stats)
    assert sorted(endpoint for endpoint, _ in requests) == ["engage", "import"]
    tracker.close()


def test_open_requests_count_as_pending():
    """What a handler has queued is not lost from the books before the response ends."""
    tracker, _ = recording_tracker()
    exchange, visitor = engine_of(tracker).begin(facts(), in_background=True)
    visitor.track("x")
    stats = tracker.stats()
    assert (stats["accepted"], stats["pending"], stats["buffered"]) == (1, 1, 1)
    assert balanced(stats)
    engine_of(tracker).on_response_end(exchange, in_background=False)
    stats = tracker.stats()
    assert (stats["pending"], stats["buffered"], stats["spooled"]) == (1, 0, 1)
    assert balanced(stats)


class BrokenSpool:
    """Fails in the way it was told to."""

    def __init__(self, inner, error):
        self.inner = inner
        self.error = error

    def put(self, records):
        raise self.error

    def __getattr__(self, name):
        return getattr(self.inner, name)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SpoolFullError("1 GB"), "spool_full"),
        (SpoolError("?"), "spool_error"),
        (RuntimeError("bug"), "internal_error"),
    ],
)
def test_a_spool_that_fails_costs_events_and_nothing_else(error, reason, caplog):
    """Refused, counted, logged; the request goes on."""
    _, spool = recording_tracker()
    tracker = Tracker(**SETTINGS, deliver=False, dependencies=Dependencies(spool=BrokenSpool(spool, error)))
    exchange, visitor = engine_of(tracker).begin(facts(), in_background=False)
    visitor.track("x")
    visitor.track("y")
    engine_of(tracker).on_response_end(exchange, in_background=False)
    stats = tracker.stats()
    assert stats["refused"] == {reason: 2}
    assert balanced(stats)
    assert caplog.records


def test_disabled_tracks_nothing_and_sets_nothing():
    """`enabled=False`: handlers still find a visitor."""
    tracker, spool = recording_tracker(enabled=False)
    exchange, visitor = engine_of(tracker).begin(facts(), in_background=False)
    visitor.track("x")
    assert engine_of(tracker).on_response_start(exchange, 200, list) == []
    engine_of(tracker).on_response_end(exchange, in_background=False)
    assert spool.records == []
    assert tracker.stats()["refused"] == {"disabled": 1}


def test_dry_run_logs_instead_of_sending(caplog):
    """Every event is validated and shown; none is stored or sent."""
    caplog.set_level("INFO", "mixpanel_visitor")
    tracker, spool = recording_tracker(dry_run=True)
    tracker.track("u", "Signed up")
    assert spool.records == []
    assert "Signed up" in caplog.text
    assert tracker.stats()["refused"] == {"dry_run": 1}


def test_one_liners_use_exactly_the_given_id():
    """`tracker.track` is for those who know their distinct ID."""
    tracker, spool = recording_tracker()
    tracker.track("user-42", "a", {"x": 1}, y=2)
    tracker.track("$device:abc", "b")
    one, two = (event["properties"] for event in spool.events)
    assert (one["distinct_id"], one["x"], one["y"]) == ("user-42", 1, 2)
    assert "$device_id" not in one
    assert (two["distinct_id"], two["$device_id"]) == ("$device:abc", "abc")


@pytest.mark.parametrize("answer", ["denied", "unknown", "nonsense", None, RuntimeError("bug")])
def test_consent_is_asked_and_its_mistakes_mean_no(answer):
    """Whatever is not `granted` tracks nothing."""

    def consent(_facts):
        if isinstance(answer, Exception):
            raise answer
        return answer

    tracker, spool = recording_tracker(consent=consent)
    exchange, visitor = engine_of(tracker).begin(facts(), in_background=False)
    visitor.track("x")
    assert engine_of(tracker).on_response_start(exchange, 200, list) == []
    engine_of(tracker).on_response_end(exchange, in_background=False)
    assert spool.records == []
    assert visitor.consent in ("denied", "unknown")


def test_a_failing_request_filter_leaves_nothing_alone(caplog):
    """It is logged; the request is treated as any other."""

    def broken(_facts):
        raise RuntimeError("bug")

    tracker, _ = recording_tracker(request_filter=broken)
    exchange, _ = engine_of(tracker).begin(facts(), in_background=False)
    assert engine_of(tracker).on_response_start(exchange, 200, list)
    assert "request_filter" in caplog.text


def test_an_internal_error_gives_an_inert_visitor(caplog):
    """If our own code fails, the handler still finds a visitor with an ID, and the app goes on."""
    calls = []

    def clock():
        calls.append(1)
        raise RuntimeError("bug")

    tracker = Tracker(**SETTINGS, deliver=False, dependencies=Dependencies(clock=clock))
    exchange, visitor = engine_of(tracker).begin(facts(), in_background=False)
    assert visitor.id
    visitor.track("x")
    assert engine_of(tracker).on_response_start(exchange, 200, list) == []
    assert tracker.stats()["notes"]["internal_error"] == 1
    assert "report" in caplog.text


def test_from_env_and_from_mapping(monkeypatch):
    """The same settings from the environment or from a mapping with the same names."""
    values = {"MIXPANEL_TOKEN": "t", "MIXPANEL_VISITOR_SECRET_KEY": "a-key-of-some-length"}
    assert Tracker.from_mapping(values, spool="memory:").settings.token == "t"
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    assert Tracker.from_env(spool="memory:", region="eu").settings.region == "eu"


def test_repr_holds_no_secret():
    """A tracker may be logged."""
    tracker, _ = recording_tracker()
    assert "a-key-of-some-length" not in repr(tracker)
    assert "a-key-of-some-length" not in repr(tracker.settings)


def test_projects_that_share_a_directory_do_not_share_a_spool(tmp_path):
    """Whoever leads delivers all that is in a spool, so each token has its own in there."""
    requests = {"a": [], "b": []}
    trackers = {
        token: Tracker(
            token=token,
            secret_key="a-key-of-some-length",
            spool=str(tmp_path),
            dependencies=Dependencies(post=accepting(requests[token])),
        )
        for token in requests
    }
    for token, tracker in trackers.items():
        tracker.track("u", f"event of {token}")
    for tracker in trackers.values():
        assert tracker.flush(timeout_s=PATIENCE_S)
        tracker.close()
    for token, sent in requests.items():
        ((_, (body,)),) = sent
        assert f"event of {token}".encode() in body


@pytest.mark.parametrize(
    ("given", "named"), [((), {}), (("u",), {"user_id": "v"}), (("u",), {"device_id": "d"})]
)
def test_a_visitor_outside_of_a_request_needs_one_id(given, named):
    """No ID, or two that may contradict each other, is a mistake in the code."""
    tracker, _ = recording_tracker()
    with pytest.raises(TypeError, match="either one ID"):
        tracker.visitor(*given, **named)


@pytest.mark.parametrize("middleware", [asgi.VisitorMiddleware, wsgi.VisitorMiddleware])
def test_a_middleware_takes_a_tracker_or_settings(middleware):
    """Anything else is a mistake at construction, not at the first request."""
    tracker, _ = recording_tracker()
    assert middleware(None, tracker=tracker).tracker is tracker
    with pytest.raises(TypeError, match="either tracker= or settings"):
        middleware(None, tracker=tracker, token="t")
    with pytest.raises(TypeError, match=r"must be a mixpanel_visitor\.Tracker"):
        middleware(None, tracker=Tracker)


def test_before_response_stores_in_the_calling_thread():
    """Whoever has the response can rely on the event, so no thread may be waited for."""
    tracker, spool = recording_tracker(durability="before-response")
    for name in ("a", "b", "c"):
        exchange, visitor = engine_of(tracker).begin(facts(), in_background=True)
        visitor.track(name)
        engine_of(tracker).on_response_end(exchange, in_background=True)
    assert spool.names == ["a", "b", "c"]


def test_a_full_request_is_stored_before_it_ends():
    """A stream that tracks without end leaves its events in the spool on the way."""
    tracker, spool = recording_tracker()
    _, visitor = engine_of(tracker).begin(facts(known()), in_background=False)
    for _ in range(COMMIT_AT_RECORDS):
        visitor.track("x")
    assert len(spool.names) == COMMIT_AT_RECORDS


@pytest.mark.parametrize(
    ("setting", "figure"), [("dead-letter", "ambiguous"), ("retry", "duplicates_possible")]
)
def test_the_setting_about_ambiguous_updates_reaches_the_sender(setting, figure):
    """`on_ambiguous="retry"`: what may have been applied is not set aside, but sent again."""
    lost = Response(status=502, sent=True)
    tracker = Tracker(
        **SETTINGS, on_ambiguous=setting, dependencies=Dependencies(post=lambda _endpoint, _bodies: lost)
    )
    with tracker.visitor("u") as visitor:
        visitor.people_increment({"visits": 1})
    assert wait_until(lambda: tracker.stats()["sender"][figure] == 1, PATIENCE_S)
    assert wait_until(lambda: tracker.stats()["dead_lettered"] == (figure == "ambiguous"), PATIENCE_S)
    tracker.close(timeout_s=0.1)


# --- traits for SPiD ----------------------------------------------------------------------------------


def test_traits_are_signed_with_the_sign_secret():
    """The text is what SPiD verifies."""
    tracker, _ = recording_tracker(spid_sign_secret="a-secret")
    payload = signed_payload(tracker.sign_traits({"Account type": "Personal"}), "a-secret")
    assert payload == {"Account type": "Personal", "algorithm": "HMAC-SHA256", "t": round(NOW_S, 2)}


@pytest.mark.parametrize(
    ("settings", "traits", "why"),
    [
        ({}, {"a": 1}, "spid_sign_secret is missing"),
        ({"spid_sign_secret": "a-secret"}, {"a": None}, "a trait is a str"),
        ({"spid_sign_secret": "a-secret"}, {}, "traits are a mapping"),
    ],
)
def test_traits_that_cannot_be_signed_break_no_page(caplog, settings, traits, why):
    """An empty text and one line that says why and where; in tests it raises."""
    tracker, _ = recording_tracker(**settings)
    assert tracker.sign_traits(traits) == tracker.sign_traits(traits) == ""
    assert caplog.text.count(why) == 1
    assert __file__ in caplog.text
    strict, _ = recording_tracker(**settings, on_error="raise")
    with pytest.raises(ValueError, match=why):
        strict.sign_traits(traits)


@pytest.mark.parametrize(
    ("settings", "lines"),
    [
        ({"browser_sdk": "spid", "spid_client_id": "4321abc"}, 1),
        ({"browser_sdk": ("mixpanel", "spid"), "spid_client_id": "4321abc"}, 1),
        ({"browser_sdk": "spid", "spid_client_id": "4321abc", "spid_sign_secret": "a-secret"}, 0),
        ({}, 0),
    ],
)
def test_spid_without_its_secret_is_said_in_one_line(caplog, settings, lines):
    """Nothing fails, but no session is ever verified."""
    recording_tracker(**settings)
    assert caplog.text.count("spid_sign_secret is missing") == lines
