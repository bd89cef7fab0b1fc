"""The sites of `examples/sites`: the commands of their docstrings, their log-in, and whom it identifies."""

from __future__ import annotations

import re
import uuid

import httpx2
import pytest
from support.example_sites import PORT_ARGUMENTS, SITES, served_site
from support.inbox import Inbox
from support.waiting import PATIENCE_S, wait_until

from mixpanel_visitor.emulator import LocalMixpanel

pytestmark = pytest.mark.servers

# What mixpanel-browser would be: a browser's page load, so that the answer sets cookies as for one.
PAGE_LOAD = {"accept": "text/html", "sec-fetch-dest": "document", "sec-fetch-mode": "navigate"}


@pytest.fixture(params=sorted(PORT_ARGUMENTS))
def site(request):
    """A site, and the local Mixpanel that it sends to."""
    with (
        LocalMixpanel() as mixpanel,
        served_site(request.param, MIXPANEL_TOKEN=uuid.uuid4().hex, MIXPANEL_API_HOST=mixpanel.url) as url,
        httpx2.Client(base_url=url, follow_redirects=True, headers=PAGE_LOAD, timeout=PATIENCE_S) as client,
    ):
        yield client, Inbox(mixpanel.url)


def log_in(client, name, password):
    """Send the site's own form, its hidden fields included."""
    form = client.get("/login").text
    hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]+)"', form))
    return client.post("/login", data={"username": name, "password": password, **hidden})


def log_out(client, page):
    """Press the button of a page."""
    hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]+)"', page))
    return client.post("/logout", data=hidden)


def people(inbox, *names):
    """Wait for these events of the server; return whose each is, by name and number."""
    events = []

    def arrived():
        events[:] = [each for each in inbox.events() if each["event"] != "Visitor identified"]
        return len(events) >= len(names)

    assert wait_until(arrived, PATIENCE_S), [each["event"] for each in events]
    assert [each["event"] for each in events] == list(names)
    return [each["person"] for each in events]


def test_two_users_are_two_people(site):
    """First visit, the site's own log-in, log-out, the next user."""
    client, inbox = site
    client.get("/")
    client.get("/product/tea")
    assert "Your account" in (page := log_in(client, "anna", "earl grey").text)
    assert "The shop" in log_out(client, page).text
    assert "Your account" in log_in(client, "bert", "darjeeling").text
    seen = people(
        inbox, "Front page viewed", "Product viewed", "Account opened", "Front page viewed", "Account opened"
    )
    assert len(set(seen[:3])) == 1
    assert len(set(seen[3:])) == 1
    assert seen[2] != seen[4]


def test_a_wrong_password_identifies_nobody(site):
    """The form comes again, and the visitor stays who he was."""
    client, inbox = site
    assert "Log out" not in log_in(client, "anna", "darjeeling").text
    assert client.get("/product/biscuits").status_code == 404
    client.get("/")
    assert client.get("/account", follow_redirects=False).status_code in (302, 303, 401)
    (person,) = people(inbox, "Front page viewed")
    assert person.startswith("$device:")


def test_every_site_is_walked_through():
    """A site that is added here is one that the tests know how to start."""
    assert {path.stem for path in SITES.glob("*_site.py")} == set(PORT_ARGUMENTS)
