"""What mixpanel-browser's own code says of user agents, addresses and referrers, asked in Node."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from support import browser_sdk

_SCRIPT = Path(__file__).with_suffix(".mjs")
_RECORDED = Path(__file__).parent.parent / "data" / "user_agents.tsv"


@dataclass(frozen=True, kw_only=True)
class Place:
    """A page in a browser."""

    url: str = "https://shop.test/"
    referrer: str = ""
    user_agent: str = ""
    vendor: str = ""
    opera: bool = False


def recorded() -> list[Place]:
    """Return the browsers whose headers are in `tests/data`."""
    lines = [line.split("\t") for line in _RECORDED.read_text().splitlines() if line[0] != "#"]
    return [
        Place(vendor=vendor, opera=opera == "1", user_agent=user_agent) for vendor, opera, user_agent in lines
    ]


def ask(places: list[Place]) -> list[dict[str, Any]]:
    """Return what the SDK would send from each of them."""
    answer = subprocess.run(
        ["node", _SCRIPT, browser_sdk.files() / "mixpanel-core.cjs.js"],
        input=json.dumps([asdict(place) for place in places]),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found: list[dict[str, Any]] = json.loads(answer.stdout)
    return found
