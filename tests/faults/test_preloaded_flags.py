"""Feature flags in a server that has started before it forks: the workers have what the master fetches."""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile

import pytest
from support.flags import on_off
from support.trackers import SECRET_KEY, TOKEN
from support.waiting import PATIENCE_S, wait_until

from mixpanel_visitor.emulator import LocalMixpanel

SHOP = """
import os
import flask
from mixpanel_visitor import current_visitor
from mixpanel_visitor.flask import MixpanelVisitor

app = flask.Flask(__name__)
MixpanelVisitor(app)
tracker = app.extensions["mixpanel_visitor"]
tracker.start()  # in the master


@app.get("/")
def shown():
    fetched = tracker.stats()["flags"]["fetched"]
    return {"worker": os.getpid(), "shown": current_visitor.flag("layout", "default"), "fetched": fetched}
"""


def ask_both(address):
    """Return the answers of both workers: while one waits for its request, the other must take the next."""
    with (
        contextlib.closing(http.client.HTTPConnection(*address, timeout=PATIENCE_S)) as one,
        contextlib.closing(http.client.HTTPConnection(*address, timeout=PATIENCE_S)) as other,
    ):
        one.connect()
        answers = []
        for connection in (other, one):
            connection.request("GET", "/")
            answers.append(json.loads(connection.getresponse().read()))
    return answers


@pytest.mark.servers
def test_workers_of_a_preloaded_application_have_the_flags_of_their_master(tmp_path):
    """Both see a switch on the page of the local Mixpanel; neither asks it for definitions."""
    (tmp_path / "shop.py").write_text(SHOP)
    with (
        LocalMixpanel() as local,
        socket.create_server(("127.0.0.1", 0)) as listening,
        tempfile.TemporaryDirectory(prefix="mpv-") as home,  # short: gunicorn puts a Unix socket there
        (tmp_path / "server.log").open("wb") as log,
    ):
        local.flags.put(on_off("layout"))
        bind = f"fd://{listening.fileno()}"
        server = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "--preload", "--workers", "2", "--bind", bind, "shop:app"],
            cwd=tmp_path,
            env={
                **os.environ,
                "HOME": home,
                "PYTHONPATH": str(tmp_path),
                "MIXPANEL_TOKEN": TOKEN,
                "MIXPANEL_VISITOR_SECRET_KEY": SECRET_KEY,
                "MIXPANEL_VISITOR_SPOOL": str(tmp_path / "spool"),
                "MIXPANEL_VISITOR_FLAGS": "local",
                "MIXPANEL_API_HOST": local.url,
            },
            pass_fds=[listening.fileno()],
            stdout=log,
            stderr=subprocess.STDOUT,
        )

        def both_show(value):
            answers = ask_both(listening.getsockname())
            assert len({answer["worker"] for answer in answers}) == 2
            assert [answer["fetched"] for answer in answers] == [0, 0]
            return [answer["shown"] for answer in answers] == [value, value]

        try:
            assert wait_until(lambda: both_show(True), PATIENCE_S), (tmp_path / "server.log").read_text()
            local.flags.switch("layout", "off")
            assert wait_until(lambda: both_show("default"), PATIENCE_S), (tmp_path / "server.log").read_text()
        finally:
            server.terminate()
            server.wait()
