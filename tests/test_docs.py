"""README, docstrings and examples are code: all of it is executed."""

import logging
import os
import re
import runpy
import sys
import types
from pathlib import Path

import pytest
from django.test import Client, override_settings
from support.django_site import urls_of
from support.inbox import Inbox
from support.waiting import PATIENCE_S
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser
from sybil.parsers.rest import DocTestParser

import mixpanel_visitor
from mixpanel_visitor.emulator import LocalMixpanel

ROOT = Path(__file__).parent.parent
SOURCE = Path(mixpanel_visitor.__file__).parent


@pytest.fixture
def mixpanel(monkeypatch, tmp_path):
    """A local Mixpanel to which everything that is built here sends."""
    with LocalMixpanel() as local:
        monkeypatch.setenv("MIXPANEL_API_HOST", local.url)
        monkeypatch.setenv("MIXPANEL_VISITOR_SPOOL", str(tmp_path / "spool"))
        monkeypatch.delenv("MIXPANEL_TOKEN", raising=False)
        yield local


def evaluate(sybil, path):
    document = sybil.parse(path)
    # Flask wants to know where it is, and Litestar looks for its handlers' types there.
    module = types.ModuleType("example")
    document.namespace = vars(module)
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    examples = list(document.examples())
    sys.modules["example"] = module
    try:
        for example in examples:
            example.evaluate()
    finally:
        del sys.modules["example"]
        root.setLevel(level)  # a Litestar application sets up the logging of the process
        root.handlers[:] = handlers
    return document, len(examples)


def test_the_readme_runs(mixpanel):
    """Its code blocks run one after the other, and its events arrive."""
    document, number = evaluate(Sybil([PythonCodeBlockParser()], path=str(ROOT)), ROOT / "README.md")
    assert number >= 4
    names = document.namespace
    flask_tracker = names["flask_app"].extensions["mixpanel_visitor"]
    for tracker in (names["tracker"], names["planning"], flask_tracker):
        assert tracker.flush(timeout_s=PATIENCE_S)
        tracker.close()
    arrived = {event["event"] for event in Inbox(mixpanel.url).events()}
    assert arrived >= {"Signed up", "Invoice paid"}


def test_the_readmes_django_site_passes_its_own_test(mixpanel, mixpanel_events):
    """With Django's client, as pytest-django gives it."""
    document = Sybil([PythonCodeBlockParser()], path=str(ROOT)).parse(ROOT / "README.md")
    (block,) = [each for each in document.examples() if "# settings.py" in each.parsed]
    document.namespace["__name__"] = "example"
    block.evaluate()
    names = document.namespace
    with override_settings(
        MIDDLEWARE=names["MIDDLEWARE"],
        MIXPANEL_TOKEN=names["MIXPANEL_TOKEN"],
        ROOT_URLCONF=urls_of(*names["urlpatterns"]),
    ):
        names["test_signup"](Client(), mixpanel_events)


def test_the_ten_lines_track_an_event(mixpanel, tmp_path):
    """The program in them is run as it stands there."""
    readme = (ROOT / "README.md").read_text()
    _, _, after = readme.partition("$ cat > app.py <<'END'\n")
    program = tmp_path / "app.py"
    program.write_text(after.partition("END\n")[0])
    app = runpy.run_path(str(program))["app"]
    assert app.test_client().get("/").text == "Hello"
    tracker = app.extensions["mixpanel_visitor"]
    assert tracker.flush(timeout_s=PATIENCE_S)
    tracker.close()
    assert [event["event"] for event in Inbox(mixpanel.url).events()] == ["Page viewed"]


def test_the_pictures_of_the_readme_are_there():
    """And small enough for it."""
    pictures = re.findall(r'(?:src|srcset)="(examples/[^"]+)"', (ROOT / "README.md").read_text())
    assert len(pictures) == 4
    assert all(1_000 < (ROOT / path).stat().st_size < 200_000 for path in pictures)


def test_the_readme_names_the_two_commands():
    """And they are there, and can be run."""
    readme = (ROOT / "README.md").read_text()
    for command in ("scripts/demo", "scripts/test"):
        assert f"$ {command} " in readme
        assert os.access(ROOT / command, os.X_OK)


def test_the_first_screen_says_who_we_are_not():
    """The trademark is somebody else's."""
    assert "Not affiliated with Mixpanel" in (ROOT / "README.md").read_text()[:800]


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_docstring_examples_run(path):
    """Examples at a >>> prompt do what they say."""
    evaluate(Sybil([DocTestParser()], path=str(SOURCE)), path)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_examples_can_be_imported(path, mixpanel, monkeypatch):
    """Each is a whole program, configured by the environment."""
    monkeypatch.setenv("MIXPANEL_TOKEN", "example")
    monkeypatch.setenv("MIXPANEL_VISITOR_SECRET_KEY", "a-key-of-some-length")
    monkeypatch.setattr(sys, "argv", [str(path)])
    namespace = runpy.run_path(str(path))
    assert "app" in namespace or "main" in namespace
