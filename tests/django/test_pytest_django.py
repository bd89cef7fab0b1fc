"""pytest-django: its fixtures, in a pytest of its own, see what production sees."""

import os
import subprocess
import sys

import pytest

SLOW_S = 240

INI = """
[pytest]
DJANGO_SETTINGS_MODULE = shop_settings
pythonpath = .
addopts = -p no:randomly -p no:cacheprovider -p no:xdist --strict-markers
"""

SETTINGS = """
SECRET_KEY = "a key of the shop, long enough"
INSTALLED_APPS = [
    "mixpanel_visitor.django",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
]
MIDDLEWARE = [
    "mixpanel_visitor.django.VisitorMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
ROOT_URLCONF = "shop_urls"
STATIC_URL = "/static/"  # a live server serves them itself
MEDIA_URL = "/media/"
"""

URLS = """
from functools import partial

from django.contrib.auth import login
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpResponse
from django.urls import path


def page(request):
    request.visitor.track("Page")
    return HttpResponse(request.visitor_id)


def sign_up(request):
    with transaction.atomic():
        login(request, User.objects.create_user("ann"))
        transaction.on_commit(partial(request.visitor.track, "Signed up"))
    return HttpResponse(str(request.user.pk))


urlpatterns = [path("", page), path("sign-up/", sign_up)]
"""

TESTS = """
import urllib.request

import pytest
from asgiref.sync import async_to_sync
from shop_urls import page

from mixpanel_visitor.django import VisitorMiddleware, get_tracker


def test_client(client, mixpanel_events):
    first, second = client.get("/").content, client.get("/").content
    assert first == second
    mixpanel_events.of(first.decode()).assert_tracked("Page", times=2)


def test_async_client(async_client, mixpanel_events):
    answer = async_to_sync(async_client.get)("/")
    mixpanel_events.of(answer.content.decode()).assert_tracked("Page")


def test_request_factory(rf, mixpanel_events):
    answer = VisitorMiddleware(page)(rf.get("/"))
    mixpanel_events.of(answer.content.decode()).assert_tracked("Page")


def test_live_server(live_server, mixpanel_events):
    request = urllib.request.Request(live_server.url, headers={"User-Agent": "Mozilla/5.0"})
    with urllib.request.urlopen(request) as answer:
        visitor_id = answer.read().decode()
    mixpanel_events.of(visitor_id).assert_tracked("Page")


@pytest.mark.django_db
def test_on_commit(client, mixpanel_events, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        user_id = client.get("/sign-up/").content.decode()
    assert mixpanel_events.assert_tracked("Signed up").distinct_id == user_id


def test_settings(client, mixpanel_events, settings):
    settings.MIXPANEL_VISITOR_EXTRA_PROPERTIES = {"branch": "north"}
    client.get("/")
    assert mixpanel_events.assert_tracked("Page").properties["branch"] == "north"
    settings.MIXPANEL_VISITOR_COOKIE_NAME = "who"
    assert get_tracker().settings.cookie_name == "who"


@pytest.mark.django_db
def test_admin_client(admin_client, mixpanel_events):
    admin_client.get("/")
    assert mixpanel_events.assert_tracked("Page").distinct_id.startswith("$device:")
"""


@pytest.mark.servers
@pytest.mark.timeout(900)
def test_its_fixtures_see_the_visitor(tmp_path):
    """`client`, `async_client`, `rf`, `live_server`, `settings`, and captured `on_commit` callbacks.

    `admin_client` is logged in without a request, so its visitor has not logged in.
    """
    pytest.importorskip("pytest_django")
    files = {"pytest.ini": INI, "shop_settings.py": SETTINGS, "shop_urls.py": URLS, "test_shop.py": TESTS}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("MIXPANEL_", "PYTEST_"))}
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q"],
        cwd=tmp_path,
        env=clean,
        capture_output=True,
        text=True,
        timeout=SLOW_S,
        check=False,
    )
    assert "7 passed" in ended.stdout, ended.stdout
