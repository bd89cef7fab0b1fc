"""README, pages, docstrings and examples are code: all of it is executed."""

import logging
import os
import re
import runpy
import sys
import tomllib
import types
from pathlib import Path

import pytest
from django.test import Client, override_settings
from django.urls import path
from fastapi.testclient import TestClient
from support.django_site import urls_of
from support.inbox import Inbox
from support.pages import DOCS, MODULE, Section, fences, pages, run_tests
from support.waiting import PATIENCE_S, wait_until
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


README = ROOT / "README.md"
REPOSITORY = "https://github.com/mixpanel-visitor/mixpanel-visitor/"
PICTURES = "https://raw.githubusercontent.com/mixpanel-visitor/mixpanel-visitor/main/"
SITE = "https://mixpanel-visitor.readthedocs.io/"
RUN_ELSEWHERE = {
    "start/recipes.md", "how-to/flags.md", "how-to/jobs.md", "how-to/jobs-recipes.md", "how-to/services.md",
    "how-to/testing.md", "operate/serverless.md",
}  # fmt: skip
"""By their sections, in `test_recipes.py`."""

PROJECTS = {"start/django.md", "how-to/django.md"}
"""As projects of Django, in `django/test_page.py`."""

PROGRAMS = sorted({name for name in pages() if "python" in fences(name)} - RUN_ELSEWHERE - PROJECTS)


def test_the_readme_runs(mixpanel):
    """Its code blocks run one after the other, and what they track arrives."""
    document, number = evaluate(Sybil([PythonCodeBlockParser()], path=str(ROOT)), README)
    assert number == 4
    names = document.namespace
    names["flask_app"].test_client().post("/signup")
    tracker = names["flask_app"].extensions["mixpanel_visitor"]
    assert tracker.flush(timeout_s=PATIENCE_S)
    tracker.close()
    with TestClient(names["api"]) as client:
        assert client.post("/signup").status_code == 200
    inbox = Inbox(mixpanel.url)
    assert wait_until(lambda: len(inbox.events()) >= 2, PATIENCE_S)
    assert {event["event"] for event in inbox.events()} >= {"Signed up"}


def test_the_readmes_django_view_tracks(mixpanel, mixpanel_events):
    """With Django's client, and the settings that it shows."""
    document = Sybil([PythonCodeBlockParser()], path=str(ROOT)).parse(README)
    (block,) = [each for each in document.examples() if "# settings.py" in each.parsed]
    document.namespace["__name__"] = "example"
    block.evaluate()
    names = document.namespace
    with override_settings(
        MIDDLEWARE=names["MIDDLEWARE"],
        MIXPANEL_TOKEN=names["MIXPANEL_TOKEN"],
        ROOT_URLCONF=urls_of(path("signup/", names["signup_view"])),
    ):
        Client().get("/signup/")
    mixpanel_events.assert_tracked("Signed up", plan="pro")


def test_the_readme_is_a_way_in():
    """What is longer belongs to the pages."""
    assert len(README.read_bytes()) < 8192


def test_the_readmes_addresses_lead_somewhere():
    """PyPI shows it without this repository: they are absolute, and what they name exists."""
    text = README.read_text("utf-8")
    addresses = re.findall(r"\]\(([^)]+)\)", text)
    assert len(addresses) >= 19
    for address in addresses:
        if address.startswith(PICTURES):
            assert 1_000 < (ROOT / address.removeprefix(PICTURES)).stat().st_size < 200_000
        elif address.startswith(f"{REPOSITORY}blob/main/"):
            assert (ROOT / address.removeprefix(f"{REPOSITORY}blob/main/")).is_file(), address
        elif address.startswith(SITE):
            page = address.removeprefix(SITE).removeprefix("en/latest/").partition("#")[0].strip("/")
            assert (DOCS / f"{page or 'index'}.md").is_file(), address
        else:
            assert address == f"{REPOSITORY}issues"


def test_the_package_names_the_same_addresses():
    """`[project.urls]` is what PyPI shows beside the README."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]
    assert urls["Documentation"] == SITE
    assert all(url.startswith((REPOSITORY.rstrip("/"), SITE)) for url in urls.values())


def test_the_readme_names_the_two_commands():
    """And they are there, and can be run."""
    readme = README.read_text("utf-8")
    for command in ("scripts/demo", "scripts/test"):
        assert f"$ {command} " in readme
        assert os.access(ROOT / command, os.X_OK)


@pytest.mark.parametrize("file", [README, DOCS / "index.md"], ids=lambda file: file.name)
def test_the_first_screen_says_who_we_are_not(file):
    """The trademark is somebody else's."""
    assert "Not affiliated with Mixpanel" in file.read_text("utf-8")[:800]


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_page_runs_and_its_tests_pass(name, mixpanel, mixpanel_events, request):
    """Its Python blocks are one program, `shop`, with the tests that it shows; all of them are executed."""
    document = Sybil([PythonCodeBlockParser()], path=str(ROOT)).parse(DOCS / name)
    page = Section(name, list(document.examples()))
    assert len(page.examples) == fences(name).count("python")
    try:
        run_tests(page.load(), request.getfixturevalue)
    finally:
        del sys.modules[MODULE]


@pytest.mark.parametrize("name", pages())
def test_every_block_of_a_page_is_of_a_known_language(name):
    """One with a title or highlighted lines would not be executed, and nobody would notice."""
    opened = re.findall(r"^ *(?:```|~~~)(.*)$", (DOCS / name).read_text("utf-8"), re.MULTILINE)
    assert set(opened[::2]) <= {"python", "console", "text", "html", "ini", "nginx"}
    assert set(opened[1::2]) <= {""}
    assert opened[::2].count("python") == fences(name).count("python")


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
