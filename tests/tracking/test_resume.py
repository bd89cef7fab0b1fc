"""A job tracks for the visitor of a request, as `visitor.export()` and `tracker.resume()` have it."""

import logging
import random
import string
import sys
import types

import orjson
import pytest
from support.facts import facts
from support.spools import RecordingSpool
from support.trackers import TOKEN, WallClock, known, recording_tracker, tracker_into

from mixpanel_visitor import Tracker, current_visitor
from mixpanel_visitor.errors import SpoolUnavailableError
from mixpanel_visitor.tracking.tracker import engine_of

DEVICE = "6f1c2a3b-4d5e-4f60-8a7b-9c0d1e2f3a4b"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"


@pytest.fixture
def clock():
    return WallClock()


@pytest.fixture
def stored(clock):
    """A tracker and the spool that its process shares with nobody."""
    return recording_tracker(clock=clock)


def in_request(tracker, path="/", **headers):
    """Return the visitor of a request that a person makes who is known as Ann."""
    given = {**known(DEVICE, user_id="ann"), "user-agent": FIREFOX, **headers}
    path, _, query = path.partition("?")
    return engine_of(tracker).begin(facts(given, path=path, query=query), in_background=False)[1]


def events(spool):
    return [orjson.loads(record.body) for record in spool.records if record.endpoint == "import"]


def told(spool, *names):
    (event,) = events(spool)
    return tuple(event["properties"].get(name) for name in names)


def test_an_event_of_a_job_is_like_one_of_its_request(stored):
    """The same person, browser and page; only time and insert ID are its own."""
    tracker, spool = stored
    visitor = in_request(tracker, "/prices?utm_source=mail")
    visitor.register(plan="pro")
    visitor.set_group("company", "Acme")
    visitor.track("Paid")
    with tracker.resume(visitor.export()) as resumed:
        resumed.track("Paid")
    engine_of(tracker).store_unfinished()
    ours, theirs = (event["properties"] for event in events(spool))
    assert ours | {"$insert_id": ""} == theirs | {"$insert_id": ""}
    assert ours["company"] == ["Acme"]


def test_the_resumed_visitor_is_the_current_one_of_its_block(stored):
    """Blocks nest, and leave as they came."""
    tracker, _ = stored
    with tracker.resume(in_request(tracker).export()):
        assert (current_visitor.user_id, current_visitor.device_id) == ("ann", DEVICE)
        with tracker.visitor("bob"):
            assert current_visitor.user_id == "bob"
        assert current_visitor.user_id == "ann"
    assert not current_visitor


def test_events_are_durable_at_once(stored):
    """A worker may be killed in the middle of a job."""
    tracker, spool = stored
    with tracker.resume(in_request(tracker).export()) as visitor:
        visitor.track("Paid")
        assert len(spool.records) == 1


@pytest.mark.parametrize("id_mode", ["simplified", "original", "legacy"])
@pytest.mark.parametrize("user_id", [None, "ann"])
def test_no_log_in_of_a_job_joins_anybody(id_mode, user_id):
    """Who uses the device by then the job cannot know: its events are the user's alone."""
    tracker, spool = recording_tracker(id_mode=id_mode)
    with tracker.resume(tracker.visitor(device_id=DEVICE, user_id=user_id).export()) as visitor:
        visitor.identify("bob")
        visitor.track("Paid")
    assert told(spool, "distinct_id", "$device_id") == ("bob", None)


def test_a_log_in_that_is_none_keeps_the_device(stored):
    """A task may identify whom it has resumed."""
    tracker, spool = stored
    with tracker.resume(in_request(tracker).export()) as visitor:
        visitor.identify("ann")
        visitor.track("Paid")
    assert told(spool, "$user_id", "$device_id") == ("ann", DEVICE)


@pytest.mark.parametrize(
    ("headers", "note"),
    [
        ({"dnt": "1"}, "export_consent_denied"),
        ({"sec-gpc": "1"}, "export_consent_denied"),
        ({"cookie": f"__mp_opt_in_out_{TOKEN}=0"}, "export_consent_denied"),
        ({"user-agent": GOOGLEBOT}, "export_bot"),
    ],
)
def test_who_may_not_be_tracked_is_exported_as_nothing(stored, headers, note):
    """The job tracks nothing, at both ends it is counted why, and no log line complains."""
    tracker, spool = stored
    exported = in_request(tracker, **headers).export()
    assert exported == ""
    with tracker.resume(exported) as visitor:
        assert current_visitor
        visitor.track("Paid")
        visitor.people_set({"plan": "pro"})
    stats = tracker.stats()
    assert (stats["notes"][note], stats["refused"]) == (1, {"resume_empty": 2})
    assert not spool.records


@pytest.mark.parametrize("answer", ["denied", "unknown"])
def test_without_consent_nothing_is_exported(answer):
    """What the application's own callable says counts for its jobs."""
    tracker, _ = recording_tracker(consent=lambda _facts: answer)
    assert in_request(tracker).export() == ""
    assert tracker.stats()["notes"][f"export_consent_{answer}"] == 1


def test_who_opts_out_in_the_request_is_not_exported(stored):
    """Before or after the job was queued."""
    tracker, spool = stored
    visitor = in_request(tracker)
    exported = visitor.export()
    visitor.opt_out()
    assert visitor.export() == ""
    tracker.resume(exported).track("Paid")
    assert (tracker.stats()["refused"], spool.records) == ({"consent_denied": 1}, [])


def test_who_opts_out_before_the_job_runs_is_not_tracked(stored, clock):
    """The job waited in a queue that is not ours, and the device is known by its user as well."""
    tracker, spool = stored
    first, second = in_request(tracker).export(), tracker.visitor("ann").export()
    clock.now_s += 600
    in_request(tracker).opt_out()
    clock.now_s += 600
    for exported in (first, second):
        with tracker.resume(exported) as visitor:
            visitor.track("Paid")
    assert (tracker.stats()["refused"], spool.records) == ({"consent_denied": 2}, [])


def test_who_opted_out_long_before_is_tracked_again(stored, clock):
    """Consent that was given anew counts for what came after it."""
    tracker, spool = stored
    in_request(tracker).opt_out()
    clock.now_s += 1
    tracker.resume(in_request(tracker).export()).track("Paid")
    assert len(spool.records) == 1


def test_a_job_of_a_job_is_as_old_as_the_request(stored, clock):
    """An opt-out is not forgotten because a task has queued another, and no chain is endless."""
    tracker, _ = stored
    exported = in_request(tracker).export()
    clock.now_s += 50_000
    with tracker.resume(exported):
        again = current_visitor.export()
    assert again == exported
    clock.now_s += 50_000
    tracker.resume(again).track("Paid")
    assert tracker.stats()["refused"] == {"resume_expired": 1}


def test_a_longer_age_is_taken_up_to_a_week(stored, clock):
    """For longer nobody knows who has opted out."""
    tracker, spool = stored
    exported = in_request(tracker).export()
    clock.now_s += 7 * 86_400
    tracker.resume(exported, max_age_s=1e9).track("Paid")
    clock.now_s += 1
    tracker.resume(exported, max_age_s=1e9).track("Paid")
    assert (len(spool.records), tracker.stats()["refused"]) == (1, {"resume_expired": 1})


def test_consent_is_asked_again(clock):
    """By the IDs: a job has no request."""
    denied = set()

    def consent(request):
        return "denied" if getattr(request, "user_id", None) in denied else "granted"

    tracker, spool = recording_tracker(clock=clock, consent=consent)
    exported = in_request(tracker).export()
    tracker.resume(exported).track("Paid")
    denied.add("ann")
    tracker.resume(exported).track("Paid")
    assert (len(spool.records), tracker.stats()["refused"]) == (1, {"consent_denied": 1})


@pytest.mark.parametrize("read", ["cookies", "host", "headers", "path"])
def test_consent_that_depends_on_the_request_is_that_of_then(read):
    """A cookie banner's cookie is not in the job; without consent nothing would have been exported."""

    def consent(request):
        return "granted" if getattr(request, read) else "denied"

    tracker, spool = recording_tracker(consent=consent)
    tracker.resume(in_request(tracker).export()).track("Paid")
    assert len(spool.records) == 1


def test_consent_by_a_cookie_is_that_of_then():
    """As the documentation writes it."""
    tracker, spool = recording_tracker(
        consent=lambda request: "granted" if request.cookie("consent") == "yes" else "denied"
    )
    cookie = f"{known(DEVICE)['cookie']}; consent=yes"
    tracker.resume(in_request(tracker, cookie=cookie).export()).track("Paid")
    assert len(spool.records) == 1


def test_consent_that_fails_in_a_job_tracks_nobody(caplog):
    """As in a request."""
    tracker, spool = recording_tracker(
        consent=lambda request: 1 / 0 if request.protocol == "job" else "granted"
    )
    with caplog.at_level(logging.ERROR, logger="mixpanel_visitor"):
        tracker.resume(in_request(tracker).export()).track("Paid")
    assert tracker.stats()["refused"] == {"consent_unknown": 1}
    assert not spool.records
    assert "the consent callable raised" in caplog.text


def test_a_text_of_another_site_says_what_to_mend(stored, caplog):
    """The commonest mistake: the worker has another secret key."""
    tracker, spool = stored
    other, _ = recording_tracker(secret_key="another-key-of-some-length")
    with (
        caplog.at_level(logging.WARNING, logger="mixpanel_visitor"),
        tracker.resume(in_request(other).export()),
    ):
        current_visitor.track("Paid")
    assert tracker.stats()["refused"] == tracker.stats()["notes"] == {"resume_bad_signature": 1}
    assert not spool.records
    assert "test_resume.py" in caplog.text
    assert "the same token and secret_key" in caplog.text


class ForgetfulSpool(RecordingSpool):
    def opted_out_since(self, people, since_ms):
        raise SpoolUnavailableError("Redis is away")


def test_where_opt_outs_cannot_be_asked_the_event_is_kept_and_counted():
    """A Redis that is away for a minute loses no invoice."""
    spool = ForgetfulSpool(waits=True)
    tracker = tracker_into(spool)
    tracker.resume(tracker.visitor("ann").export()).track("Paid")
    assert len(spool.records) == 1
    assert tracker.stats()["notes"]["opt_out_unknown"] == 1


def test_a_closed_tracker_exports_nothing():
    """As it tracks nothing."""
    tracker, _ = recording_tracker()
    visitor = tracker.visitor("ann")
    tracker.close()
    assert visitor.export() == ""


def test_what_has_no_room_is_left_out_and_logged(stored, caplog):
    """By name, with the application's line."""
    tracker, _ = stored
    visitor = in_request(tracker)
    noise = random.Random(1)
    visitor.register({name: "".join(noise.choices(string.ascii_letters, k=90)) for name in "abcdefghijkl"})
    with caplog.at_level(logging.WARNING, logger="mixpanel_visitor"):
        assert 0 < len(visitor.export()) < 1024
    assert tracker.stats()["notes"]["export_cut"] == 1
    assert "test_resume.py" in caplog.text


def test_ids_in_a_job_queue_are_answered_with_advice(caplog, monkeypatch):
    """The natural code: `job(visitor.device_id, visitor.user_id)`; once, and only where a queue is."""
    monkeypatch.setitem(sys.modules, "rq", types.ModuleType("rq"))
    tracker, _ = recording_tracker()
    with caplog.at_level(logging.WARNING, logger="mixpanel_visitor"):
        tracker.visitor("ann")
        for _ in range(2):
            tracker.visitor(device_id=DEVICE, user_id="ann")
    assert len(caplog.messages) == 1
    assert "tracker.resume(...)" in caplog.text


def test_another_process_of_the_machine_knows_who_has_opted_out(tmp_path):
    """The web server and the worker share a directory, and no record of that person waits there."""
    web, worker = (
        Tracker(token=TOKEN, secret_key="a-key-of-some-length", spool=str(tmp_path), deliver=False)
        for _ in range(2)
    )
    exported = web.visitor(device_id=DEVICE, user_id="ann").export()
    web.visitor(device_id=DEVICE).opt_out()
    worker.resume(exported).track("Paid")
    assert worker.stats()["refused"] == {"consent_denied": 1}
    worker.close()
    web.close()
