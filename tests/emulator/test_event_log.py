"""What arrived is there after a restart."""

from __future__ import annotations

import stat

import pytest

from mixpanel_visitor.emulator import LocalMixpanel

NOW_MS = 1_800_000_000_000


@pytest.fixture
def start(tmp_path, connect):
    """Start a local Mixpanel that keeps what it gets; a client and the server."""
    running = []

    def start(**options):
        local = LocalMixpanel(keep=tmp_path / "kept", now_ms=lambda: NOW_MS, **options).start()
        running.append(local)
        return connect(local), local

    yield start
    for local in running:
        local.close()


ALL = ("events", "people", "profiles", "groups", "rejected")


def test_all_of_it_survives_a_restart(start, event):
    """Events, profiles and refusals, with their times and merges."""
    client, local = start()
    device = event("before", distinct_id="$device:D", **{"$device_id": "D"})
    client.import_([device, event("log-in", distinct_id="u", **{"$device_id": "D", "$user_id": "u"})])
    client.import_([device, event(time=1)])
    client.post("/engage", [{"$token": "t", "$distinct_id": "u", "$set": {"plan": "gold"}}])
    client.post("/groups", [{"$token": "t", "$group_key": "c", "$group_id": "Acme", "$set": {"size": 5}}])
    before = [client.get("/_local/" + path).json() for path in ALL]
    local.close()
    client, _ = start()
    assert [client.get("/_local/" + path).json() for path in ALL] == before
    assert client.get("/_local/events").json()["events"][0]["deliveries"] == 2


def test_it_goes_on_where_it_was(start, event):
    """A duplicate of something from before is known."""
    client, local = start()
    item = event()
    client.import_([item])
    local.close()
    client, _ = start()
    client.import_([item, event()])
    assert client.get("/_local/stats").json()["duplicates"] == 1


def test_the_last_are_kept_and_the_disk_is_bounded(start, event, tmp_path):
    """At most twice as many."""
    client, local = start(max_events=10)
    for number in range(57):
        client.import_([event(f"e{number}")])
    local.close()
    lines = sum(len(path.read_bytes().splitlines()) for path in (tmp_path / "kept").glob("*.jsonl"))
    assert 10 <= lines <= 20
    client, _ = start(max_events=10)
    assert [each["event"] for each in client.get("/_local/events").json()["events"]] == [
        f"e{number}" for number in range(47, 57)
    ]


def test_a_line_that_was_cut_off_is_left_out(start, event, tmp_path):
    """The process was killed in the middle of it, and goes on behind it."""
    client, local = start()
    client.import_([event("whole")])
    client.import_([event("cut")])
    local.close()
    path = tmp_path / "kept" / "newer.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    client, local = start()
    client.import_([event("new")])
    local.close()
    client, _ = start()
    assert [each["event"] for each in client.get("/_local/events").json()["events"]] == ["whole", "new"]


def test_a_reset_forgets_what_was_kept(start, event):
    """For good."""
    client, local = start()
    client.import_([event()])
    client.request("POST", "/_local/reset")
    client.import_([event("after")])
    local.close()
    client, _ = start()
    assert [each["event"] for each in client.get("/_local/events").json()["events"]] == ["after"]


def test_a_directory_belongs_to_one_process(start, tmp_path):
    """Two would write into each other's lines."""
    start()
    with pytest.raises(BlockingIOError):
        LocalMixpanel(keep=tmp_path / "kept")


def test_what_is_kept_is_private(start, event, tmp_path):
    """It is what users did: other accounts of this machine do not read it, whatever was there before."""
    directory = tmp_path / "kept"
    directory.mkdir(mode=0o755)
    (directory / "newer.jsonl").touch(mode=0o644)
    client, local = start()
    client.import_([event()])
    client.post("/_local/reset", None)
    client.import_([event()])
    local.close()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}


def test_a_restart_knows_whose_project_an_event_was(start, event):
    """Also where only the credentials said so."""
    client, local = start()
    client.import_([event(token=None)], user="a:")
    before = client.get("/_local/people").json()
    local.close()
    client, _ = start()
    assert client.get("/_local/people").json() == before
    assert before["people"][0]["token"] == "a"
