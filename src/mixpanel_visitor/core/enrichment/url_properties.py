"""Properties in the addresses of a page and of its referrer, as mixpanel-browser reads them.

Source: `_.getQueryParam` and `_.info` in the utils.js of mixpanel-browser 2.83; the tests run its own code
beside this. Addresses come as browsers send them: ASCII, percent-encoded.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mixpanel_visitor.core.events.redaction import REDACTED
from mixpanel_visitor.core.identity.mixpanel_browser import decode_uri_component

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

CAMPAIGN_NAMES = (
    "utm_source", "utm_medium", "utm_campaign", "utm_content", "utm_term",
    "utm_id", "utm_source_platform", "utm_campaign_id", "utm_creative_format", "utm_marketing_tactic",
)  # fmt: skip
CLICK_NAMES = (
    "dclid", "fbclid", "gclid", "ko_click_id", "li_fat_id", "msclkid", "sccid", "ttclid", "twclid", "wbraid",
)  # fmt: skip

DIRECT = "$direct"
"""The SDK's value for a missing referrer."""

MAX_CHARS = 8_192
"""A longer address is cut before it is read; Mixpanel stores 255 characters of a value."""

_SEARCH_ENGINES = (
    ("google", re.compile(r"https?://(.*)google.([^/?]*)")),
    ("bing", re.compile(r"https?://(.*)bing.com")),
    ("yahoo", re.compile(r"https?://(.*)yahoo.com")),
    ("duckduckgo", re.compile(r"https?://(.*)duckduckgo.com")),
)
# Also within an address that is a parameter itself: `?next=%2F%3Ftoken%3Dabc`.
_USER_INFO = re.compile(r"(://|%3a%2f%2f)(?:(?:(?!%2f|%3f|%23|%26)[^/?#&;@])*(?:@|%40))+", re.IGNORECASE)
_NAME = re.compile(r"(?:[?&#;]|%3f|%26|%23)((?:(?!%3[df]|%2[36])[^=&#;?])+)(?:=|%3d)", re.IGNORECASE)
_VALUE = re.compile(r"(?:(?!%26|%23)[^&#;])*", re.IGNORECASE)


def query_value(url: str, name: str) -> str:
    """Return the first value of a parameter, decoded; `""` where there is none."""
    match = re.search(rf"[?&]{re.escape(name)}=([^&#]*)", url)
    if match is None:
        return ""
    decoded = decode_uri_component(match[1]) if match[1].isascii() else None
    return (match[1] if decoded is None else decoded).replace("+", " ")


def campaign(url: str) -> dict[str, str]:
    """Return the `utm_*` parameters that have a value."""
    return _values(url, CAMPAIGN_NAMES) if "utm_" in url else {}


def clicks(url: str) -> dict[str, str]:
    """Return the click IDs of advertisers that have a value."""
    return _values(url, CLICK_NAMES) if "?" in url or "&" in url else {}


def first_touch(url: str) -> dict[str, str | None]:
    """Return all `initial_utm_*` for a profile, None for those that are missing; nothing if all are.

    They belong together: one that is missing must not be filled in by a later campaign.
    """
    parameters = campaign(url)
    return {f"initial_{name}": parameters.get(name) for name in CAMPAIGN_NAMES} if parameters else {}


def referring_domain(referrer: str) -> str:
    """Return the part of an address where the host is; `""` if it is too short to have one."""
    parts = referrer.split("/", 3)
    return parts[2] if len(parts) >= 3 else ""


def search_info(referrer: str) -> dict[str, str]:
    """Return `$search_engine` and, where the engine still tells it, `mp_keyword`."""
    for engine, pattern in _SEARCH_ENGINES:
        if engine in referrer and pattern.match(referrer):
            keyword = query_value(referrer, "p" if engine == "yahoo" else "q")
            return {"$search_engine": engine, **({"mp_keyword": keyword} if keyword else {})}
    return {}


def without_secrets(url: str, is_secret: Callable[[str], bool]) -> str:
    """Return an address without user name, password, and values of parameters with a secret name.

    `is_secret` gets names as they are written, with escapes. Text that is encoded twice is not read.
    """
    if "@" in url or "%40" in url:
        url = _USER_INFO.sub(r"\1", url)
    if "=" not in url and "%3" not in url:
        return url
    position = 0
    pieces: list[str] = []
    # Skip a value only if it is secret: the address in `next=` is read as well, and nothing twice.
    while match := _NAME.search(url, position):
        end = match.end()
        pieces.append(url[position:end])
        if is_secret(match[1]):
            value = _VALUE.match(url, end)
            if value is not None and value[0]:
                pieces.append(REDACTED)
                end = value.end()
        position = end
    return "".join([*pieces, url[position:]])


def _values(url: str, names: Collection[str]) -> dict[str, str]:
    return {name: value for name in names if f"{name}=" in url and (value := query_value(url, name))}
