"""`mixpanel-visitor doctor`: do the browser's events come in, through everything before the application?"""

import json

import pytest
from click.testing import CliRunner
from support.wsgi_site import served

from mixpanel_visitor.cli import main
from mixpanel_visitor.cli.doctor.collector import check_collector
from mixpanel_visitor.core.collector.routes import own_names
from mixpanel_visitor.emulator import LocalMixpanel
from mixpanel_visitor.settings import Settings
from mixpanel_visitor.tracking.tracker import Tracker
from mixpanel_visitor.wsgi import VisitorMiddleware

TOKEN = "0123456789abcdef0123456789abcdef"
BROWSER = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"}


def page(environ, start_response):
    start_response("404 Not Found", [("Content-Type", "text/html")])
    return [b"<html></html>"]


@pytest.fixture
def examine():
    """Return what the doctor says of a site with a collector, through a proxy that does something."""

    def examine(proxy=lambda environ: None, status=None, **settings):
        given = {"token": TOKEN, "secret_key": "a-key-of-some-length", "collector_path": "/m"}
        with LocalMixpanel() as mixpanel:
            tracker = Tracker(**given, spool="memory:", api_host=mixpanel.url, **settings)
            inner = VisitorMiddleware(page, tracker=tracker)

            def through(environ, start_response):
                if status is not None:
                    start_response(status, [("Content-Type", "text/plain"), ("Location", "/login")])
                    return [b"no"]
                proxy(environ)
                return inner(environ, start_response)

            try:
                with served(through) as url:
                    return list(check_collector(url, Settings(**given), BROWSER)), tracker.stats()
            finally:
                tracker.close()

    return examine


def ids(findings):
    return [finding.id for finding in findings]


def test_a_collector_that_works(examine):
    """Nothing is wrong, and no event was sent."""
    findings, stats = examine()
    assert [(each.id, each.what) for each in findings] == [("ok", "the browser's events come in under /m")]
    assert stats["accepted"] == 0


@pytest.mark.parametrize("status", ["404 Not Found", "302 Found", "403 Forbidden", "200 OK"])
def test_a_proxy_that_answers_by_itself(examine, status):
    """Its answer makes the SDK throw its events away."""
    findings, _ = examine(status=status)
    assert ids(findings) == ["E107"]
    assert status[:3] in findings[0].what


def test_a_proxy_that_is_not_trusted(examine):
    """Everybody would be located at it."""

    def forward(environ):
        environ["HTTP_X_FORWARDED_FOR"] = "203.0.113.7"

    assert ids(examine(forward)[0]) == ["ok", "E109"]
    assert ids(examine(forward, trusted_proxies="127.0.0.1")[0]) == ["ok"]


def test_a_proxy_that_hides_who_asks(examine):
    """Any website could send."""

    def hide(environ):
        environ["HTTP_SEC_FETCH_SITE"] = "same-origin"

    assert ids(examine(hide)[0]) == ["ok", "E108"]


def test_settings_are_not_passed_on(examine):
    """A process that does not deliver asks Mixpanel for nothing."""
    assert ids(examine(deliver=False)[0]) == ["ok", "W110"]


def test_nothing_is_asked_without_a_collector():
    """There is none by default."""
    settings = Settings(token=TOKEN, secret_key=("a-key-of-some-length",))
    assert list(check_collector("http://127.0.0.1:9/", settings, BROWSER)) == []


def test_it_says_what_pages_have_to_be_told():
    """All six routes, ready to be copied."""
    environment = {
        "MIXPANEL_TOKEN": TOKEN,
        "MIXPANEL_VISITOR_SECRET_KEY": "a-key-of-some-length",
        "MIXPANEL_VISITOR_COLLECTOR_PATH": "/m",
        "MIXPANEL_VISITOR_SPOOL": "memory:",
        "MIXPANEL_API_HOST": "http://127.0.0.1:9",
    }
    result = CliRunner().invoke(main, ["doctor", "--json"], env=environment)
    lines = [each["what"] for each in json.loads(result.stdout)["findings"]]
    (line,) = (line for line in lines if "mixpanel.init" in line)
    assert all(f'"{route}": "{name}/"' in line for route, name in own_names(TOKEN).items())
