"""docs/how-to/django.md: its blocks, put into the files that they name, are a project whose tests pass."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SLOW_S = 240  # a process that starts Django, pytest and three frameworks on a busy machine
DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "how-to" / "django.md"

SETTINGS = """
INSTALLED_APPS += ["rest_framework", "rest_framework.authtoken", "allauth", "allauth.account"]
MIDDLEWARE += ["allauth.account.middleware.AccountMiddleware"]
"""

TESTS = """
import asyncio

import pytest
from django.contrib.auth.models import User
from django.test import override_settings
from django.urls import include, path
from rest_framework.authtoken.models import Token

from shop import api, jobs, receivers
from shop.asgi import application



class urls:
    urlpatterns = [
        path("log-in/", api.LogIn.as_view()),
        path("orders/", api.Orders.as_view()),
        path("accounts/", include("allauth.account.urls")),
    ]


@pytest.mark.django_db
def test_rest_framework(client, mixpanel_events):
    user = User.objects.create_user("ann", password="correct horse")
    with override_settings(ROOT_URLCONF=urls):
        token = client.post("/log-in/", {"username": "ann", "password": "correct horse"}).json()["token"]
        client.post("/orders/", headers={"authorization": f"Token {token}"})
    assert mixpanel_events.assert_tracked("Ordered").distinct_id == str(user.pk)


@pytest.mark.django_db
def test_allauth(client, mixpanel_events):
    data = {"username": "ann", "email": "a@example.com"}
    data |= dict.fromkeys(["password1", "password2"], "correct horse")
    with override_settings(ROOT_URLCONF=urls, ACCOUNT_EMAIL_VERIFICATION="none"):
        assert client.post("/accounts/signup/", data).status_code == 302
    user = User.objects.get()
    assert mixpanel_events.assert_tracked("Signed up").distinct_id == f"customer-{user.pk}"


def test_job(mixpanel_events):
    jobs.invoice(User(pk=42))
    assert mixpanel_events.assert_tracked("Invoice paid").distinct_id == "42"


def test_channels(mixpanel_events):
    from asgiref.testing import ApplicationCommunicator

    async def chat():
        headers = [(b"user-agent", b"Mozilla/5.0"), (b"host", b"testserver")]
        scope = {"type": "websocket", "path": "/chat/", "headers": headers, "query_string": b""}
        talk = ApplicationCommunicator(application, scope)
        await talk.send_input({"type": "websocket.connect"})
        answer = await talk.receive_output(60)
        await talk.send_input({"type": "websocket.disconnect", "code": 1000})
        await talk.wait(60)
        return answer["type"]

    assert asyncio.run(chat()) == "websocket.accept"
    mixpanel_events.assert_tracked("Chat opened")
"""


def blocks(page):
    """Return the blocks of a page, each with the file that it is for."""
    for code in re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), flags=re.DOTALL):
        yield re.match(r"# (shop/\w+\.py)", code)[1], code


OPTIONS = "-p no:randomly -p no:xdist -p no:cacheprovider"
PYTEST_INI = f"""
[pytest]
DJANGO_SETTINGS_MODULE = shop.settings
pythonpath = .
addopts = {OPTIONS}
python_files = test_*.py tests.py
"""


@pytest.fixture
def project(tmp_path):
    """Return a function that runs Python in a new project of Django's own making, and gives what it said."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MIXPANEL_", "PYTEST_", "DJANGO_"))
    }

    def run(*arguments):
        ended = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=clean,
            capture_output=True,
            text=True,
            timeout=SLOW_S,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout + ended.stderr

    run("-m", "django", "startproject", "shop", ".")
    (tmp_path / "pytest.ini").write_text(PYTEST_INI)
    return run


def add(directory, files):
    """Write code at the end of files."""
    for name, code in files:
        with (directory / name).open("a") as file:
            file.write(f"\n\n{code}")


@pytest.mark.servers
@pytest.mark.timeout(900)
def test_the_page_is_a_project_whose_tests_pass(project, tmp_path):
    """The blocks in their order, pytest-django and `manage.py test`."""
    add(tmp_path, [*blocks(PAGE), ("shop/settings.py", SETTINGS), ("shop/test_more.py", TESTS)])
    assert "7 passed" in project("-m", "pytest", "-q")
    assert "OK" in project("manage.py", "test", "shop.tests")
    assert "no issues" in project("manage.py", "check", "--tag", "mixpanel_visitor")


@pytest.mark.servers
@pytest.mark.timeout(900)
def test_the_tutorial_is_a_project_whose_test_passes(project, tmp_path):
    """Each of its blocks says the file that it is for."""
    add(tmp_path, blocks(DOCS / "start" / "django.md"))
    assert "1 passed" in project("-m", "pytest", "-q")
    assert "no issues" in project("manage.py", "check")
