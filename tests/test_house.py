"""The map of the house, `src/mixpanel_visitor/README.md`, shows what is there."""

import ast
import re
import sys
from pathlib import Path

import pytest

import mixpanel_visitor

SOURCE = Path(mixpanel_visitor.__file__).parent
MAP = (SOURCE / "README.md").read_text("utf-8")
ROOMS = (
    "tracking",
    "core",
    "core/collector",
    "core/identity",
    "core/enrichment",
    "core/events",
    "delivery",
    "delivery/sending",
    "process",
    "observability",
)


@pytest.mark.parametrize("room", ROOMS)
def test_every_module_of_a_room_is_on_the_map(room):
    """A newcomer who reads only the map misses none."""
    modules = {path.stem for path in (SOURCE / room).glob("*.py")} - {"__init__"}
    assert modules - set(re.findall(r"`(\w+)`", MAP)) == set()


def test_every_path_on_the_map_is_there():
    """The walks and the recipes lead somewhere."""
    paths = re.findall(r"`((?:core|delivery|tracking|process|observability|plan|cli|emulator)/[\w/.]*)`", MAP)
    assert len(paths) > 20
    assert [
        path for path in paths if not ((SOURCE / path).exists() or (SOURCE / f"{path}.py").exists())
    ] == []


def test_the_root_holds_doors_and_leaves_only():
    """What is no user's business stands in a room."""
    doors = {
        "__init__", "__main__", "errors", "asgi", "wsgi", "starlette", "fastapi", "flask", "werkzeug",
        "litestar", "quart", "sdk", "testing", "pytest_plugin", "prometheus", "opentelemetry",
        "aiohttp", "celery", "dramatiq", "httpx", "requests", "rq", "taskiq",
    }  # fmt: skip
    assert {path.stem for path in SOURCE.glob("*.py")} == doors | {
        "hosts",
        "quoting",
        "records",
        "release",
        "spelling",
    }


def imported(path):
    """Return the top-level names of what a module imports by an absolute name."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.partition(".")[0]


def test_the_core_has_two_third_parties():
    """The law names what the core must not import; this names what it may."""
    names = {name for path in (SOURCE / "core").rglob("*.py") for name in imported(path)}
    assert names - sys.stdlib_module_names - {"mixpanel_visitor"} == {"itsdangerous", "orjson"}
