"""Lists of tracking addresses: none of our default requests is on them.

They are those of Debian's package webext-ublock-origin-chromium, or of an unpacked one in the directory
FILTER_LISTS, read by the engine of `pip install adblock`. Not in CI: what is on a list changes with it.
"""

import os
import secrets
from pathlib import Path

import pytest

from mixpanel_visitor.core.collector.routes import CollectorRoutes
from mixpanel_visitor.settings import Settings

PACKAGES = ("chromium/extensions/ublock-origin", "mozilla/extensions/ublock-origin", "webext/ublock-origin")
NAMES = (
    "thirdparties/easylist/easyprivacy.txt",
    "thirdparties/easylist/easylist.txt",
    "ublock/privacy.min.txt",
    "ublock/filters.min.txt",
)
PAGE = "https://shop.example.com/tea"
PROJECTS = 300


def _assets():
    """Return the directory with the lists; None: there is none."""
    given = os.environ.get("FILTER_LISTS")
    roots = [Path(given)] if given else [Path("/usr/share") / package / "assets" for package in PACKAGES]
    return next((root for root in roots if all((root / name).exists() for name in NAMES)), None)


@pytest.fixture(scope="module")
def is_blocked():
    """Return what tells whether a request of the page is on one of the lists."""
    adblock = pytest.importorskip("adblock")
    assets = _assets()
    if assets is None:
        pytest.skip("webext-ublock-origin-chromium is not installed")
    filters = adblock.FilterSet()
    for name in NAMES:
        filters.add_filter_list((assets / name).read_text("utf-8"))
    engine = adblock.Engine(filters)
    return lambda url, kind: engine.check_network_urls(url, PAGE, kind).matched


def test_mixpanels_own_host_is_on_them(is_blocked):
    """Or these would be no lists of tracking addresses."""
    assert is_blocked("https://api-js.mixpanel.com/track/?verbose=1&ip=1&_=1", "xmlhttprequest")


def test_no_default_request_of_ours_is(is_blocked):
    """Hand-over, script, and the collector of any project, whatever its path and names have become."""
    site = "https://shop.example.com"
    blocked = [url for url in ("/_visitor",) if is_blocked(site + url, "xmlhttprequest")]
    blocked += [url for url in ("/_visitor.js",) if is_blocked(site + url, "script")]
    for _ in range(PROJECTS):
        token = secrets.token_hex(16)
        settings = Settings(token=token, secret_key=("a-key-of-some-length",), collector_path="auto")
        options = CollectorRoutes(settings.collector_path, token).init_options()
        for name in options["api_routes"].values():
            url = f"{site}{options['api_host']}/{name}?verbose=1&ip=1&_=1763900000500"
            blocked += [url for kind in ("xmlhttprequest", "ping") if is_blocked(url, kind)]
    assert blocked == []
