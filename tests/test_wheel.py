"""The wheel: what README and pages show runs from the built package, with no source tree in reach."""

import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import urllib.request
import venv
from pathlib import Path

import pytest
from support.waiting import PATIENCE_S

from mixpanel_visitor.emulator import LocalMixpanel

ROOT = Path(__file__).parent.parent
PLAN = """
from dataclasses import dataclass
from mixpanel_visitor.plan import Plan

plan = Plan()


@plan.event("Signed up")
@dataclass
class SignedUp:
    seats: int = 1
"""
COMMANDS = {
    "version": "version",
    "demo": "demo --once",
    "dev": "dev --help",  # it runs below
    "doctor": "doctor",
    "plan check": "plan check shop.events:plan src/",
    "plan export": "plan export shop.events:plan -o plan.json",
    "spool status": "spool status --json",
    "spool dead list": "spool dead list",
    "spool dead show": "spool dead show --help",
    "spool dead retry": "spool dead retry --all",
    "spool dead purge": "spool dead purge --all --yes",
    "send": "send --timeout 20",
    "worker": "worker --help",
}
"""What runs, for each command that they show; those that go on until they are ended tell their usage."""

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """An environment with the wheel in it, and with the packages of others that are installed here."""
    here = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(here)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=PATIENCE_S)
    (wheel,) = here.glob("*.whl")
    venv.create(here / "env", with_pip=False)
    python = here / "env/bin/python"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
    ]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True, timeout=PATIENCE_S)
    # The packages of others; this line does not bring the source tree, which a .pth file there names.
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    others = here / f"env/lib/{version}/site-packages/others.pth"
    others.write_text(sysconfig.get_path("purelib"))
    return here / "env/bin"


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A directory as a user's project has it: a plan, sources, and events that wait in a spool."""
    directory = tmp_path_factory.mktemp("shop")
    (directory / "shop").mkdir()
    (directory / "shop/events.py").write_text(PLAN)
    (directory / "src").mkdir()
    (directory / "src/views.py").write_text("visitor.track('Signed up', seats=1)\n")
    return directory


@pytest.fixture
def run(installed, shop):
    """Run a program of the environment in the user's project."""
    with LocalMixpanel() as mixpanel:
        settings = {
            "PATH": f"{installed}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(shop),
            "MIXPANEL_TOKEN": "a-token",
            "MIXPANEL_VISITOR_SECRET_KEY": "a-key-of-some-length",
            "MIXPANEL_API_HOST": mixpanel.url,
            "MIXPANEL_VISITOR_SPOOL": str(shop / "spool"),
        }

        def run(*command):
            return subprocess.run(
                [installed / command[0], *command[1:]],
                cwd=shop, env=settings, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
            )  # fmt: skip

        yield run


def test_the_package_comes_from_the_wheel(run, installed):
    """Not from the source tree, of which nothing is in reach."""
    found = run("python", "-c", "import mixpanel_visitor; print(mixpanel_visitor.__file__)")
    assert Path(found.stdout.strip()).is_relative_to(installed.parent), found.stderr


def test_types_and_data_are_in_the_wheel(run):
    """Type checkers look for `py.typed`, pages for their script, the local Mixpanel for its page."""
    code = (
        "from importlib.resources import files; root = files('mixpanel_visitor');"
        "names = ('py.typed', 'tracking/handover_script_js/both.js', 'emulator/page/index.html');"
        "print(*[(root / name).is_file() for name in names])"
    )
    assert run("python", "-c", code).stdout.split() == ["True"] * 3


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_runs_from_the_wheel(run, name):
    """As they show it; first an event is stored, for there has to be a spool to look at."""
    store = "from mixpanel_visitor import Tracker; Tracker(deliver=False).track('ann', 'Seen')"
    assert run("python", "-c", store).returncode == 0
    result = run("mixpanel-visitor", *COMMANDS[name].split())
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_local_mixpanel_shows_its_page_from_the_wheel(installed):
    """`uvx mixpanel-visitor dev` needs nothing else: the page and all that it loads are in the wheel."""
    command = [installed / "mixpanel-visitor", "dev", "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            url = json.loads(process.stdout.readline())["url"]
            with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
                page = answer.read().decode()
            for path in set(re.findall(r'(?:src|href)="(/[^"]+)"', page)):
                with urllib.request.urlopen(url + path, timeout=PATIENCE_S) as answer:
                    assert answer.read()
        finally:
            process.send_signal(signal.SIGINT)
    assert "Mixpanel" in page


def test_every_command_that_is_shown_is_run():
    """A new one belongs into the table."""
    texts = [path.read_text("utf-8") for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))]
    blocks = re.findall(r"```console\n(.*?)```", "".join(texts), re.DOTALL)
    lines = [line for line in "".join(blocks).splitlines() if not line.startswith("$ pip ")]
    shown = re.findall(r"mixpanel-visitor ((?:plan|spool dead|spool) [a-z]+|[a-z]+)", "\n".join(lines))
    assert shown
    assert set(shown) <= COMMANDS.keys()
