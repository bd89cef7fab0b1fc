"""The deployment notes cannot rot: their commands are parsed by the command line, their settings resolved."""

import configparser
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support.waiting import PATIENCE_S

from mixpanel_visitor.cli import main
from mixpanel_visitor.settings import Settings

EXAMPLES = Path(__file__).parent.parent / "examples"
DEPLOY = EXAMPLES / "deploy"
UNITS = sorted(DEPLOY.glob("*.service"))
NEVER_ENOUGH = {"token": "t", "secret_key": "a-key-of-some-length"}


def unit(path):
    """Read a unit of systemd."""
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), strict=False)
    parser.optionxform = str
    parser.read(path)
    return parser


def yaml_commands():
    """Return each command of the YAML files with its environment."""
    for container in [
        *(yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"].values()),
        *(
            container
            for each in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
            for container in each["spec"]["template"]["spec"]["containers"]
        ),
    ]:
        environment = container.get("environment") or {
            each["name"]: each["value"] for each in container.get("env", ())
        }
        yield container["command"], environment


def commands():
    """Return each command of all files as words, with its environment."""
    for path in UNITS:
        service = unit(path)["Service"]
        settings = dict(word.split("=", 1) for word in shlex.split(service["Environment"]))
        yield shlex.split(service["ExecStart"]), settings
    for line in (DEPLOY / "Procfile").read_text().splitlines():
        words = shlex.split(line.partition(": ")[2])
        settings = dict(word.split("=", 1) for word in words if re.match(r"[A-Z_]+=", word))
        yield [word for word in words if not re.match(r"[A-Z_]+=", word)], settings
    yield from yaml_commands()


OURS = [words[1:] for words, _ in commands() if Path(words[0]).name == "mixpanel-visitor"]


def test_every_file_has_a_worker():
    """Two units, a Procfile, Kubernetes, compose."""
    assert [words[0] for words in OURS] == ["worker"] * 4


@pytest.mark.parametrize("words", OURS, ids=" ".join)
def test_our_commands_are_parsed(words):
    """With all their options; nothing runs."""
    name, *arguments = words
    group = main.make_context("mixpanel-visitor", [name, *arguments])
    command = main.get_command(group, name)
    assert command is not None
    command.make_context(name, arguments, parent=group)


@pytest.mark.parametrize("environment", [environment for _, environment in commands()], ids=str)
def test_settings_are_those_that_there_are(environment):
    """A misspelt one would be told, a wrong value as well."""
    ours = {name: value for name, value in environment.items() if name.startswith("MIXPANEL")}
    Settings.resolve(NEVER_ENOUGH, environ={**ours, "HOME": "/home/somebody"})


def test_whoever_has_a_worker_only_stores():
    """Else both deliver, and hosts take connections that Mixpanel counts."""
    servers = [environment for words, environment in commands() if Path(words[0]).name == "gunicorn"]
    assert [environment.get("MIXPANEL_VISITOR_DELIVER") for environment in servers] == ["0"] * 4


def test_redis_is_told_to_keep_what_it_has():
    """As `doctor` asks for it."""
    command = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["redis"]["command"]
    assert "--appendonly yes" in " ".join(command)
    assert "--maxmemory-policy noeviction" in " ".join(command)


def test_probes_ask_what_the_worker_answers():
    """On the port that it is told."""
    *_, worker = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    (container,) = worker["spec"]["template"]["spec"]["containers"]
    port = int(container["command"][container["command"].index("--metrics") + 1])
    assert container["ports"] == [{"name": "metrics", "containerPort": port}]
    for probe in ("livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"] == {"path": "/healthz", "port": "metrics"}


def test_units_share_the_user_and_the_spool():
    """A spool is of one user."""
    first, second = (unit(path)["Service"] for path in UNITS)
    assert first["User"] == second["User"]
    places = [re.search(r"SPOOL=(\S+)", each["Environment"])[1] for each in (first, second)]
    assert places[0] == places[1]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_understands_the_units(path, tmp_path):
    """But for the programs, which are not here."""
    text = re.sub(r"ExecStart=\S+", f"ExecStart={sys.executable}", path.read_text())
    copy = tmp_path / path.name
    copy.write_text(text)
    command = ["systemd-analyze", "verify", "--man=no", str(copy)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert path.name not in result.stderr, result.stderr


# --- capacity -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def capacity():
    """Return the example's names."""
    return runpy.run_path(str(EXAMPLES / "capacity.py"))


def test_small(capacity):
    """2,000 events a second on 20 hosts, six hours: 43 GB in all."""
    needs = capacity["simulate"](capacity["Load"](events_per_s=2_000, hosts=20))
    assert needs.backlog_events == pytest.approx(43_200_000, rel=0.001)
    assert needs.host_disk_gb == pytest.approx(2.2, abs=0.1)
    assert needs.drain_h == pytest.approx(6 * 2 / 28, rel=0.01)


def test_what_a_project_may_send_at_most(capacity):
    """At its cap no backlog is ever worked off; 8 connections carry it."""
    needs = capacity["simulate"](capacity["Load"](events_per_s=30_000, hosts=100))
    assert (needs.workers, needs.connections, needs.projects) == (1, 8, 1)
    assert needs.host_disk_gb == pytest.approx(6.7, abs=0.1)
    assert needs.drain_h == float("inf")


def test_without_an_outage_nothing_waits(capacity):
    """For longer than a second."""
    needs = capacity["simulate"](capacity["Load"](events_per_s=1_000, outage_h=0))
    assert (needs.backlog_events, needs.workers, needs.connections) == (0, 1, 1)


def test_more_than_a_project_may_send(capacity):
    """Is told."""
    assert capacity["simulate"](capacity["Load"](events_per_s=100_000, outage_h=0)).projects == 4


def test_it_is_a_command(capacity, capsys, monkeypatch):
    """With a table as its output."""
    monkeypatch.setattr(sys, "argv", ["capacity.py", "--events", "30000", "--hosts", "100"])
    capacity["main"]()
    assert "until all is delivered            never" in capsys.readouterr().out
