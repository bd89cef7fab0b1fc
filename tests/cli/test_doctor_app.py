"""`mixpanel-visitor doctor --app`: settings that are given in code are found in the application itself."""

import itertools
import os
import sys

import pytest
from click.testing import CliRunner

from mixpanel_visitor.cli import main

HEAD = """
from flask import Flask
from starlette.applications import Starlette
from mixpanel_visitor import Tracker, asgi, wsgi
from mixpanel_visitor.flask import MixpanelVisitor
from mixpanel_visitor.starlette import VisitorMiddleware

settings = {
    "token": "0123456789abcdef0123456789abcdef",
    "secret_key": "a-key-of-some-length",
    "api_host": "http://127.0.0.1:9",
    "spool": "memory:",
}
"""
_numbers = itertools.count()


@pytest.fixture
def examine(tmp_path, monkeypatch):
    """Run the doctor with a module of this source; give the result."""
    monkeypatch.chdir(tmp_path)
    made = []

    def run(source, name="app", **environment):
        made.append(f"application_{os.getpid()}_{next(_numbers)}")
        (tmp_path / f"{made[-1]}.py").write_text(HEAD + source)
        where = f"{made[-1]}:{name}" if name else made[-1]
        return where, CliRunner().invoke(main, ["doctor", "--app", where], env=environment)

    yield run
    for name in made:
        sys.modules.pop(name, None)


APPLICATIONS = {
    "a tracker": "app = Tracker(**settings)",
    "WSGI": "app = wsgi.VisitorMiddleware(lambda *_: [], **settings)",
    "ASGI": "app = asgi.VisitorMiddleware(None, tracker=Tracker(**settings))",
    "Flask": "app = Flask('shop'); MixpanelVisitor(app, **settings)",
    "Starlette": "app = Starlette(); app.add_middleware(VisitorMiddleware, **settings)",
    "Starlette with others": (
        "class Mine(VisitorMiddleware): pass\n"
        "app = Starlette(); app.add_middleware(Mine, **settings, tracker=None)\n"
        "from starlette.middleware.gzip import GZipMiddleware; app.add_middleware(GZipMiddleware)"
    ),
    "Starlette with a tracker": (
        "app = Starlette(); app.add_middleware(VisitorMiddleware, tracker=Tracker(**settings))"
    ),
}


FACTORY = "def create_app(name='x', *, debug=False):\n    assert name\n    return Tracker(**settings)\n"


@pytest.mark.parametrize(
    "name",
    ["create_app()", "create_app('test')", "create_app('test', debug=True)", "create_app( name = 'a' )"],
)
def test_a_factory_is_called(examine, name):
    """As flask and gunicorn take them."""
    where, result = examine(FACTORY, name)
    assert f"ok      the settings of {where} are complete" in result.stdout


@pytest.mark.parametrize(
    "source",
    [
        "from mixpanel_visitor.flask import current_visitor\napplication = Tracker(**settings)",
        "from mixpanel_visitor import current_visitor\n" + FACTORY,
        "def make_app(): return Tracker(**settings)",
    ],
    ids=["application", "create_app", "make_app"],
)
def test_the_usual_names_are_tried(examine, source):
    """Without a name; `current_visitor` beside them is in nobody's way."""
    where, result = examine(source, "")
    assert f"ok      the settings of {where} are complete" in result.stdout


def test_current_visitor_is_no_application(examine):
    """Nor is it in the way of the list of what is there."""
    _, result = examine(
        "from mixpanel_visitor.flask import current_visitor\nshop = Tracker(**settings)", "app"
    )
    assert (result.exit_code, "it has shop" in result.output) == (2, True)


@pytest.mark.parametrize("source", APPLICATIONS.values(), ids=APPLICATIONS)
def test_the_settings_of_an_application_are_found(examine, source):
    """However it has the middleware; the environment says nothing."""
    where, result = examine(source)
    assert f"ok      the settings of {where} are complete" in result.stdout
    assert "PROBLEM http://127.0.0.1:9: it is not reached" in result.stdout
    assert "warning the spool is in memory" in result.stdout


MISTAKES = {
    "at import": "app = Tracker(**{**settings, 'bots': 'kill'})",
    "with the first request": (
        "app = Starlette(); app.add_middleware(VisitorMiddleware, **settings, bots='kill')"
    ),
}


@pytest.mark.parametrize("source", MISTAKES.values(), ids=MISTAKES)
def test_mistakes_in_code_are_told_like_all_others(examine, source):
    """Even where they show with the first request only."""
    _, result = examine(source)
    assert result.exit_code == 1
    assert "PROBLEM bots='kill' (keyword): must be 'drop', 'tag' or 'keep'" in result.stdout


@pytest.mark.parametrize(
    ("source", "name", "code", "told"),
    [
        ("number = 3", "number", 2, "is no application with the middleware, and no Tracker, but a int"),
        ("app = Starlette()", "app", 2, "is no application with the middleware"),
        ("app = Flask('shop')", "app", 2, "is no application with the middleware"),
        ("shop = Tracker(**settings)", "app", 2, "has no 'app'; it has shop"),
        ("1 / 0", "app", 1, "cannot be imported: ZeroDivisionError"),
        ("def create_app(): 1 / 0", "create_app()", 1, "failed: ZeroDivisionError"),
        ("def create_app(): return Tracker(token='')", "create_app()", 1, "[E001]"),
        ("def create_app(): return 3", "create_app()", 2, "but a int"),
        (FACTORY, "create_app", 2, "if it makes one, write"),
        (FACTORY, "create_app(settings)", 2, "neither a name nor a call with plain values"),
        (FACTORY, "create_app(", 2, "neither a name nor a call with plain values"),
        ("app = 3", "app()", 2, "cannot be called"),
    ],
)
def test_what_is_no_application_of_ours_is_refused(examine, source, name, code, told):
    """With what is there instead."""
    _, result = examine(source, name)
    assert result.exit_code == code
    assert told in " ".join(result.output.split())
