"""The hand-over script for tests: its configuration, and what SDKs leave in a page."""

from __future__ import annotations

import pytest

from mixpanel_visitor.tracking.handover_script import HandoverScript
from support.components import needs, needs_module

MARKS = [pytest.mark.browser, needs("chromium"), needs_module("playwright")]
TOKEN = "0123456789abcdef0123456789abcdef"
DEVICE = f"mp_{TOKEN}_mixpanel"
CHOICE = f"__mp_opt_in_out_{TOKEN}"
CLIENT = "4321abc0000"
SEEN = "mpv_js"
ID = "6f1c2a3b-4d5e-4f60-8a7b-9c0d1e2f3a4b"
OTHER_ID = "11111111-2222-4333-8444-555555555555"
UID = "1ab2c3Xt3n8cgX0zk9m4"
OTHER_UID = "XXab12Xt3n8cgXXXXXX7"
SEED = "%7B%22distinct_id%22%3A%22%24device%3Aseed%22%2C%22%24device_id%22%3A%22seed%22%7D"
OURS = '<script src="/_visitor.js"></script>'
NO_SDK = ""
SCHEDULE_S = 13
"""The script's last timer runs a little earlier."""


def snippet(**given):
    of_both = {"mixpanel": (DEVICE, CHOICE), "spid_client_id": CLIENT}
    return HandoverScript(handover_path="/_visitor", seen_cookie=SEEN, **{**of_both, **given})


def is_post(response):
    return response.request.method == "POST"


def heard(*, device_id=ID, uid="", sig=""):
    """The cookie by which the server says what it has heard."""
    return f"{SEEN}={device_id}~{uid}~{sig[:8]}; Path=/"


def stores(device_id=ID):
    """What mixpanel-browser does in a page with `persistence: "localStorage"`."""
    return (
        f"localStorage.setItem('{DEVICE}', JSON.stringify("
        f"{{distinct_id: '$device:{device_id}', $device_id: '{device_id}'}}));"
    )


WITHOUT_KEEPALIVE = "delete Request.prototype.keepalive"


def chooses(value):
    """What mixpanel-browser does when the visitor opts out (0) or in (1)."""
    return f"localStorage.setItem('{CHOICE}', '{value}');"
