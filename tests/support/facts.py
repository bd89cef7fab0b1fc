"""Requests and vectors for tests of the core."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mixpanel_visitor.core.request import RequestFacts

DATA = Path(__file__).parent.parent / "data"
VECTORS: dict[str, Any] = json.loads((DATA / "identity-vectors.json").read_text())


def facts(
    headers: dict[str, str] | None = None,
    *,
    method: str = "GET",
    scheme: str = "http",
    host: str = "shop.example.com",
    protocol: Any = "http",
    path: str = "/",
    query: str = "",
    client: str | None = "127.0.0.1",
) -> RequestFacts:
    """Build the facts of a request with these lower-case headers."""
    headers = headers or {}
    return RequestFacts(
        protocol=protocol,
        method=method,
        scheme=scheme,
        host=host,
        path=path,
        query=query,
        client=client,
        cookies=headers.get("cookie", ""),
        headers=headers,
    )


BROWSER_DOCUMENT = {"sec-fetch-dest": "document", "sec-fetch-site": "none", "sec-fetch-mode": "navigate"}
BROWSER_FETCH = {"sec-fetch-dest": "empty", "sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}
