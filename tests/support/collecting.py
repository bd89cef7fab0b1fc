"""Collecting: requests to the collector as mixpanel-browser 2.83 makes them."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

from .trackers import NOW_S, TOKEN

DEVICE = "6f1c2a3b-4d5e-4f60-8a7b-9c0d1e2f3a4b"
OTHER_DEVICE = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"

PAGE = {
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
    "sec-fetch-site": "same-origin",
    "sec-fetch-dest": "empty",
    "content-type": "application/x-www-form-urlencoded",
}
"""The headers of an XHR of the site's own page."""

QUERY = "verbose=1&ip=1&_=1763900000500"


def event(
    name: str = "Clicked", *, token: str = TOKEN, user: Any = None, device: str = DEVICE, **more: Any
) -> Any:
    """Return an event as the SDK queues it."""
    properties = {
        "$os": "Linux",
        "$browser": "Firefox",
        "$current_url": "http://localhost/",
        "mp_lib": "web",
        "$insert_id": "nf3jx0w8ms1xqk3o",
        "time": NOW_S - 3.25,
        "distinct_id": user if user is not None else f"$device:{device}",
        "$device_id": device,
        "token": token,
        **more,
    }
    if user is not None:
        properties["$user_id"] = user
    return {
        "event": name,
        "properties": {key: value for key, value in properties.items() if value is not None},
    }


def update(
    operation: str = "$set", operand: Any = None, *, token: str = TOKEN, user: Any = None, **more: Any
) -> Any:
    """Return a profile update as the SDK queues it."""
    ids = {"$distinct_id": f"$device:{DEVICE}" if user is None else user, "$device_id": DEVICE}
    if user is not None:
        ids["$user_id"] = user
    return {operation: {"plan": "pro"} if operand is None else operand, "$token": token, **ids, **more}


def form(items: Any) -> bytes:
    """Return the body of a batch: a form with base64."""
    encoded = base64.b64encode(json.dumps(items, separators=(",", ":")).encode()).decode()
    return f"data={quote(encoded, safe='')}".encode()


def plain(items: Any) -> bytes:
    """Return the body with `api_payload_format: "json"`."""
    return f"data={quote(json.dumps(items), safe='')}".encode()
