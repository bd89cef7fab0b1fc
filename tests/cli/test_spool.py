"""`mixpanel-visitor spool`: what it tells, and that nothing is lost by what it does."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import re
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner
from support.journals import deliver, event, profile, run_python, waiting
from support.waiting import PATIENCE_S

from mixpanel_visitor.cli import main
from mixpanel_visitor.delivery.journal import Journal
from mixpanel_visitor.delivery.journal.dead_letters import DeadLetters
from mixpanel_visitor.delivery.spool import DeadReason
from mixpanel_visitor.records import Record
from mixpanel_visitor.tracking.dependencies import Dependencies
from mixpanel_visitor.tracking.tracker import Tracker, engine_of


def run(*arguments, **options):
    """Run `mixpanel-visitor spool` with these arguments."""
    return CliRunner().invoke(main, ["spool", *map(str, arguments)], **options)


def run_json(*arguments):
    """Run it with --json and give what it printed, line by line."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def bury(directory, *records, message="too old", field="properties.time"):
    """Have these records refused, as the sender does, and let go of the lead."""
    journal = Journal(directory)
    journal.put(records)
    while (claim := journal.claim(records[0].endpoint, 2000, 10**9)) is not None:
        reason = DeadReason(message=message, field=field, status=400)
        journal.bury(claim, dict.fromkeys(range(len(claim)), reason))
    journal.close()


def put(directory, *records, **options):
    """Have these wait, their process gone."""
    journal = Journal(directory, **options)
    journal.put(records)
    journal.close()


def bodies(directory):
    """Return the bodies of the dead letters of a project."""
    return [letter.body for letter in DeadLetters(directory / "dead").entries()]


def numbers(directory):
    """Return the numbers of the dead letters of a project."""
    return [letter.id for letter in DeadLetters(directory / "dead").entries()]


def names_waiting(directory, endpoint="import"):
    """Return the names of what waits in a project."""
    journal = Journal(directory)
    found = waiting(journal, endpoint)
    journal.close()
    return found


def snapshot(directory):
    """Return every file below a directory, with its content and its times."""
    return {
        path: (path.stat().st_mtime_ns, path.stat().st_ino, path.read_bytes())
        for path in directory.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def project(tmp_path):
    """Return the directory of one project in the spool `tmp_path`; nothing is in it yet."""
    return tmp_path / "0123abcd"


# --- status --------------------------------------------------------------------------------------


def test_status_tells_what_waits(tmp_path, project):
    """For each project in the spool."""
    put(project, event("a"), event("b"), profile("c"))
    put(tmp_path / "89ab4567", event("d"))
    (answer,) = run_json("status", "--spool", tmp_path)
    first, second = answer["projects"]
    assert (first["project"], first["waiting"], first["segments"], first["led"]) == ("0123abcd", 3, 1, False)
    assert first["bytes"] == sum(path.stat().st_size for path in project.glob("*.seg"))
    assert 0 <= first["oldest_age_s"] < 3000
    assert 0 < first["free_bytes"] < first["volume_bytes"]
    assert (second["project"], second["waiting"], answer["findings"]) == ("89ab4567", 1, [])


def test_status_takes_a_project_for_itself(tmp_path, project):
    """Its directory may be given in place of the spool's."""
    put(project, event("a"))
    put(tmp_path / "89ab4567", event("d"))
    (answer,) = run_json("status", "--spool", project)
    assert [shown["waiting"] for shown in answer["projects"]] == [1]


def test_status_changes_nothing(tmp_path, project):
    """Not a byte, not a time, no new file."""
    bury(project, event("x"))
    put(project, event("a"))
    before = snapshot(tmp_path)
    run("status", "--spool", tmp_path)
    assert snapshot(tmp_path) == before


def test_status_leaves_the_lead_to_the_leader(tmp_path, project):
    """It is seen from outside, and what the leader holds stays held."""
    journal = Journal(project)
    journal.put([event("a"), event("b")])
    claim = journal.claim("import", 1, 10**9)
    journal.ack(claim, [0])
    (answer,) = run_json("status", "--spool", tmp_path)
    assert (answer["projects"][0]["led"], answer["projects"][0]["waiting"]) == (True, 1)
    assert deliver(journal) == ["b"]
    journal.close()


def test_status_takes_no_lead_itself(tmp_path, project):
    """The next process that wants it gets it."""
    put(project, event("a"))
    run("status", "--spool", tmp_path)
    assert names_waiting(project) == ["a"]


def test_dead_letters_are_a_finding(tmp_path, project):
    """Exit code 1, and the command to go on with."""
    bury(project, event("a"))
    result = run("status", "--spool", tmp_path)
    assert result.exit_code == 1
    assert f"spool dead list --spool {tmp_path}" in result.output


@pytest.mark.parametrize(("led", "hint"), [(False, "No process delivers it"), (True, "its log says why")])
def test_what_waits_for_more_than_an_hour_is_a_finding(tmp_path, project, led, hint):
    """With the hint that fits."""
    journal = Journal(project, clock=lambda: time.time() - 3700)
    journal.put([event("a")])
    if led:
        assert journal.claim("import", 1, 10**9) is not None
    result = run("status", "--spool", tmp_path)
    journal.close()
    assert result.exit_code == 1
    assert hint in result.output


def test_status_counts_damage(tmp_path, project):
    """Of what waits: a torn end, and bytes that are no record."""
    put(project, event("a"), event("b"), event("c"))
    (segment,) = project.glob("*.seg")
    data = bytearray(segment.read_bytes())
    data[len(data) // 3 + 10] ^= 1
    segment.write_bytes(bytes(data) + b"1 i 5f3a")
    (answer,) = run_json("status", "--spool", tmp_path)
    shown = answer["projects"][0]
    assert (shown["waiting"], shown["torn_tails"]) == (2, 1)
    assert shown["corrupt_bytes"] == len(data) // 3


def test_damaged_acks_are_told(tmp_path, project):
    """In words, and the figures are those of a leader that would begin now."""
    put(project, event("a"))
    (project / "acks.json").write_text("rubbish")
    result = run("status", "--spool", tmp_path)
    assert result.exit_code == 0
    assert "acks.json is damaged" in result.output


@pytest.mark.parametrize("arguments", [("status",), ("status", "--json"), ("dead", "list")])
def test_a_directory_that_is_no_spool_is_told(tmp_path, arguments):
    """A misspelt name in a monitoring must not be green for ever."""
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").touch()
    result = run(*arguments, "--spool", tmp_path / "letters")
    assert result.exit_code == 2
    assert f"{tmp_path / 'letters'} is no spool." in " ".join(result.output.split())


def test_an_empty_directory_is_no_spool(tmp_path):
    """Whether it will be one nobody knows."""
    result = run("status", "--spool", tmp_path)
    assert result.exit_code == 2
    assert "Nothing was put there yet" in result.output


def test_a_directory_of_spools_is_told(tmp_path):
    """As the default place has one for each token and host; it says how to name one."""
    put(tmp_path / "shop" / "0123abcd", event("a"))
    result = run("status", "--spool", tmp_path)
    assert result.exit_code == 2, result.output
    assert f"give --spool {tmp_path}/shop" in " ".join(result.output.split())


# --- where it is ----------------------------------------------------------------------------------


def test_the_setting_names_the_spool(tmp_path, project, monkeypatch):
    """The same as the application's, and no token is needed for it."""
    put(project, event("a"))
    monkeypatch.setenv("MIXPANEL_VISITOR_SPOOL", f"file://{tmp_path}")
    monkeypatch.delenv("MIXPANEL_TOKEN", raising=False)
    (answer,) = run_json("status")
    assert answer["projects"][0]["waiting"] == 1


def test_without_a_setting_it_is_where_the_tracker_puts_it(tmp_path, monkeypatch):
    """In the default place for this token."""
    monkeypatch.delenv("MIXPANEL_VISITOR_SPOOL", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("MIXPANEL_TOKEN", "some-token")
    tracker = Tracker(secret_key="a-key-of-some-length", deliver=False, dependencies=Dependencies())
    put(engine_of(tracker).pipeline.spool.directory, event("a"))
    tracker.close()
    (answer,) = run_json("status")
    project = hashlib.sha256(b"some-token").hexdigest()[:8]
    assert [(shown["project"], shown["waiting"]) for shown in answer["projects"]] == [(project, 1)]


@pytest.mark.parametrize("location", ["memory:", "redis://here", "/no/such/directory", "/dev/null"])
def test_what_is_no_spool_is_a_usage_error(location):
    """And says what is."""
    result = run("status", "--spool", location)
    assert result.exit_code == 2
    assert "Error: " in result.output


def test_without_any_setting_it_is_a_usage_error(monkeypatch):
    """It names what is missing."""
    for name in ("MIXPANEL_VISITOR_SPOOL", "MIXPANEL_TOKEN", "MIXPANEL_PROJECT_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    result = run("status")
    assert result.exit_code == 2
    assert "MIXPANEL_TOKEN" in result.output
    assert "--spool DIR" in result.output


# --- dead list and show ---------------------------------------------------------------------------


def test_list_is_a_line_each(tmp_path, project):
    """Number, time, endpoint, name, reason, field, status."""
    bury(project, event("Signed up"))
    bury(project, profile("p"), message="no such profile", field="")
    first, second = run("dead", "list", "--spool", tmp_path).output.splitlines()
    assert first.split("  ")[0] == numbers(project)[0]
    assert re.split("  +", first)[2:] == ["import", "Signed up", "too old", "properties.time", "400"]
    assert re.split("  +", second)[2:] == ["engage", "$set", "no such profile", "-", "400"]


def test_list_filters_by_reason_and_bounds(tmp_path, project):
    """The newest stay, and it says that there are others."""
    bury(project, *(event(number) for number in range(5)))
    bury(project, event("other"), message="Bad Token")
    bad = run_json("dead", "list", "--spool", tmp_path, "--reason", "bad t")
    assert [shown["name"] for shown in bad] == ["other"]
    newest = run_json("dead", "list", "--spool", tmp_path, "--limit", 2)
    assert [shown["name"] for shown in newest] == ["4", "other"]
    assert "(4 older ones are not shown" in run("dead", "list", "--spool", tmp_path, "--limit", 2).output
    assert len(run_json("dead", "list", "--spool", tmp_path, "--limit", 0)) == 6


def test_show_is_the_whole_record(tmp_path, project):
    """Readable for a person, whole for a program; the beginning of a number is enough."""
    bury(project, Record("import", '{"event":"Größe","properties":{"a":[1,2]}}'.encode()))
    (number,) = numbers(project)
    shown = run("dead", "show", number[:6], "--spool", tmp_path).output
    assert "too old" in shown
    assert json.loads(shown[shown.index("\n\n") :]) == {"event": "Größe", "properties": {"a": [1, 2]}}
    assert "Größe" in shown
    (answer,) = run_json("dead", "show", number, "--spool", tmp_path)
    assert answer["record"] == {"event": "Größe", "properties": {"a": [1, 2]}}
    assert answer["field"] == "properties.time"


@pytest.mark.parametrize("command", ["list", "show"])
def test_what_was_sent_cannot_play_with_the_terminal(tmp_path, project, command):
    """Neither in the list nor in a whole record, which stays the JSON that it is."""
    nasty = "\x1b[31m\x9b\u202e\x7f\U000e0001"
    body = json.dumps({"event": nasty}, ensure_ascii=False).encode()
    bury(project, Record("import", body), message=nasty, field=nasty)
    arguments = numbers(project) if command == "show" else []
    result = run("dead", command, *arguments, "--spool", tmp_path)
    assert result.exit_code == 0
    assert result.output.replace("\n", "").isprintable()
    if command == "show":
        assert json.loads(result.output[result.output.index("\n\n") :]) == {"event": nasty}


def test_a_number_that_is_not_there_is_a_failure(tmp_path, project):
    """It may have been sent again by another."""
    bury(project, event("a"))
    for command in (["show", "ffff"], ["retry", "ffff"], ["purge", "--yes", "ffff"]):
        result = run("dead", *command, "--spool", tmp_path)
        assert result.exit_code == 1
        assert "there is no dead letter ffff" in result.output
    assert len(bodies(project)) == 1


# --- dead retry -----------------------------------------------------------------------------------


def test_retry_puts_the_same_bytes_back(tmp_path, project):
    """Into the journal that they were refused from, and they are dead letters no more."""
    body = b'{ "event" : "caf\\u00e9",  "n": 1.0 }'
    other = tmp_path / "89ab4567"
    bury(project, Record("import", body))
    bury(other, profile("p"))
    assert run_json("dead", "retry", "--all", "--spool", tmp_path) == [{"put_back": 2, "error": None}]
    assert bodies(project) == bodies(other) == []
    journal = Journal(project)
    claim = journal.claim("import", 10, 10**9)
    assert claim.bodies == (body,)
    journal.close()
    assert names_waiting(other, "engage") == ["p"]


def test_retry_takes_what_is_selected(tmp_path, project):
    """By number or by reason; the others stay in their order."""
    bury(project, *(event(number) for number in range(4)))
    bury(project, event("x"), message="other")
    second = numbers(project)[1]
    assert run("dead", "retry", second, "--spool", tmp_path).exit_code == 0
    assert names_waiting(project) == ["1"]
    assert run("dead", "retry", "--reason", "OTHER", "--spool", tmp_path).exit_code == 0
    assert names_waiting(project) == ["1", "x"]
    assert bodies(project) == [event(number).body for number in (0, 2, 3)]


@pytest.mark.parametrize("command", ["retry", "purge"])
@pytest.mark.parametrize("selectors", [[], ["--all", "--reason", "x"], ["abcd", "--all"]])
def test_what_is_meant_must_be_said(tmp_path, project, command, selectors):
    """In one way, not in two."""
    bury(project, event("a"))
    assert run("dead", command, *selectors, "--spool", tmp_path).exit_code == 2
    assert len(bodies(project)) == 1


def test_retry_keeps_what_the_spool_does_not_take(tmp_path, project):
    """And says why."""
    bury(project, event("a"))
    hoard = project / "0000000000000000-other-1-00000000-000001.seg"
    hoard.touch()
    os.truncate(hoard, 2**31)  # sparse: as large as it looks to the journal, not to the disk
    result = run("dead", "retry", "--all", "--spool", tmp_path)
    assert result.exit_code == 1
    assert "0 of 1 dead letter was put back" in result.output
    assert "is full" in result.output
    assert bodies(project) == [event("a").body]


def test_a_retry_that_is_killed_loses_nothing(tmp_path, project):
    """At its worst moment, the spool has the letters and they are dead letters still."""
    bury(project, *(event(number) for number in range(3)))
    script = """
import os, sys
from mixpanel_visitor.cli import main

def die_instead_of_removing_the_letters(event, arguments):
    if event == "os.remove" and "/dead/" in str(arguments[0]):
        os._exit(9)

sys.addaudithook(die_instead_of_removing_the_letters)
main(["spool", "dead", "retry", "--all", "--spool", sys.argv[1]])
"""
    with pytest.raises(AssertionError):
        run_python(script, tmp_path)
    assert bodies(project) == [event(number).body for number in range(3)]
    assert names_waiting(project) == ["0", "1", "2"]


def test_retry_says_when_nobody_delivers(tmp_path, project):
    """For then nothing happens by itself."""
    bury(project, event("a"), event("b"))
    assert "No process delivers" in run("dead", "retry", numbers(project)[0], "--spool", tmp_path).output
    leader = Journal(project)
    leader.put([event("c")])
    assert deliver(leader) == ["a", "c"]
    assert "No process delivers" not in run("dead", "retry", "--all", "--spool", tmp_path).output
    leader.put([event("d")])  # so that it looks at once
    assert sorted(deliver(leader)) == ["b", "d"]
    leader.close()


def test_long_work_shows_how_far_it_is(tmp_path, project):
    """On a terminal, and beside what programs read."""
    bury(project, event("a"))
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "mixpanel_visitor",
                "spool",
                "dead",
                "retry",
                "--all",
                "--spool",
                tmp_path,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm"},
            timeout=PATIENCE_S,
            check=True,
        )
        assert b"Putting back" in os.read(ours, 10_000)
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.stdout.startswith(b"1 of 1 dead letter was put back")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")
@pytest.mark.parametrize("command", [["retry", "--all"], ["purge", "--all", "--yes"]])
def test_root_does_not_write_into_anothers_spool(tmp_path, project, command):
    """Its files would be in the way of the process that owns it."""
    bury(project, event("a"))
    os.chown(project, 65534, 65534)
    before = snapshot(tmp_path)
    result = run("dead", *command, "--spool", tmp_path)
    assert result.exit_code == 1
    assert "Run this as that user: sudo -u" in result.output
    assert snapshot(tmp_path) == before


# --- dead purge -----------------------------------------------------------------------------------


def test_purge_asks(tmp_path, project):
    """No is no, and --yes is yes."""
    bury(project, event("a"), event("b"))
    refused = run("dead", "purge", "--all", "--spool", tmp_path, input="n\n")
    assert refused.exit_code == 1
    assert "Throw away 2 dead letters for good?" in refused.output
    assert len(bodies(project)) == 2
    assert run("dead", "purge", numbers(project)[0], "--spool", tmp_path, input="y\n").exit_code == 0
    assert bodies(project) == [event("b").body]
    assert run_json("dead", "purge", "--all", "--yes", "--spool", tmp_path) == [{"purged": 1}]
    assert list((project / "dead").iterdir()) == []
    assert names_waiting(project) == []


def test_purge_all_takes_lines_that_cannot_be_read(tmp_path, project):
    """Or the status would speak of them for ever."""
    bury(project, event("a"))
    (path,) = (project / "dead").iterdir()
    path.write_bytes(path.read_bytes() + b"rubbish\n")
    assert run("dead", "purge", numbers(project)[0], "--yes", "--spool", tmp_path).exit_code == 0
    assert run("status", "--spool", tmp_path).exit_code == 1
    assert run_json("dead", "purge", "--all", "--yes", "--spool", tmp_path) == [{"purged": 0}]
    assert run("status", "--spool", tmp_path).exit_code == 0


WRONG = {"MIXPANEL_TOKEN": "a b", "MIXPANEL_VISITOR_DURABILITY": "never", "MIXPANEL_VISITOR_SPOOL": ""}


@pytest.mark.parametrize(
    ("arguments", "environment", "why"),
    [
        (["spool", "status"], WRONG, ["MIXPANEL_TOKEN", "MIXPANEL_VISITOR_DURABILITY", "--spool DIR"]),
        (["spool", "dead", "list"], WRONG, ["MIXPANEL_TOKEN", "--spool DIR"]),
        (["worker"], WRONG, ["2 mistakes", "MIXPANEL_TOKEN", "MIXPANEL_VISITOR_DURABILITY"]),
        (["send"], WRONG, ["2 mistakes", "MIXPANEL_TOKEN"]),
        (["spool", "status"], {"MIXPANEL_VISITOR_SPOOL": "kafka://x"}, ["is no directory"]),
        (["spool", "status"], {"MIXPANEL_VISITOR_SPOOL": "redis://r"}, ["1 mistake", "set MIXPANEL_TOKEN"]),
        (["doctor"], {"MIXPANEL_VISITOR_SPOOL": "redis://"}, ["names no host"]),
        (["doctor", "--spool", "kafka://x"], {}, ["a spool is a directory"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_settings_are_told_without_the_use_of_the_command(arguments, environment, why):
    """The command is right, the environment is not: exit code 2, or the doctor's 1."""
    environment = {"MIXPANEL_TOKEN": "", **environment}
    result = CliRunner().invoke(main, arguments, env=environment)
    assert result.exit_code == (1 if arguments == ["doctor"] else 2)
    assert all(each in result.output for each in why)
    assert ("Usage:" in result.output) == (why == ["is no directory"])
    assert "Traceback" not in result.output
