"""Opt-outs in the journal: between processes, through a restart, and until nothing of them is left."""

import json
import subprocess
import sys

import pytest
from support.journals import ALL, Clock, deliver, open_journal
from support.scripted_mixpanel import ScriptedMixpanel, saying
from support.scripted_server import http

from mixpanel_visitor.delivery.journal.digest_table import DigestTable, prefix_of
from mixpanel_visitor.delivery.journal.tombstones import FILE_MS, OptOutTombstones
from mixpanel_visitor.delivery.sending.http_client import MixpanelAPI
from mixpanel_visitor.delivery.sending.sender import Sender
from mixpanel_visitor.delivery.subject_digest import digests, owners
from mixpanel_visitor.errors import SpoolUnavailableError
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
    content = (tmp_path / "spool" / "withdrawn" / name).read_bytes()
    assert (len(content), b"ann" in content) == (16, False)


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
    """Who opts out again and again adds nothing, and each time counts."""
    journal = opened()
    for number in range(5):
        journal.put([event(str(number), "ann")])
        journal.withdraw(digests(["ann"]))
        clock.tick(0.1)
    assert [path.stat().st_size for path in (tmp_path / "spool" / "withdrawn").iterdir()] == [16]
    assert deliver(journal) == []


def test_ten_thousands_of_them_do_not_switch_it_off(opened, tmp_path):
    """An attacker reaches that in minutes; whoever opts out next is heeded all the same."""
    journal = opened()
    journal.put([event("1", "last"), event("2", "bob")])
    journal.withdraw(digests(f"made-up-{number}" for number in range(20_000)))
    journal.withdraw(digests(["last"]))
    assert deliver(journal) == ["2"]
    assert len(files(tmp_path)) < 25


def test_the_leader_learns_what_is_noted_again_in_the_same_place(opened, clock):
    """The file has neither a new name nor another size."""
    leader, other = opened(), opened()
    leader.put([event("0", "ann"), event("held", "bob")])
    other.withdraw(digests(["ann"]))
    held = leader.claim("import", 10, ALL)
    assert len(held) == 1
    clock.tick(1)
    other.put([event("1", "ann"), event("2", "bob")])
    other.withdraw(digests(["ann"]))
    clock.tick(1)
    assert deliver(leader) == ["2"]


def test_there_is_an_end_to_opting_out(tmp_path):
    """Somebody who makes up a million visitors is stopped; those of before, and who was there, count on."""
    place = tmp_path / "withdrawn"
    noted = OptOutTombstones(place, max_bytes=6 * 16, file_people=3)
    people = [min(digests([str(number)])) for number in range(7)]
    for number, person in enumerate(people[:6]):
        noted.add([person], until_ms=number)
    with pytest.raises(OSError, match="no more are taken"):
        noted.add([people[6]], until_ms=7)
    noted.add([people[5]], until_ms=8)
    assert noted.refresh()
    assert [noted.covers(event("1", str(number)).body, lambda: 0) for number in range(7)] == [True] * 6 + [
        False
    ]
    assert noted.covers(event("1", "5").body, lambda: 8)


def test_the_end_is_no_end_once_nothing_so_old_is_left(tmp_path):
    """An opt-out only concerns records that were stored before it."""
    noted = OptOutTombstones(tmp_path / "withdrawn", max_bytes=6 * 16, file_people=3)
    for number in range(6):
        noted.add(digests([str(number)]), until_ms=number)
    assert noted.refresh()
    noted.prune(3)
    noted.add(digests(["one more"]), until_ms=9)
    assert noted.refresh()
    assert noted.covers(event("1", "one more").body, lambda: 9)
    assert noted.covers(event("1", "5").body, lambda: 5)
    assert not noted.covers(event("1", "0").body, lambda: 0)


def test_a_file_takes_no_more_after_a_while(tmp_path):
    """Or it would never go while people opt out."""
    noted = OptOutTombstones(tmp_path / "withdrawn")
    for until_ms in (1, FILE_MS, FILE_MS + 1, 2 * FILE_MS + 1):
        noted.add(digests([str(until_ms)]), until_ms=until_ms)
    assert noted.refresh()
    assert len(list((tmp_path / "withdrawn").iterdir())) == 3
    noted.prune(FILE_MS + 1)
    assert len(list((tmp_path / "withdrawn").iterdir())) == 2


def test_the_files_of_older_versions_count(opened, tmp_path, clock):
    """Empty ones with all in their name; they go like others."""
    journal = opened()
    journal.put([event("1", "ann"), event("2", "bob")])
    place = tmp_path / "spool" / "withdrawn"
    place.mkdir()
    (place / f"{int(clock.time() * 1000):016d}-{min(digests(['ann']))}").touch()
    assert deliver(journal) == ["2"]
    for _ in range(3):
        clock.tick(100)
        journal.claim("import", 1, ALL)
    assert files(tmp_path) == []


@pytest.mark.parametrize("torn", [1, 8, 15, 17])
def test_what_a_crash_has_torn_costs_only_itself(tmp_path, torn):
    """What was whole before counts, and what is added after."""
    noted = OptOutTombstones(tmp_path / "withdrawn")
    noted.add(digests(["ann"]), until_ms=1)
    noted.add(digests(["torn"]), until_ms=1)
    (path,) = (tmp_path / "withdrawn").iterdir()
    path.write_bytes(path.read_bytes()[:torn])
    noted.add(digests(["bob"]), until_ms=2)
    assert noted.refresh()
    found = [noted.covers(event("1", person).body, lambda: 1) for person in ("ann", "torn", "bob")]
    assert found == [torn > 16, False, True]


def test_a_link_in_there_is_not_followed(opened, tmp_path, clock, caplog):
    """Neither is another's file written to, nor read; the opt-out itself is heeded."""
    journal = opened()
    journal.put([event("1", "ann")])
    victim = tmp_path / "victim"
    victim.write_bytes(b"")
    place = tmp_path / "spool" / "withdrawn"
    place.mkdir()
    (place / f"{int(clock.time() * 1000):016d}-00000000.log").symlink_to(victim)
    journal.withdraw(digests(["ann"]))
    assert victim.read_bytes() == b""
    assert deliver(journal) == []
    assert not caplog.records


def test_processes_that_note_at_the_same_time_lose_nothing(tmp_path):
    """They share files, under a lock that nobody waits for, while a leader takes old ones away."""
    code = (
        "import sys; from pathlib import Path; from mixpanel_visitor.delivery.subject_digest import digests;"
        "from mixpanel_visitor.delivery.journal.tombstones import OptOutTombstones;"
        "it = OptOutTombstones(Path(sys.argv[1]), file_people=10)\n"
        "for n in range(100): it.add(digests([f'{sys.argv[2]}-{n}']), until_ms=n)"
    )
    place = tmp_path / "withdrawn"
    running = [subprocess.Popen([sys.executable, "-c", code, place, str(each)]) for each in range(3)]
    leader = OptOutTombstones(place, file_people=10)
    while any(process.poll() is None for process in running):
        leader.refresh()
        leader.prune(50)
    assert [process.returncode for process in running] == [0, 0, 0]
    leader.refresh()
    people = [f"{each}-{number}" for each in range(3) for number in range(50, 100)]
    assert all(leader.covers(event("1", person).body, lambda: 50) for person in people)


def test_a_million_fit_in_a_few_megabytes():
    """Sixteen bytes for each, and a look-up is a search in a small table."""
    table = DigestTable()
    for number in range(100_000):
        assert table.raise_to(number * 184_467_440_737_095, number)
    held = sum(sys.getsizeof(each) for pair in table._shards.values() for each in pair)
    assert held < 100_000 * 16 + 4096 * 2 * 160
    assert (len(table), table.get(99_999 * 184_467_440_737_095), table.get(1)) == (100_000, 99_999, -1)
    assert not table.raise_to(0, 0)
    table.drop_below(50_000)
    assert (len(table), table.get(0)) == (50_000, -1)
    table.drop_below(100_000)
    assert not table


def test_a_mark_is_half_a_digest():
    """In files and in memory."""
    assert prefix_of("00000000000000ff" + "1" * 16) == 255


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


def test_who_has_opted_out_is_known_for_eight_days(opened, clock, tmp_path):
    """Longer than any job may come after its request; then nothing is kept of them."""
    journal, since_ms = opened(), int(clock.wall_s * 1000)
    journal.withdraw(digests(["ann"]))
    clock.tick(7 * 86_400)
    journal.put([event("1", "bob")])
    assert deliver(journal) == ["1"]
    assert opened().opted_out_since(digests(["ann"]), since_ms)
    clock.tick(86_400 + FILE_MS / 1000)
    journal.put([event("2", "bob")])
    assert deliver(journal) == ["2"]
    assert list((tmp_path / "spool" / "opted-out").iterdir()) == []
    assert not opened().opted_out_since(digests(["ann"]), since_ms)


def test_a_directory_that_cannot_be_read_is_no_answer(opened, tmp_path):
    """Who asks has to know that it is not known."""
    journal = opened()
    journal.put([event("1", "bob")])
    (tmp_path / "spool" / "opted-out").write_text("a file")
    with pytest.raises(SpoolUnavailableError, match="opted-out"):
        journal.opted_out_since(digests(["ann"]), 0)
