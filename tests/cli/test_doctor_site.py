"""`mixpanel-visitor doctor --url`: what do two new browsers get from the running application?"""

import json
import ssl
import sys

import pytest
import trustme
from click.testing import CliRunner
from support.scripted_server import ScriptedServer, answering_once, http, resetting
from support.wsgi_site import served

from mixpanel_visitor.cli import main
from mixpanel_visitor.cli.doctor.network import ResponseHead
from mixpanel_visitor.cli.doctor.site import check_cookies
from mixpanel_visitor.tracking.tracker import Tracker
from mixpanel_visitor.wsgi import VisitorMiddleware

SETTINGS = {"token": "0123456789abcdef0123456789abcdef", "secret_key": "a-key-of-some-length"}


@pytest.fixture
def site():
    """Make an application with the middleware in it, as these settings say."""
    trackers = []

    def make(**settings):
        trackers.append(Tracker(**{**SETTINGS, "spool": "memory:", "deliver": False, **settings}))
        return VisitorMiddleware(page, tracker=trackers[-1])

    yield make
    for tracker in trackers:
        tracker.close()


def page(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/html")])
    return [b"<html></html>"]


def examine(url, **environment):
    """Run the doctor for somebody who has set nothing else; give what it says of the site."""
    result = CliRunner().invoke(main, ["doctor", "--json", "--url", url], env=environment)
    findings = json.loads(result.stdout)["findings"]
    found = [each for each in findings if each["level"] != "problem" or "(keyword" not in each["what"]]
    start = max(at for at, each in enumerate(found) if "is missing" in each["what"]) + 1
    assert result.exit_code == 1  # for there is no token
    assert all(each["level"] == "ok" or (each["why"] and each["fix"]) for each in found)
    return [(each["level"], each["what"].replace(url, "URL")) for each in found[start:]]


SCRIPT = ("ok", "the script /_visitor.js is there")


def test_a_site_with_the_middleware_is_fine(site):
    """It sets a cookie, and has the script."""
    with served(site()) as url:
        assert examine(url) == [("ok", "URL sets a visitor cookie"), SCRIPT]


def test_a_site_without_it_is_found():
    """Neither cookie nor script."""
    with served(page) as url:
        assert examine(url) == [
            ("warning", "URL sets no visitor cookie"),
            ("warning", "the script /_visitor.js is not there (200)"),
        ]


def test_the_settings_say_what_to_look_for(site):
    """The cookie's name, and no script where none is wanted."""
    environment = {"MIXPANEL_VISITOR_COOKIE_NAME": "who", "MIXPANEL_VISITOR_HANDOVER_PATH": "none"}
    environment |= {
        "MIXPANEL_TOKEN": SETTINGS["token"],
        "MIXPANEL_VISITOR_SECRET_KEY": SETTINGS["secret_key"],
    }
    environment |= {"MIXPANEL_API_HOST": "http://127.0.0.1:9", "MIXPANEL_VISITOR_SPOOL": "memory:"}
    with served(site(cookie_name="who", handover_path=None)) as url:
        result = CliRunner().invoke(main, ["doctor", "--url", url], env=environment)
        assert f"ok      {url} sets a visitor cookie" in result.stdout
        assert "script" not in result.stdout


def test_a_cache_that_keeps_cookies_is_found(site):
    """It makes one visitor of everybody."""
    app, kept = site(), []

    def cached(environ, start_response):
        if not kept:
            head = []
            body = b"".join(app(environ, lambda status, headers, _info=None: head.extend((status, headers))))
            kept.append((*head, body))
        status, headers, body = kept[0]
        start_response(status, headers)
        return [body]

    with served(cached) as url:
        assert ("problem", "two browsers got the same visitor cookie from URL") in examine(url)


@pytest.mark.parametrize(
    ("said", "reason", "fix"),
    [
        ("private", "although the answer says Cache-Control: private", "have the cache obey that"),
        ("no-cache, private", "although the answer says Cache-Control: no-cache, private", "have the cache"),
        ("no-store", "although the answer says Cache-Control: no-store", "have the cache obey that"),
        ("no-cache", "only Cache-Control: no-cache arrives", "let nothing behind the application replace"),
        ('private="x"', "only Cache-Control: private", "let nothing behind the application replace"),
        (None, "no Cache-Control arrives", "let nothing behind the application replace"),
    ],
)
def test_the_fix_for_a_shared_cookie_is_the_right_one(said, reason, fix):
    """A cache that was told, and one that was not, need different things."""
    headers = {} if said is None else {"cache-control": said}
    reply = ResponseHead(status=200, headers=headers, set_cookies=("mpv_3eb1bd43=x; Path=/; Secure",))
    found = check_cookies("https://shop.example.com/", None, reply, reply)
    (problem,) = [each for each in found if each.level == "problem"]
    assert reason in problem.why
    assert problem.fix.startswith(fix)
    assert problem.fix.endswith("then empty the cache")


def test_a_proxy_that_is_not_trusted_is_found(site, tmp_path):
    """The page came by https, and the application believes that it is http."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    app = site()

    def behind_a_proxy(environ, start_response):
        return app({**environ, "wsgi.url_scheme": "http"}, start_response)

    believed = {"REQUESTS_CA_BUNDLE": str(tmp_path / "authority.pem")}
    told = ("problem", "the visitor cookie has no Secure, although the page came by https")
    with served(behind_a_proxy, context) as url:
        assert told in examine(url, **believed)
    with served(app, context) as url:
        assert examine(url, **believed) == [("ok", "URL sets a visitor cookie"), SCRIPT]


def test_a_cookie_for_another_domain_is_found(site):
    """Browsers refuse it."""
    with served(site(cookie_domain="example.com")) as url:
        assert ("problem", "the visitor cookie is for example.com, and the page is at 127.0.0.1") in examine(
            url
        )


def for_domain(domain):
    """Return the findings for a visitor cookie with this Domain."""
    scope = f"; Domain={domain}" if domain else ""
    first, second = (
        ResponseHead(status=200, headers={}, set_cookies=("a=b", f"mpv={value}; Path=/{scope}; Secure"))
        for value in "xy"
    )
    return list(check_cookies("https://shop.herokuapp.com/", "mpv", first, second))


@pytest.mark.parametrize(
    ("domain", "level"),
    [("com", "problem"), ("herokuapp.com", "problem"), ("shop.herokuapp.com", "ok"), ("", "ok")],
)
def test_a_cookie_for_a_public_suffix_is_found(domain, level):
    """It covers the host, and browsers refuse it all the same."""
    (finding,) = for_domain(domain)
    assert finding.level == level


def test_without_the_list_a_domain_is_not_checked(monkeypatch):
    """The report says so; only a top-level domain needs no list."""
    monkeypatch.setitem(sys.modules, "publicsuffixlist", None)
    unchecked, cookie = for_domain("herokuapp.com")
    assert (
        unchecked.what
        == "the visitor cookie is for herokuapp.com: not checked against the list of public suffixes"
    )
    assert (unchecked.level, cookie.level) == ("warning", "ok")
    (refused,) = for_domain("com")
    assert refused.level == "problem"


def test_a_site_without_tls_is_told():
    """But for a developer's own."""
    first, second = (ResponseHead(status=200, headers={}, set_cookies=(f"mpv={value}",)) for value in "xy")
    found = list(check_cookies("http://shop.example.com/", "mpv", first, second))
    assert [finding.level for finding in found] == ["warning", "ok"]
    assert found[0].what == "http://shop.example.com/ is not https"


def test_a_script_that_is_not_reached_is_told():
    """The page was, so it is a surprise."""
    answers = [http(b"", headers=(f"Set-Cookie: mpv={value}",)) for value in "xy"]
    server = ScriptedServer(*map(answering_once, answers), resetting)
    try:
        *_, (level, what) = examine(f"{server.url}/")
    finally:
        server.close()
    assert level == "problem"
    assert what.startswith("URL: it is not reached (ConnectionResetError")


def test_a_page_that_leads_elsewhere_is_told():
    """With the address to give instead."""

    def redirecting(environ, start_response):
        start_response("302 Found", [("Location", "/login")])
        return []

    with served(redirecting) as url:
        assert examine(url) == [("warning", "URL answers with 302 and leads to /login")]


def test_a_page_that_fails_is_told():
    """An error page says nothing of visitors."""

    def failing(environ, start_response):
        start_response("500 Internal Server Error", [])
        return []

    with served(failing) as url:
        assert examine(url) == [("warning", "URL answers with 500")]


def test_a_site_that_is_not_reached_is_a_problem():
    """As Mixpanel's host would be."""
    ((level, what),) = examine("http://site.invalid/")
    assert level == "problem"
    assert "its name is not found" in what


@pytest.mark.parametrize("url", ["shop.example.com", "ftp://shop.example.com", "http://"])
def test_what_is_no_address_of_a_page_is_a_usage_error(url):
    """With an example."""
    result = CliRunner().invoke(main, ["doctor", "--url", url])
    assert result.exit_code == 2
    assert "https://shop.example.com/" in result.output
