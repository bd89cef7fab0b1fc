"""User agents as mixpanel-browser names them, so that reports are not split between browser and server.

Source: `_.info` in the utils.js of mixpanel-browser 2.83; the tests run its own code beside this. It reads
three things: `navigator.userAgent`, which is the User-Agent header; `navigator.vendor`, of which
only "Apple" matters, and the header tells where that is (WebKit that is not Android's); and `window.opera`,
which browsers have that name Opera in the header. It reads no client hints, and neither do we: else a server
would send what no browser sends. A Safari that pretends to be another browser cannot be told apart.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_CHARS = 1024
"""The rest of a header is not read; real ones have 80 to 400 characters."""

CACHED = 1024
MAX_VERSION = 1_000_000

_I = re.ASCII | re.IGNORECASE
_BLACKBERRY = re.compile("BlackBerry|PlayBook|BB10", _I)
_WINDOWS = re.compile("Windows", _I)
_WINDOWS_PHONE = re.compile("Windows Phone", _I)
_MAC = re.compile("Mac", _I)
_IOS = re.compile("iPhone|iPad|iPod")
_NUMBER = r"(\d+(?:\.\d+)?)"

_BEFORE_VERSION = {
    "Android Mobile": r"android\s",  # in lower case: no Android says that, so the SDK finds no version
    "BlackBerry": "BlackBerry ",
    "Chrome": "Chrome/",
    "Chrome iOS": "CriOS/",
    "Firefox": "Firefox/",
    "Firefox iOS": "FxiOS/",
    "Internet Explorer": "(?:rv:|MSIE )",
    "Internet Explorer Mobile": "rv:",
    "Konqueror": "Konqueror:",
    "Microsoft Edge": "Edge?/",
    "Mobile Safari": "Version/",
    "Mozilla": "rv:",
    "Opera": "(?:Opera|OPR)/",
    "Safari": "Version/",
    "Samsung Internet": "SamsungBrowser/",
    "UC Browser": "(?:UCBrowser|UCWEB)/",
    "Whale Browser": "Whale/",
}
"""Regular expressions; compiled on first use, because few of them are used."""


class UserAgent(NamedTuple):
    """The SDK's properties of a browser; empty, or None for the version, if it sends none."""

    browser: str
    version: int | float | None
    os: str
    device: str

    def properties(self) -> dict[str, str | int | float]:
        """Return the event properties `$browser`, `$browser_version`, `$os` and `$device` that are known."""
        named = {
            "$browser": self.browser,
            "$browser_version": self.version,
            "$os": self.os,
            "$device": self.device,
        }
        return {name: value for name, value in named.items() if value or value == 0}


def properties_of(user_agent: str) -> Mapping[str, str | int | float]:
    """Return the event properties of a User-Agent header: for the same header the same mapping."""
    return _properties_of(user_agent[:MAX_CHARS])


def describe(user_agent: str) -> UserAgent:
    """Read a User-Agent header; never raises."""
    user_agent = user_agent[:MAX_CHARS]
    browser = _browser(user_agent)
    return UserAgent(browser, _version(browser, user_agent), _os(user_agent), _device(user_agent))


@lru_cache(maxsize=CACHED)
def _properties_of(user_agent: str) -> Mapping[str, str | int | float]:
    return describe(user_agent).properties()


def _browser(text: str) -> str:
    """Return the browser's name; the order counts, because many name other browsers as well."""
    if "Opera" in text or " OPR/" in text:
        return "Opera Mini" if "Mini" in text else "Opera"
    if _BLACKBERRY.search(text):
        return "BlackBerry"
    for name, marks in (
        ("Internet Explorer Mobile", ("IEMobile", "WPDesktop")),
        ("Samsung Internet", ("SamsungBrowser/",)),
        ("Microsoft Edge", ("Edge", "Edg/")),
        ("Facebook Mobile", ("FBIOS",)),
        ("Whale Browser", ("Whale/",)),
        ("Chrome", ("Chrome",)),
        ("Chrome iOS", ("CriOS",)),
        ("UC Browser", ("UCWEB", "UCBrowser")),
        ("Firefox iOS", ("FxiOS",)),
    ):
        if any(mark in text for mark in marks):
            return name
    if "AppleWebKit" in text and ("Android" not in text or _IOS.search(text)):
        return "Mobile Safari" if "Mobile" in text else "Safari"
    for name, marks in (
        ("Android Mobile", ("Android",)),
        ("Konqueror", ("Konqueror",)),
        ("Firefox", ("Firefox",)),
        ("Internet Explorer", ("MSIE", "Trident/")),
        ("Mozilla", ("Gecko",)),
    ):
        if any(mark in text for mark in marks):
            return name
    return ""


def _version(browser: str, text: str) -> int | float | None:
    pattern = _BEFORE_VERSION.get(browser)
    match = re.search(pattern + _NUMBER, text, re.ASCII) if pattern else None
    if match is None:
        return None
    version = float(match[1])
    if version > MAX_VERSION:
        return None  # not a browser's; infinity, or an integer of many digits, is no JSON
    return int(version) if version.is_integer() else version


def _os(text: str) -> str:
    if _WINDOWS.search(text):
        return "Windows Phone" if "Phone" in text or "WPDesktop" in text else "Windows"
    if _IOS.search(text):
        return "iOS"
    if "Android" in text:
        return "Android"
    if _BLACKBERRY.search(text):
        return "BlackBerry"
    if _MAC.search(text):
        return "Mac OS X"
    if "Linux" in text:
        return "Linux"
    return "Chrome OS" if "CrOS" in text else ""


def _device(text: str) -> str:
    if _WINDOWS_PHONE.search(text) or "WPDesktop" in text:
        return "Windows Phone"
    for name, mark in (("iPad", "iPad"), ("iPod Touch", "iPod"), ("iPhone", "iPhone")):
        if mark in text:
            return name
    if _BLACKBERRY.search(text):
        return "BlackBerry"
    return "Android" if "Android" in text else ""
