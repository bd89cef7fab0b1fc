"""The package as a whole: what importing it costs, what it shows, how large its rooms are."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from support.facts import facts
from support.trackers import recording_tracker

import mixpanel_visitor
from mixpanel_visitor.tracking.tracker import engine_of

SOURCE = Path(mixpanel_visitor.__file__).parent
HEAVY = (
    "mixpanel", "redis", "requests", "urllib3", "starlette", "fastapi", "flask", "werkzeug", "httpx", "click",
    "msgspec", "pydantic",
)  # fmt: skip
DOORS = (
    "starlette",
    "fastapi",
    "flask",
    "werkzeug",
    "litestar",
    "quart",
    "celery",
    "rq",
    "dramatiq",
    "taskiq",
)
MODULES = ["mixpanel_visitor", "mixpanel_visitor.asgi", "mixpanel_visitor.wsgi", "mixpanel_visitor.plan"]

PROBE = """
import sys, threading, os
import {module}
names = {heavy!r}
files = os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []
print([name for name in names if name in sys.modules], threading.active_count(), len(files))
"""


@pytest.mark.parametrize(
    ("system", "needed"),
    [
        ({"platform_machine": "x86_64"}, True),
        ({"platform_machine": "aarch64"}, True),
        ({"platform_machine": "arm64", "sys_platform": "darwin"}, True),
        ({"platform_machine": "AMD64", "sys_platform": "win32"}, True),
        ({"platform_machine": "ARM64", "sys_platform": "win32"}, False),
        ({"platform_machine": "riscv64"}, False),
        ({"platform_machine": "x86_64", "platform_python_implementation": "PyPy"}, False),
    ],
)
def test_isal_is_asked_for_where_it_has_wheels(system, needed):
    """Elsewhere it would need a compiler to install this package, and zlib does the same."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    (isal,) = (each for each in map(Requirement, project["dependencies"]) if each.name == "isal")
    system = {"platform_python_implementation": "CPython", "python_version": "3.12", **system}
    assert isal.marker.evaluate(system) is needed


def probe(module):
    code = PROBE.format(module=module, heavy=HEAVY)
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return found.stdout.strip()


@pytest.mark.parametrize("module", MODULES)
def test_importing_loads_nothing_heavy_and_starts_nothing(module):
    """No framework, no HTTP client, no official library; no thread, no open file."""
    loaded, threads, files = re.fullmatch(r"(\[.*\]) (\d+) (\d+)", probe(module)).groups()
    assert loaded == "[]"
    assert threads == "1"
    assert files in ("0", "4")  # stdin, stdout, stderr, and the listing itself


def test_constructing_a_tracker_starts_and_opens_nothing(tmp_path):
    """Not even the spool's directory is made before the first event."""
    code = (
        "import threading, sys, os; from mixpanel_visitor import Tracker;"
        f"t = Tracker(token='t', secret_key='a-key-of-some-length', spool={str(tmp_path / 'spool')!r});"
        f"print(threading.active_count(), os.path.exists({str(tmp_path / 'spool')!r}));"
        "print('urllib3' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["1", "False", "False"]


def test_the_public_names_are_the_intended_ones():
    """Whoever star-imports gets these and no others; each can be had."""
    assert mixpanel_visitor.__all__ == sorted(mixpanel_visitor.__all__)
    for name in mixpanel_visitor.__all__:
        assert getattr(mixpanel_visitor, name) is not None
    # With "@" begins what pytest has put in: it rewrites the assertions of its plugins' packages.
    public = {name for name in vars(mixpanel_visitor) if not name.startswith(("_", "@"))}
    modules = {path.stem for path in SOURCE.iterdir()}
    assert public - modules - {"TYPE_CHECKING"} == set(mixpanel_visitor.__all__)


TRACKER_NAMES = {
    "close", "consumer", "flush", "from_env", "from_mapping", "resume", "settings", "sign_traits", "start",
    "stats", "track", "visitor",
}  # fmt: skip
VISITOR_NAMES = {
    "alias", "consent", "device_id", "distinct_id", "export", "flag", "flags", "group_delete", "group_remove",
    "group_set", "group_set_once", "group_union", "group_unset", "group_update", "id", "identify", "is_bot",
    "is_new", "mixpanel", "opt_in", "opt_out", "people_append", "people_clear_charges", "people_delete",
    "people_increment", "people_remove", "people_set", "people_set_once", "people_track_charge",
    "people_union", "people_unset", "people_update", "register", "reset", "set_group", "source",
    "spid_user_id", "track", "user_id", "vouched",
}  # fmt: skip
"""What the contract and the reference document; a new name belongs there first."""


def shown(thing):
    return {name for name in dir(thing) if not name.startswith("_")}


def test_a_tracker_shows_the_documented_names_and_no_others():
    """What the middlewares need besides is no user's business, and not in their completion."""
    tracker, _ = recording_tracker()
    assert shown(tracker) == shown(mixpanel_visitor.Tracker) == TRACKER_NAMES


def test_a_visitor_shows_the_documented_names_and_no_others():
    """In a request as in a job: nothing that would drop events, or write some that nobody asked for."""
    tracker, _ = recording_tracker()
    with tracker.visitor("user-42") as visitor:
        _, in_request = engine_of(tracker).begin(facts(), in_background=False)
        assert shown(visitor) == shown(in_request) == shown(mixpanel_visitor.Visitor) == VISITOR_NAMES


def test_the_package_shows_its_public_names_and_no_others():
    """`dir(mixpanel_visitor)` is what completion offers."""
    assert shown(mixpanel_visitor) == set(mixpanel_visitor.__all__)


def test_a_name_that_is_not_there_says_so():
    """The names are looked up when they are asked for, and only those."""
    with pytest.raises(AttributeError, match="Trakcer"):
        _ = mixpanel_visitor.Trakcer
    assert set(mixpanel_visitor.__all__) <= set(dir(mixpanel_visitor))


@pytest.mark.parametrize(
    ("statement", "spared"),
    [
        ("import mixpanel_visitor", ("mixpanel_visitor.", "orjson", "logging")),
        ("from mixpanel_visitor import current_visitor", ("mixpanel_visitor.delivery", "orjson", "http.")),
    ],
)
def test_who_needs_little_imports_little(statement, spared):
    """The package costs every test run, for its plugin, and every module that tracks."""
    code = f"{statement}; import sys; print(*sys.modules, sep='\\n')"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [name for name in found.stdout.split() if name.startswith(spared)] == []


def test_missing_extras_say_how_to_install_them():
    """The error of a missing framework holds the command."""
    error = mixpanel_visitor.MissingExtraError("flask", "flask")
    assert "pip install 'mixpanel-visitor[flask]'" in str(error)
    assert isinstance(error, ImportError)


@pytest.mark.parametrize("door", DOORS)
def test_a_door_without_its_framework_says_how_to_install_it(door):
    """Even where nothing of what that framework is made of is there either."""
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({DOORS!r}))\n"
        f"try: import mixpanel_visitor.{door}\nexcept ImportError as no: print(type(no).__name__, no)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.startswith("MissingExtraError")
    assert f"pip install 'mixpanel-visitor[{door}]'" in found.stdout
