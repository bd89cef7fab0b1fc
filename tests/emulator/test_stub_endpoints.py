"""What SDKs ask for besides sending events."""

from __future__ import annotations

import pytest

CALLS = [
    ("GET", "/flags/"),
    ("POST", "/flags"),
    ("GET", "/flags/definitions"),
    ("GET", "/settings/?$os=Linux"),
]
CALLS += [("POST", "/record/?format=body"), ("GET", "/decide?version=3&lib=web"), ("POST", "/decide")]


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_it_is_answered_to_a_page_of_any_website(client, method, path):
    """With CORS, and counted."""
    answer = client.request(
        method, path, b"" if method == "POST" else None, {"Origin": "https://shop.example"}
    )
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    assert isinstance(answer.json(), dict)
    assert client.get("/_local/stats").json()["requests"] == {path.partition("?")[0].rstrip("/"): {"200": 1}}


def test_the_browser_may_send_the_headers_of_the_sdk(client):
    """Flags come with a trace's."""
    answer = client.request("OPTIONS", "/flags/", headers={"Origin": "https://shop.example"})
    allowed = answer.headers["access-control-allow-headers"].lower()
    assert {"authorization", "traceparent"} <= set(allowed.split(", "))
