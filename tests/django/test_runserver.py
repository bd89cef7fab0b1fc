"""`manage.py runserver`: the server that everybody has first, with and without its reloader."""

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from http.cookiejar import CookieJar

import pytest
from support.inbox import Inbox
from support.waiting import PATIENCE_S, wait_until

from mixpanel_visitor.emulator import LocalMixpanel

MANAGE = """
import os, sys
from django.core.management import execute_from_command_line
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop_settings")
execute_from_command_line(sys.argv)
"""

SETTINGS = """
DEBUG = True
SECRET_KEY = "a key of the shop, long enough"
INSTALLED_APPS = ["mixpanel_visitor.django"]
MIDDLEWARE = ["mixpanel_visitor.django.VisitorMiddleware"]
ROOT_URLCONF = "shop_urls"
WSGI_APPLICATION = "shop_wsgi.application"
MIXPANEL_TOKEN = "runserver"
MIXPANEL_API_HOST = "{url}"
MIXPANEL_VISITOR_SPOOL = "{spool}"
"""

WSGI = """
from django.core.wsgi import get_wsgi_application
application = get_wsgi_application()
"""

URLS = """
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path


def page(request):
    request.visitor.track("Page")
    return HttpResponse(request.visitor_id)


def stream(request):
    def parts():
        for part in ("one", "two"):
            request.visitor.track("Part")
            yield part
    return StreamingHttpResponse(parts())


urlpatterns = [path("page/", page), path("stream/", stream)]
"""


@pytest.fixture
def mixpanel():
    """Return a local Mixpanel."""
    with LocalMixpanel() as local:
        yield local


@pytest.fixture(params=[[], ["--noreload"]], ids=["reloader", "no reloader"])
def server(request, tmp_path, mixpanel):
    """Run the server in a group of processes of its own; gives its URL."""
    settings = SETTINGS.format(url=mixpanel.url, spool=tmp_path / "spool")
    files = {"manage.py": MANAGE, "shop_settings.py": settings, "shop_wsgi.py": WSGI, "shop_urls.py": URLS}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("MIXPANEL_", "DJANGO_"))}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "runserver", *request.param, address],
            cwd=tmp_path,
            env=clean,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        url = f"http://{address}"
        wait_until(lambda: process.poll() is not None or is_up(url), PATIENCE_S)
        assert process.poll() is None, (tmp_path / "log").read_text()
        yield url
        assert "Traceback" not in (tmp_path / "log").read_text()
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(PATIENCE_S)


def is_up(url):
    """Whether it answers."""
    try:
        with urllib.request.urlopen(f"{url}/_visitor.js") as answer:
            return answer.status == 200
    except OSError:
        return False


@pytest.mark.servers
def test_a_visitor_and_his_events_arrive(server, mixpanel):
    """Pages and streams, of one visitor; delivered while the server runs."""
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    browser.addheaders = [("User-Agent", "Mozilla/5.0 Chrome/142.0.0.0")]
    ids = {browser.open(f"{server}/page/").read() for _ in range(3)}
    assert len(ids) == 1
    assert browser.open(f"{server}/stream/").read() == b"onetwo"
    inbox = Inbox(mixpanel.url)
    assert wait_until(lambda: len(inbox.events()) >= 5, PATIENCE_S)
    events = inbox.events()
    assert sorted(event["event"] for event in events) == ["Page"] * 3 + ["Part"] * 2
    assert {event["properties"]["$device_id"] for event in events} == {ids.pop().decode()}
