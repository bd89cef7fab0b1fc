"""A Chromium, a site with our script, and pages of it."""

from __future__ import annotations

import pytest
from support.handover_pages import snippet
from support.snippet_pages import SCRIPT, Site, Visit, launch


@pytest.fixture(scope="module")
def browser():
    # Of the module, not of the session: while it is there, nothing else in this thread can use asyncio.run.
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture
def context(browser):
    """Return a fresh profile."""
    context = browser.new_context()
    yield context
    context.close()


@pytest.fixture
def site():
    """Return a site with our script."""
    with Site() as site:
        site.serve("/_visitor.js", snippet().script().decode(), SCRIPT)
        yield site


@pytest.fixture
def open_page(context):
    """Open pages; in none of them may anything be thrown, or be said on the console."""
    visits = []

    def open_page(site):
        visits.append(Visit.begun(context, site))
        return visits[-1]

    yield open_page
    for visit in visits:
        if not visit.page.is_closed():
            visit.run("0")  # what was thrown is told before this
        assert (visit.errors, visit.console) == ([], [])


@pytest.fixture
def visit(site, open_page):
    """Return an empty page."""
    return open_page(site)


@pytest.fixture
def clocked(visit):
    """Return an empty page whose timers run when the test says so."""
    visit.stop_the_clock()
    return visit


@pytest.fixture
def give_cookie(context, site):
    """Put a cookie of the site into the browser."""

    def give_cookie(name, value):
        context.add_cookies([{"name": name, "value": value, "url": site.url}])

    return give_cookie
