"""mixpanel-browser's cookies for tests, and its reader of ours."""

import json
import re
from collections import Counter
from urllib.parse import quote

from mixpanel_visitor.core.identity.mixpanel_browser import (
    MixpanelBrowser,
)

TOKEN = "0123456789abcdef0123456789abcdef"
NAME = f"mp_{TOKEN}_mixpanel"
OPT_OUT = f"__mp_opt_in_out_{TOKEN}"
DEVICE = "6f1c2a3b-4d5e-4f60-8a7b-9c0d1e2f3a4b"
OTHER = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
OLD = "186a0f1c2d3e4-0b1c2d3e4f5a6b-1d525635-1fa400-186a0f1c2d3f5"
YEAR_S = 365 * 86_400


def make_mixpanel_sdk(notes=None, **more):
    notes = Counter() if notes is None else notes

    def count(name):
        notes[name] += 1

    options = {
        "persistence_name": None,
        "cross_subdomain": True,
        "cookie_domain": None,
        "max_age_s": YEAR_S,
        **more,
    }
    return MixpanelBrowser(TOKEN, **options, count=count)


def cookies(*values):
    """Build a Cookie header with these values of the SDK's cookie, among others."""
    return "; ".join(["mpv=x", *(f"{NAME}={value}" for value in values), "theme=dark"])


def encoded(**properties):
    """Encode as JavaScript's encodeURIComponent(JSON.stringify(...))."""
    text = json.dumps(properties, ensure_ascii=False, separators=(",", ":"))
    text = re.sub("[\ud800-\udfff]", lambda lone: f"\\u{ord(lone[0]):04x}", text)
    return quote(text, safe="!~*'()")


def anonymous(device_id=DEVICE, **more):
    return encoded(distinct_id=f"$device:{device_id}", **{"$device_id": device_id}, **more)


def identified(user_id, device_id=DEVICE, **more):
    return encoded(distinct_id=user_id, **{"$device_id": device_id}, **more, **{"$user_id": user_id})
