"""A WSGI process that has just started delivers what an earlier one left, without waiting for a request."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from support.inbox import Inbox
from support.waiting import PATIENCE_S, wait_until

from mixpanel_visitor import Tracker
from mixpanel_visitor.emulator import LocalMixpanel

SETTINGS = {"token": "started", "secret_key": "a-key-of-some-length"}
UWSGI = shutil.which("uwsgi", path=str(Path(sys.executable).parent)) or "uwsgi"

SHOP = """
import flask
from mixpanel_visitor.flask import MixpanelVisitor

app = flask.Flask(__name__)
MixpanelVisitor(app)
tracker = app.extensions["mixpanel_visitor"]
"""

GUNICORN = """
def post_worker_init(worker):
    from shop import tracker

    tracker.start()
"""

UWSGI_HOOK = (
    SHOP
    + """
import uwsgidecorators
uwsgidecorators.postfork(tracker.start)
"""
)

WAITRESS = """
import waitress
from shop import app, tracker

tracker.start()
waitress.serve(app, listen="127.0.0.1:0")
"""

PYTHON = [sys.executable, "-m"]
COMMANDS = {
    "gunicorn": [
        *PYTHON,
        "gunicorn",
        "--bind",
        "127.0.0.1:0",
        "--config",
        "hooks.py",
        "shop:app",
    ],
    "gunicorn --preload": [
        *(
            *PYTHON,
            "gunicorn",
            "--preload",
            "--bind",
            "127.0.0.1:0",
            "--config",
            "hooks.py",
            "shop:app",
        ),
    ],
    "uwsgi": [
        UWSGI,
        "--master",
        "--enable-threads",
        "--http-socket",
        "127.0.0.1:0",
        "--module",
        "hooked:app",
    ],
    "waitress": [sys.executable, "serving.py"],
}


@pytest.mark.servers
@pytest.mark.parametrize("name", COMMANDS)
def test_the_documented_line_starts_delivery(tmp_path, name):
    """No request comes, and Mixpanel gets the event."""
    spool = str(tmp_path / "spool")
    earlier = Tracker(**SETTINGS, spool=spool, deliver=False)
    earlier.track("somebody", "Earlier")
    earlier.close()
    for file, text in {
        "shop.py": SHOP,
        "hooks.py": GUNICORN,
        "hooked.py": UWSGI_HOOK,
        "serving.py": WAITRESS,
    }.items():
        (tmp_path / file).write_text(text)
    with (
        LocalMixpanel() as mixpanel,
        tempfile.TemporaryDirectory(prefix="mpv-") as home,  # short: gunicorn puts a Unix socket there
        (tmp_path / "server.log").open("wb") as log,
    ):
        server = subprocess.Popen(
            COMMANDS[name],
            cwd=tmp_path,
            env={
                **os.environ,
                "HOME": home,
                "PYTHONPATH": str(tmp_path),
                "MIXPANEL_TOKEN": SETTINGS["token"],
                "MIXPANEL_VISITOR_SECRET_KEY": SETTINGS["secret_key"],
                "MIXPANEL_VISITOR_SPOOL": spool,
                "MIXPANEL_API_HOST": mixpanel.url,
            },
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            inbox = Inbox(mixpanel.url)
            assert wait_until(
                lambda: [event["event"] for event in inbox.events()] == ["Earlier"], PATIENCE_S
            ), (tmp_path / "server.log").read_text()
        finally:
            server.terminate()
            server.wait()
