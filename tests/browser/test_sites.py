"""The sites of `examples/sites` in a browser: two users, one after the other, are one person each."""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import replace

import pytest
from support.example_sites import PORT_ARGUMENTS, served_site
from support.inbox import Inbox
from support.waiting import PATIENCE_S, wait_until

from mixpanel_visitor.emulator import LocalMixpanel

pytestmark = pytest.mark.browser

ANNA = (
    *("Front page viewed", "web_page_view /"),
    *("Product viewed", "web_page_view /product/tea"),
    "web_page_view /login",
    *("Account opened", "web_page_view /account"),
)
BERT = (
    *("Front page viewed again", "web_page_view / again"),
    "web_page_view /login again",
    *("Account opened again", "web_page_view /account again"),
)


@pytest.fixture(params=sorted(PORT_ARGUMENTS))
def site(request, chromium, front, id_merge):
    """A browser at a site's address, and the local Mixpanel that both send to."""
    from support.browser_profile import Browsing

    class Browser(Browsing):
        def url(self, path, host=None):
            return address + path

    with LocalMixpanel(id_merge=id_merge) as mixpanel:
        environment = {
            "MIXPANEL_TOKEN": uuid.uuid4().hex,
            "MIXPANEL_API_HOST": mixpanel.url,
            "MIXPANEL_VISITOR_ID_MODE": id_merge,
            "MIXPANEL_SDK_URL": f"http://127.0.0.1:{front.http_port}/sdk/mixpanel.module.js",
        }
        with served_site(request.param, **environment) as address:
            browser = Browser(chromium)
            browser.another_browser()
            try:
                yield browser, Inbox(mixpanel.url)
                assert browser.strangers == []
                assert browser.errors == []
            finally:
                browser.close()


def log_in(browser, name, password):
    """Go to the form of the site, and fill it in."""
    browser.click("#to-log-in")
    browser.fill("#log-in [name=username]", name)
    browser.fill("#log-in [name=password]", password)
    browser.click("#log-in button")


def numbered(events):
    """Call the second one of its kind another, so that each label is the only one."""
    from support.browser_verdict import JOINING, seen

    kinds = Counter()
    for event in map(seen, events):
        kinds[event.label] += 1
        is_second = kinds[event.label] == 2 and event.label not in JOINING
        yield replace(event, label=f"{event.label} again") if is_second else event


def test_two_users_are_two_people(site):
    """First visit, the site's own log-in form, log-out, the next user."""
    from support.browser_verdict import judge, table

    browser, inbox = site
    browser.visit("/")
    browser.click("#tea")
    log_in(browser, "anna", "earl grey")
    browser.click("#log-out button")
    log_in(browser, "bert", "darjeeling")
    browser.leave()
    arrived = []

    def complete():
        arrived[:] = numbered(inbox.events())
        return {*ANNA, *BERT} <= {event.label for event in arrived}

    wait_until(complete, PATIENCE_S)
    _, trouble = judge(arrived, (ANNA, BERT))
    assert not trouble, "\n".join((trouble, *table(arrived)))
    assert inbox.stats()["rejected"] == 0
