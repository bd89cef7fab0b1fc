"""The pages of recipes and of tests are code: every block is executed, and the tests in them are run."""

import asyncio
import contextlib
import http.client
import importlib
import importlib.metadata
import inspect
import json
import logging
import os
import re
import shlex
import socket
import subprocess
import sys
import threading
import warnings

import fastapi
import pytest
from bottle import WSGIRefServer
from packaging.requirements import Requirement
from packaging.version import Version
from starlette.testclient import TestClient
from support import django_site  # noqa: F401  # configures Django
from support.inbox import Inbox
from support.pages import DOCS, MODULE, SHOWN_ONLY, fences, run_tests, section_of, sections
from support.waiting import PATIENCE_S, wait_until
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from websockets.sync.client import connect as websocket_connect

from mixpanel_visitor.emulator import LocalMixpanel

DJANGO_SETTINGS = """
SECRET_KEY = "of Django"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "site_settings"
urlpatterns = []
"""
PAGES = [
    "start/recipes.md",
    "how-to/testing.md",
    "operate/serverless.md",
    "how-to/services.md",
    "how-to/flags.md",
    "how-to/jobs.md",
    "how-to/jobs-recipes.md",
]


# FastAPI before it knew python-multipart by its new name takes it for another package.
WITH_FORMS = pytest.mark.skipif(
    Version(fastapi.__version__) < Version("0.115.3"),
    reason="this FastAPI reads no forms with today's packages",
)
WITH_CLIENTS = pytest.mark.skipif(
    "client" not in inspect.signature(TestClient).parameters,
    reason="this Starlette's test client has no address of its own",
)
MARKS = {"fastapi_users": WITH_FORMS, "TestClient(app, client=": WITH_CLIENTS}
SECTIONS = [
    pytest.param(
        each,
        id=f"{page}: {each.title}",
        marks=[mark for text, mark in MARKS.items() if text in each.source],
    )
    for page in PAGES
    for each in sections(page)
]


@pytest.fixture(scope="module", autouse=True)
def _imported_without_warnings():
    """These use what Python and setuptools deprecate."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("pyramid.config")
        importlib.import_module("webtest")


@pytest.fixture
def program(monkeypatch, tmp_path):
    """Load a section as its reader would, in a directory of its own; nothing of it stays."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MIXPANEL_VISITOR_SPOOL", "memory:")
    monkeypatch.delenv("MIXPANEL_TOKEN", raising=False)
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)  # Mangum asks for one, or makes one that nobody closes
    yield lambda section: section.load()
    asyncio.set_event_loop(None)
    loop.close()
    sys.modules.pop(MODULE, None)
    root.setLevel(level)  # a Litestar application sets up the logging of the process
    root.handlers[:] = handlers


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_runs_and_its_tests_pass(section, program, request, mixpanel_events):
    """As it stands there, with the framework's own client, and nothing is sent."""
    module = program(section)
    assert run_tests(module, request.getfixturevalue)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_a_page_is_executed(page):
    """All but those that a shell would."""
    executed = [language for language in fences(page) if language not in SHOWN_ONLY]
    assert len(executed) == sum(len(section.examples) for section in sections(page)) > 2
    assert set(executed) <= {"python", "ini"}


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_installs_is_what_the_tests_have(page):
    """Every distribution that is named is here, with the extras that are named."""
    text = (DOCS / page).read_text()
    lines = re.findall(r"^\$ pip install (.+)$", text, re.MULTILINE)
    named = {Requirement(each) for line in lines for each in shlex.split(line)}
    assert len(lines) == fences(page).count("console")
    for each in named:
        metadata = importlib.metadata.metadata(each.name)
        assert each.extras <= set(metadata.get_all("Provides-Extra") or [])


def post(port, path, body=""):
    """Ask over the wire; the answer's cookie and text."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    with contextlib.closing(connection):
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", path, body=body, headers=headers)
        answer = connection.getresponse()
        return answer.getheader("Set-Cookie", ""), answer.read().decode()


def test_bottles_own_server_serves_the_recipe(program, mixpanel_events):
    """`app.run()` takes what was put in the place of `app.wsgi`."""
    shop = program(section_of("start/recipes.md", "Bottle"))
    server = WSGIRefServer(port=0)
    running = threading.Thread(target=shop.app.run, kwargs={"server": server, "quiet": True})
    running.start()
    try:
        assert wait_until(lambda: getattr(server, "srv", None) is not None, PATIENCE_S)
        cookie, visitor_id = post(server.srv.server_port, "/signup", "plan=pro")
    finally:
        server.srv.shutdown()
        running.join()
        server.srv.server_close()
    assert visitor_id in cookie
    mixpanel_events.assert_tracked("Signed up", plan="pro", **{"$device_id": visitor_id})


def test_tornados_own_server_serves_the_recipe(program, mixpanel_events):
    """The WSGI application in it has visitors; Tornado's own handlers answer as ever, without one."""
    shop = program(section_of("start/recipes.md", "Tornado"))

    async def ask():
        server = HTTPServer(shop.app)
        (listening,) = bind_sockets(0, "127.0.0.1")
        server.add_sockets([listening])
        port = listening.getsockname()[1]
        try:
            return await asyncio.to_thread(post, port, "/signup", "plan=pro")
        finally:
            server.stop()
            await server.close_all_connections()

    cookie, visitor_id = asyncio.run(ask())
    assert visitor_id in cookie
    mixpanel_events.assert_tracked("Signed up", plan="pro", **{"$device_id": visitor_id})


@pytest.mark.servers
def test_daphne_serves_the_recipe_of_channels(tmp_path):
    """A page's cookie makes the visitor of the socket, and its events arrive."""
    section = section_of("start/recipes.md", "Channels")
    (tmp_path / "shop.py").write_text(section.source)
    (tmp_path / "site_settings.py").write_text(DJANGO_SETTINGS)
    with LocalMixpanel() as mixpanel, serving_by_daphne(tmp_path, mixpanel.url) as port:
        cookie, _ = post(port, "/nowhere")
        pair = cookie.partition(";")[0]
        url = f"ws://127.0.0.1:{port}/shop/"
        with websocket_connect(url, additional_headers={"Cookie": pair}, open_timeout=PATIENCE_S) as socket:
            socket.send('{"event": "Opened"}')
            visitor_id = json.loads(socket.recv(PATIENCE_S))["visitor"]
        inbox = Inbox(mixpanel.url)
        assert wait_until(inbox.events, PATIENCE_S)
        (event,) = inbox.events()
    assert visitor_id in pair
    assert (event["event"], event["properties"]["$device_id"]) == ("Opened", visitor_id)


@contextlib.contextmanager
def serving_by_daphne(directory, mixpanel_url):
    """Serve `shop:application` of a directory; give the port."""
    with socket.socket() as listener, (directory / "server.log").open("wb") as log:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        process = subprocess.Popen(
            [sys.executable, "-m", "daphne", "--fd", str(listener.fileno()), "shop:application"],
            cwd=directory,
            env={
                **os.environ,
                "HOME": str(directory),
                "DJANGO_SETTINGS_MODULE": "site_settings",
                "PYTHONPATH": str(directory),
                "MIXPANEL_API_HOST": mixpanel_url,
                "MIXPANEL_VISITOR_SPOOL": str(directory / "spool"),
            },
            pass_fds=[listener.fileno()],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        port = listener.getsockname()[1]
    try:
        yield port  # the listener has queued what comes before the server is up
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
