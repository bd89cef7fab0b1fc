"""`mixpanel-visitor dev`: what it prints, and how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from support.waiting import PATIENCE_S

from mixpanel_visitor.cli import main
from mixpanel_visitor.emulator import LocalMixpanel

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def dev(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run the command on a free port, as a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mixpanel_visitor", "dev", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def line(process: subprocess.Popen[str]) -> str:
    """Return the next line that it prints."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def post(url: str, path: str, value: Any) -> bytes:
    """Send something to it."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url + path, json.dumps(value).encode(), headers)
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
        return bytes(response.read())


def event(name: str = "Signed up", **properties: Any) -> dict[str, Any]:
    """Make an event of now."""
    stamped = {"token": "t", "distinct_id": "u-1", "time": time.time(), "$insert_id": "i-1", **properties}
    return {"event": name, "properties": stamped}


@pytest.mark.servers
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_how_to_use_it_and_ends_well(number):
    """One setting, the page, and 0 at the end."""
    with dev() as process:
        url = line(process).rpartition(" ")[2].rstrip("/")
        assert line(process) == f"The server sends here with:   MIXPANEL_API_HOST={url}"
        assert line(process) == f'The browser sends here with:  mixpanel.init(TOKEN, {{api_host: "{url}"}})'
        assert "Ctrl-C" in line(process)
        post(url, "/track", event())
        assert line(process).endswith("u-1")
        process.send_signal(number)
        output, errors = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0
        assert output == "Stopped. Events received: 1; refused: 0.\n"
        assert errors == ""


@pytest.mark.servers
def test_it_prints_what_arrives():
    """A line for each event, update and refusal."""
    with dev() as process:
        url = line(process).rpartition(" ")[2].rstrip("/")
        line(process), line(process), line(process)
        signed_up = event()
        post(url, "/track", [signed_up, signed_up, event("Left", distinct_id="", **{"$device_id": "d-1"})])
        assert line(process).split()[2:] == ["Signed", "up", "u-1"]
        assert line(process).split()[2:] == ["Signed", "up", "u-1", "(received", "2", "times)"]
        assert line(process).split()[2:] == ["Left", "d-1"]
        post(url, "/engage", {"$token": "t", "$distinct_id": "u-1", "$set": {}})
        assert line(process).split()[2:] == ["$set", "u-1"]
        post(url, "/groups", {"$token": "t", "$group_key": "company", "$group_id": "Acme", "$set": {}})
        assert line(process).split()[2:] == ["$set", "company:", "Acme"]
        post(url, "/track", event(distinct_id="null"))
        assert "refused by /track record 0: 'properties.distinct_id' is invalid" in line(process)


@pytest.mark.servers
def test_what_was_sent_cannot_play_with_the_terminal():
    """Control characters are replaced, and long names cut."""
    with dev() as process:
        url = line(process).rpartition(" ")[2].rstrip("/")
        line(process), line(process), line(process)
        post(url, "/track", event("\x1b[31mred\r\n" + "x" * 200, distinct_id="a\x9b\u202eb"))
        shown = line(process)
        assert shown.isprintable()
        assert "?[31mred??xxx" in shown
        assert shown.endswith("a??b")
        assert len(shown) < 120


@pytest.mark.servers
def test_json_lines_are_for_programs():
    """One object a line: where it listens, what arrives, the counts at the end."""
    with dev("--json") as process:
        listening = json.loads(line(process))
        assert listening["type"] == "listening"
        assert listening["url"] == f"http://127.0.0.1:{listening['port']}"
        post(listening["url"], "/track", [event(), event(time=1)])
        post(listening["url"], "/engage", {"$token": "t", "$distinct_id": "u-1", "$set": {"a": 1}})
        arrived, refused, updated = (json.loads(line(process)) for _ in range(3))
        assert (arrived["type"], arrived["event"], arrived["properties"]["token"]) == (
            "event",
            "Signed up",
            "t",
        )
        assert (refused["type"], refused["index"]) == ("rejected", 1)
        assert (updated["type"], updated["operation"], updated["value"]) == (
            "profile_update",
            "$set",
            {"a": 1},
        )
        process.terminate()
        stopped = json.loads(line(process))
        assert (stopped["type"], stopped["stats"]["unique"]) == ("stopped", 1)
        assert process.wait(20) == 0


@pytest.mark.servers
def test_quiet_is_quiet():
    """After it said where it listens."""
    with dev("--json", "--quiet") as process:
        url = json.loads(line(process))["url"]
        post(url, "/track", event())
        process.terminate()
        assert process.communicate(timeout=PATIENCE_S) == ("", "")
        assert process.returncode == 0


@pytest.mark.servers
def test_only_the_given_token_is_let_in():
    """With --token."""
    with dev("--json", "--quiet", "--token", "good") as process:
        url = json.loads(line(process))["url"]
        assert post(url, "/track", event(token="good")) == b"1"
        with pytest.raises(urllib.request.HTTPError, match="401") as caught:
            post(url, "/track", event(token="bad"))
        caught.value.close()


@pytest.mark.servers
def test_another_host_is_warned_of():
    """On stderr, so that programs are not disturbed."""
    with dev("--json", "--host", "0.0.0.0") as process:
        assert json.loads(line(process))["url"].startswith("http://127.0.0.1:")
        process.terminate()
        assert "Anyone who reaches it" in process.communicate(timeout=PATIENCE_S)[1]


@pytest.mark.servers
def test_it_ends_when_nobody_reads_its_lines():
    """As `mixpanel-visitor dev | head` does."""
    with dev("--json") as process:
        url = json.loads(line(process))["url"]
        assert process.stdout is not None
        process.stdout.close()
        with contextlib.suppress(ConnectionError):  # its end may be faster than its answer
            assert post(url, "/track", event()) == b"1"
        process.wait(20)
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


@pytest.mark.servers
def test_the_id_merge_is_told_and_used():
    """In the first line, and by whom the events are."""
    with dev("--json", "--id-merge", "legacy") as process:
        listening = json.loads(line(process))
        assert listening["id_merge"] == "legacy"
        post(listening["url"], "/track", event("$create_alias", distinct_id="D", alias="u-1"))
        post(listening["url"], "/track", event())
        assert [json.loads(line(process))["person"] for _ in range(2)] == ["D", "D"]


@pytest.mark.servers
def test_the_id_merge_is_simplified_unless_another_is_asked_for():
    """As in a new project."""
    with dev("--json") as process:
        assert json.loads(line(process))["id_merge"] == "simplified"


def test_another_id_merge_is_a_usage_error():
    """The ways that there are, are named."""
    result = CliRunner().invoke(main, ["dev", "--port", "0", "--id-merge", "spid"])
    assert result.exit_code == 2
    assert "'simplified', 'original', 'legacy'" in result.output


def test_a_port_that_is_taken_is_explained():
    """Exit code 1, the reason and the fix."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(main, ["dev", "--port", str(port)])
    assert result.exit_code == 1
    assert f"port {port} on 127.0.0.1 is taken" in result.output
    assert f"mixpanel-visitor dev --port {port + 1}" in result.output


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid"])
def test_a_host_that_is_not_ours_is_explained(host):
    """Exit code 1, the reason and the fix."""
    result = CliRunner().invoke(main, ["dev", "--port", "0", "--host", host])
    assert result.exit_code == 1
    assert f"{host} is not an address of this machine" in result.output


def test_an_empty_token_is_a_usage_error():
    """Nobody could send with it."""
    result = CliRunner().invoke(main, ["dev", "--port", "0", "--token", ""])
    assert result.exit_code == 2
    assert "must not be empty" in result.output


def test_it_leaves_no_thread_and_no_blocked_signal():
    """After it could not start."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    threads = set(threading.enumerate())  # other tests' servers may run
    with socket.create_server(("127.0.0.1", 0)) as taken:
        CliRunner().invoke(main, ["dev", "--port", str(taken.getsockname()[1])])
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
    assert "local-mixpanel" not in {thread.name for thread in set(threading.enumerate()) - threads}


def test_what_is_kept_is_there_at_the_next_start(tmp_path):
    """In a directory of one's choice."""
    arguments = ("--port", "0", "--json", "--keep", str(tmp_path / "kept"))
    with dev(*arguments) as process:
        post(json.loads(line(process))["url"], "/track", [event("Kept")])
        line(process)
    with dev(*arguments) as process:
        url = json.loads(line(process))["url"]
        with urllib.request.urlopen(url + "/_local/events", timeout=PATIENCE_S) as answer:
            assert [each["event"] for each in json.load(answer)["events"]] == ["Kept"]


def test_a_directory_in_use_is_explained(tmp_path):
    """By another local Mixpanel."""
    with LocalMixpanel(keep=tmp_path):
        result = CliRunner().invoke(main, ["dev", "--port", "0", "--keep", str(tmp_path)])
    assert result.exit_code == 1
    assert "another local Mixpanel keeps its events in" in result.output


@pytest.mark.parametrize("chaos", ["429", "429=often", "418=0.1", "500=2"])
def test_chaos_that_does_not_exist_is_a_usage_error(chaos):
    """With what there is."""
    result = CliRunner().invoke(main, ["dev", "--port", "0", "--chaos", chaos])
    assert result.exit_code == 2
    assert "chaos" in result.output or "500 must be" in result.output


def test_chaos_can_be_asked_for():
    """All requests fail, and the page does not."""
    with dev("--port", "0", "--json", "--chaos", "500=1") as process:
        url = json.loads(line(process))["url"]
        with pytest.raises(urllib.error.HTTPError, match="500"):
            post(url, "/track", [event()])
        with urllib.request.urlopen(url + "/_local/chaos", timeout=PATIENCE_S) as answer:
            assert json.load(answer) == {"500": 1.0}


def test_flags_come_from_a_file(tmp_path):
    """As its definitions say."""
    path = tmp_path / "flags.json"
    path.write_text('{"flags": []}')
    with dev("--port", "0", "--json", "--flags", str(path)) as process:
        url = json.loads(line(process))["url"]
        with urllib.request.urlopen(url + "/flags/definitions", timeout=PATIENCE_S) as answer:
            assert json.load(answer) == {"code": 200, "flags": []}


def test_a_file_without_flags_is_a_usage_error(tmp_path):
    """Before anything is served."""
    path = tmp_path / "flags.json"
    path.write_text("{")
    result = CliRunner().invoke(main, ["dev", "--port", "0", "--flags", str(path)])
    assert result.exit_code == 2
    assert "is not JSON" in result.output
