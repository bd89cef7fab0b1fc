"""Opt-outs in the journal: between processes, through a restart, and until nothing of them is left."""

import json

import pytest
from support.journals import ALL, Clock, deliver, open_journal
from support.scripted_mixpanel import ScriptedMixpanel, saying
from support.scripted_server import http

from mixpanel_visitor.delivery.journal import withdrawals
from mixpanel_visitor.delivery.mixpanel_api import MixpanelAPI
from mixpanel_visitor.delivery.sender import Sender
from mixpanel_visitor.delivery.whose import digests, owners
from mixpanel_visitor.records import Record


def event(name, person):
    body = {"event": name, "properties": {"distinct_id": person}}
    return Record("import", json.dumps(body, separators=(",", ":")).encode())


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def opened(tmp_path, clock):
    """Open journals on one directory."""
    journals = []

    def make():
        journals.append(open_journal(tmp_path / "spool", clock))
        return journals[-1]

    yield make
    for journal in journals:
        journal.close()


def files(tmp_path):
    return sorted(path.name for path in (tmp_path / "spool" / "withdrawn").iterdir())


def test_another_process_heeds_it(opened, clock):
    """The one that leads is not the one in which somebody has opted out."""
    leader, follower = opened(), opened()
    leader.put([event("1", "ann")])
    assert len(leader.claim("import", 1, ALL)) == 1
    follower.put([event("2", "ann"), event("3", "bob")])
    follower.withdraw(digests(["ann"]))
    clock.tick(1)
    assert deliver(leader) == ["3"]
    assert follower.counts().pending == 0


def test_the_next_process_heeds_it(opened):
    """After a restart as well."""
    first = opened()
    first.put([event("1", "ann"), event("2", "bob")])
    first.withdraw(digests(["ann"]))
    first.close()
    assert deliver(opened()) == ["2"]


def test_no_id_is_written_down(opened, tmp_path):
    """Of whoever does not want to be known only a digest is kept, and that for as long as it is needed."""
    journal = opened()
    journal.put([event("1", "ann@example.com")])
    journal.withdraw(digests(["ann@example.com"]))
    (name,) = files(tmp_path)
    assert "ann" not in name
    assert (tmp_path / "spool" / "withdrawn" / name).read_bytes() == b""


def test_it_is_forgotten_when_nothing_so_old_is_left(opened, tmp_path, clock):
    """Not before: as long as a record waits that is older, it may be that person's."""
    journal = opened()
    journal.put([event("1", "bob")])
    held = journal.claim("import", 1, ALL)
    clock.tick(1)
    journal.withdraw(digests(["ann"]))
    for _ in range(3):
        clock.tick(100)
        journal.claim("import", 1, ALL)
    assert len(files(tmp_path)) == 1
    journal.ack(held, [0])
    for _ in range(3):
        clock.tick(100)
        journal.claim("import", 1, ALL)
    assert files(tmp_path) == []


def test_what_a_lane_holds_in_an_outage_is_not_sent_either(opened, clock):
    """It had claimed the record before, and would have tried it again."""
    journal = opened()
    journal.put([event("1", "ann"), event("2", "bob")])
    with_trouble = saying(http(b"", status="503 Service Unavailable"))
    mixpanel = ScriptedMixpanel(with_trouble)
    try:
        api = MixpanelAPI(mixpanel.url, "the-token")
        sender = Sender(
            journal,
            api.post,
            clock=clock.time,
            monotonic=clock.monotonic,
            wait=clock.tick,
            revision=journal.revision,
        )
        sender.step()
        journal.withdraw(digests(["ann"]))
        assert sender.drain(600)
        api.close()
    finally:
        mixpanel.close()
    assert set(mixpanel.taken) == {event("2", "bob").body}


def test_only_the_last_one_of_a_person_is_kept(opened, tmp_path, clock):
    """Who opts out again and again fills no directory."""
    journal = opened()
    for number in range(5):
        journal.put([event(str(number), "ann")])
        journal.withdraw(digests(["ann"]))
        clock.tick(0.1)
    assert len(files(tmp_path)) == 5
    assert deliver(journal) == []
    assert len(files(tmp_path)) == 1


def test_there_is_an_end_to_opting_out(opened, tmp_path, caplog, monkeypatch):
    """Somebody who makes up visitors to opt them out is stopped, and that is said."""
    monkeypatch.setattr(withdrawals, "MAX_FILES", 3)
    journal = opened()
    journal.put([event("1", "last")])
    for person in ("ann", "bob", "eve", "last"):
        journal.withdraw(digests([person]))
    assert len(files(tmp_path)) == 3
    assert "no more are taken" in caplog.text
    assert deliver(journal) == ["1"]


@pytest.mark.parametrize("content", ["x", "0000000000000001-zz", "directory/"])
def test_what_is_no_withdrawal_is_not_heeded(opened, tmp_path, content):
    """Somebody else's file in there."""
    journal = opened()
    journal.put([event("1", "ann")])
    place = tmp_path / "spool" / "withdrawn"
    place.mkdir()
    (place / content.rstrip("/")).mkdir() if content.endswith("/") else (place / content).touch()
    assert deliver(journal) == ["1"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"7", b"null", b'{"properties":[]}', b'{"properties":{"distinct_id":7}}']
)
def test_a_record_without_ids_is_nobodys(body):
    """Whatever stands in it."""
    assert owners(body) == set()
