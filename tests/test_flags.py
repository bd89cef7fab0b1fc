"""Feature flags from end to end: browser, server and local Mixpanel are of one mind."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import time
import uuid
from urllib.parse import urlencode

import pytest
from support.facts import facts
from support.flags import DrawnFlags, OfficialFlags, a_b_test, figures, on_off
from support.inbox import Inbox
from support.trackers import SECRET_KEY, TOKEN, known
from support.waiting import PATIENCE_S, wait_until

from mixpanel_visitor.emulator import LocalMixpanel
from mixpanel_visitor.tracking.tracker import Tracker, engine_of

VISITORS = 1_000


@pytest.fixture
def local():
    """Return a local Mixpanel without flags."""
    with LocalMixpanel() as local:
        yield local


@pytest.fixture
def start(local, tmp_path):
    """Return a way to start a tracker that sends there, over one spool."""
    with contextlib.ExitStack() as running:

        def started(**settings):
            given = {"spool": str(tmp_path / "spool"), "flags": "local", **settings}
            tracker = Tracker(token=TOKEN, secret_key=SECRET_KEY, api_host=local.url, **given)
            running.callback(tracker.close)
            tracker.start()
            return tracker

        yield started


def has_flags(tracker, count):
    """Wait until a tracker knows so many flags."""
    return wait_until(lambda: figures(tracker)["definitions"] == count, PATIENCE_S)


def begin(tracker, device_id, **more):
    """Begin a request of this device."""
    cookie = known(device_id, issued_at_s=int(time.time()), **more)
    return engine_of(tracker).begin(facts(cookie), in_background=False)


def shows(tracker, key, value):
    """Wait until requests get this value of a flag."""
    return wait_until(lambda: begin(tracker, "d" * 36)[1].flag(key) == value, PATIENCE_S)


class Browser:
    """Asks for flags as mixpanel-browser 2.83 does (`FeatureFlagManager.fetchFlags`), over one connection."""

    def __init__(self, port):
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)

    def values(self, distinct_id, device_id):
        """Return the values of all flags of this visitor."""
        context = json.dumps({"distinct_id": distinct_id, "device_id": device_id})
        query = {"context": context, "token": TOKEN, "mp_lib": "web", "$lib_version": "2.83.0"}
        self._connection.request("GET", f"/flags/?{urlencode(query)}")
        answer = json.loads(self._connection.getresponse().read())
        return {key: each["variant_value"] for key, each in answer["flags"].items()}

    def close(self):
        """Close the connection."""
        self._connection.close()


def test_browser_and_server_agree_on_a_thousand_visitors(local, start):
    """Before and after log-in, by device ID and by distinct ID; and the official library says the same."""
    drawn, draw = DrawnFlags(24), random.Random(24)
    flags = [a_b_test("layout"), on_off("checkout", 0.3), a_b_test("price", assigned_by="distinct_id")]
    flags += [drawn.flag(f"device-{number}", assigned_by="device_id") for number in range(2)]
    flags += [drawn.flag(f"user-{number}", assigned_by="distinct_id") for number in range(2)]
    for flag in flags:
        for rollout in flag["ruleset"]["rollout"]:
            # What the request says the browser does not: it sends its IDs alone.
            rollout.pop("runtime_evaluation_rule", None), rollout.pop("runtime_evaluation_definition", None)
        local.flags.put(flag)
    tracker, official = start(), OfficialFlags(flags)
    assert has_flags(tracker, len(flags))
    differing = set()
    with contextlib.closing(Browser(local.port)) as browser:
        for number in range(VISITORS):
            device_id, user_id = str(uuid.UUID(int=draw.getrandbits(128), version=4)), f"user-{number}"
            _, before = begin(tracker, device_id)
            _, after = begin(tracker, device_id, user_id=user_id)
            values = {}
            for visitor, distinct_id in ((before, f"$device:{device_id}"), (after, user_id)):
                assert visitor.distinct_id == distinct_id
                values[distinct_id] = dict(visitor.flags())
                assert values[distinct_id] == browser.values(distinct_id, device_id)
                context = {"distinct_id": distinct_id, "device_id": device_id}
                expected = {key: value for key, (_, value) in official.variants(context).items()}
                assert values[distinct_id] == expected
            by_device, by_user = values.values()
            for key in ("layout", "checkout"):
                assert by_device.get(key) == by_user.get(key)
            differing |= {by_device["price"], by_user["price"]}
    assert differing == {"a", "b"}


def test_a_switch_on_the_page_changes_a_running_application(local, start):
    """Within seconds; the process that does not deliver sees it through the spool."""
    local.flags.put(on_off("checkout"))
    leader, follower = start(), start(deliver=False)
    assert has_flags(leader, 1)
    assert has_flags(follower, 1)
    for choice, value in (("off", False), ("on", True)):
        local.flags.switch("checkout", choice)
        for tracker in (leader, follower):
            assert shows(tracker, "checkout", value)
    assert figures(follower)["fetched"] == 0


def test_exposures_arrive_with_the_person(local, start):
    """Of device and user, in the local Mixpanel as one."""
    local.flags.put(a_b_test("layout"))
    tracker = start()
    assert has_flags(tracker, 1)
    exchange, visitor = begin(tracker, str(uuid.uuid4()), user_id="user-42")
    value = visitor.flag("layout")
    engine_of(tracker).on_response_end(exchange, in_background=False)
    assert tracker.flush(PATIENCE_S)
    (event,) = Inbox(local.url).events()
    assert (event["event"], event["person"]) == ("$experiment_started", "user-42")
    assert event["properties"]["Variant name"] == value


def test_the_next_process_has_the_last_definitions_at_once(local, start):
    """From the disk, though Mixpanel is away; so has the first request after a start."""
    local.flags.put(on_off("checkout"))
    first = start()
    assert has_flags(first, 1)
    assert has_flags(start(deliver=False), 1)
    first.close()
    local.stop()
    second = start()
    _, visitor = begin(second, "d" * 36)
    assert visitor.flag("checkout") is True


def test_a_malformed_definition_costs_no_other(local, start, caplog):
    """The last good one of that flag counts on; it is logged, and counted."""
    local.flags.put(on_off("checkout"))
    local.flags.put(on_off("other", 0))
    tracker = start()
    assert has_flags(tracker, 2)
    local.flags.put({"key": "checkout"})
    local.flags.put(on_off("other"))
    assert shows(tracker, "other", True)
    assert begin(tracker, "d" * 36)[1].flag("checkout") is True
    assert figures(tracker)["malformed"] >= 1
    assert caplog.text.count("flag 'checkout': ruleset is missing") == 1


@pytest.mark.parametrize("damage", [b"", b"\xff", b'{"version":9}\n[]', b'{"version":1}\n[]', b"{}\n"])
def test_a_damaged_file_beside_the_spool_hurts_nobody(local, start, tmp_path, damage):
    """Whatever is in it; the process that delivers writes it anew."""
    local.flags.put(on_off("checkout"))
    tracker = start()
    assert has_flags(tracker, 1)
    # The file is written after that.
    assert wait_until(lambda: any(tmp_path.glob("spool/*/flags.json")), PATIENCE_S)
    (path,) = tmp_path.glob("spool/*/flags.json")
    tracker.close()
    path.write_bytes(damage)
    follower = start(deliver=False)
    assert begin(follower, "d" * 36)[1].flag("checkout", "default") == "default"
    again = start()
    assert has_flags(again, 1)
    assert has_flags(follower, 1)
