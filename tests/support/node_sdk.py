"""The official Node library of Mixpanel, unchanged: a program that calls it, and the calls."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from . import npm
from .waiting import PATIENCE_S

if TYPE_CHECKING:
    from .tls_front import TlsFront

PACKAGE_JSON = Path(__file__).parent.parent / "emulator" / "package.json"
VERSION: str = json.loads(PACKAGE_JSON.read_text())["dependencies"]["mixpanel"]


CALLS = {
    "track": 'mp.track("Signed up", {distinct_id: "u-1", plan: "pro"}, done)',
    "track_batch": (
        'mp.track_batch([{event: "a", properties: {distinct_id: "u-1"}}, {event: "b", properties: {}}], done)'
    ),
    "import": 'mp.import("Old", 1700000000, {distinct_id: "u-1", $insert_id: "i-1"}, done)',
    "import_batch": (
        'mp.import_batch([{event: "Older", properties: {time: 1700000000, distinct_id: "u-1", '
        '$insert_id: "i-2"}}], done)'
    ),
    "alias": 'mp.alias("u-1", "d-1", done)',
    "people.set": 'mp.people.set("u-1", {plan: "pro"}, done)',
    "people.set_once": 'mp.people.set_once("u-1", {first: 1}, done)',
    "people.increment": 'mp.people.increment("u-1", "visits", 2, done)',
    "people.append": 'mp.people.append("u-1", "items", "tea", done)',
    "people.union": 'mp.people.union("u-1", {items: ["mug"]}, done)',
    "people.remove": 'mp.people.remove("u-1", {items: "tea"}, done)',
    "people.unset": 'mp.people.unset("u-1", "items", done)',
    "people.track_charge": 'mp.people.track_charge("u-1", 5, {}, done)',
    "people.clear_charges": 'mp.people.clear_charges("u-1", done)',
    "people.delete_user": 'mp.people.delete_user("u-1", done)',
    "groups.set": 'mp.groups.set("company", "Acme", {size: 5}, done)',
    "groups.set_once": 'mp.groups.set_once("company", "Acme", {size: 5}, done)',
    "groups.union": 'mp.groups.union("company", "Acme", {tags: ["a"]}, done)',
    "groups.remove": 'mp.groups.remove("company", "Acme", {tags: "a"}, done)',
    "groups.unset": 'mp.groups.unset("company", "Acme", "tags", done)',
    "groups.delete_group": 'mp.groups.delete_group("company", "Acme", done)',
}


def run(call: str, front: TlsFront) -> None:
    """Call it once, with the library's own defaults but the host; raises RuntimeError for its errors."""
    library = npm.installed(f"mixpanel-{VERSION}", PACKAGE_JSON) / "mixpanel"
    program = f"""
        const Mixpanel = require({json.dumps(str(library))});
        const mp = Mixpanel.init("some-token", {{
            host: "localhost:{front.port}", keepAlive: false,
            credentials: new Mixpanel.ServiceAccountCredentials("name", "secret", "12345"),
        }});
        const done = (problem) => {{
            const all = [problem].flat().filter(Boolean);
            if (all.length) {{ console.error(all); process.exit(1); }}
        }};
        {call};
    """
    ran = subprocess.run(
        ["node", "-e", program],
        env={**os.environ, "NODE_EXTRA_CA_CERTS": str(front.authority)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    if ran.returncode:
        raise RuntimeError(f"{call}: {ran.stdout}{ran.stderr}")
