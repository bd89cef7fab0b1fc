"""`mixpanel-visitor demo`: a local Mixpanel, a shop under uvicorn, and one visitor's journey through it."""

from __future__ import annotations

import contextlib
import http.cookiejar
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import click

from mixpanel_visitor.emulator import LocalMixpanel
from mixpanel_visitor.errors import MissingExtraError
from mixpanel_visitor.settings.spool import HAS_FILE_LOCKS, MEMORY

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "demo"  # noqa: S105  # the local Mixpanel takes any
START_TIMEOUT_S = 30.0
ARRIVAL_TIMEOUT_S = 30.0
JOURNEY = (
    ("GET", "/", None, ("Page viewed",)),
    ("GET", "/product/tea", None, ("Product viewed",)),
    ("POST", "/login", b"user=anna", ("Logged in", "Page viewed")),
    ("GET", "/product/mug", None, ("Product viewed",)),
    ("POST", "/buy/mug", b"", ("Bought",)),
)
"""Method, path, form and the events that come of it: the log-in redirects to the front page."""


@click.command()
@click.option("--once", is_flag=True, help="Exit after the journey: 0 only if all arrived under one ID.")
@click.option("--json", "as_json", is_flag=True, help="Print what arrived as JSON.")
def command(once: bool, as_json: bool) -> None:
    """Walk one visitor through an example shop and show what a local Mixpanel received."""
    for module in ("starlette", "uvicorn"):
        if find_spec(module) is None:
            raise click.ClickException(str(MissingExtraError(module, "demo")))
    signal.signal(signal.SIGTERM, _interrupt)
    with tempfile.TemporaryDirectory(prefix="mixpanel-visitor-demo-") as spool, LocalMixpanel() as mixpanel:
        with _shop(mixpanel.url, spool) as shop_url:
            browser = _Browser(shop_url)
            expected = [name for step in JOURNEY for name in _visit(browser, step)]
            visitor_id = browser.read("/whoami")["visitor_id"]
            events = _arrived(mixpanel.url, len(expected))
            is_complete = _is_complete(events, expected, visitor_id)
            _show(events, visitor_id, is_complete=is_complete, as_json=as_json)
            if not once:
                _stay(shop_url, mixpanel.url)
        sys.exit(0 if is_complete or not once else 1)


def _visit(browser: _Browser, step: tuple[str, str, bytes | None, tuple[str, ...]]) -> tuple[str, ...]:
    method, path, form, events = step
    browser.open(method, path, form)
    return events


class _Browser:
    """As much of a browser as the journey needs: cookies and redirects, over real HTTP."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        )

    def open(self, method: str, path: str, form: bytes | None) -> bytes:
        request = urllib.request.Request(self._base_url + path, data=form, method=method)  # noqa: S310
        with self._opener.open(request, timeout=10) as response:
            return bytes(response.read())

    def read(self, path: str) -> dict[str, Any]:
        return dict(json.loads(self.open("GET", path, None)))


@contextlib.contextmanager
def _shop(mixpanel_url: str, spool: str) -> Iterator[str]:
    """Run the shop under uvicorn, on a free port of the loopback interface."""
    with socket.socket() as listener:  # Windows hands no socket over to another process
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    environment = {
        **os.environ,
        "MIXPANEL_TOKEN": TOKEN,
        "MIXPANEL_API_HOST": mixpanel_url,
        "MIXPANEL_VISITOR_SECRET_KEY": secrets.token_hex(16),
        "MIXPANEL_VISITOR_SPOOL": spool if HAS_FILE_LOCKS else MEMORY,
    }
    server = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "mixpanel_visitor.cli.demo_shop:app",
         "--port", str(port), "--log-level", "warning"],
        env=environment,
    )  # fmt: skip
    try:
        _wait_for(url, server)
        yield url
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            with urllib.request.urlopen(url + "/whoami", timeout=1):  # noqa: S310
                return
        except (urllib.error.URLError, OSError) as error:
            if server.poll() is not None or time.monotonic() > deadline_s:
                raise click.ClickException(f"the shop did not start: {error}") from error
        time.sleep(0.05)


def _arrived(mixpanel_url: str, count: int) -> list[dict[str, Any]]:
    """Wait until the local Mixpanel has `count` events; return those that it has."""
    deadline_s = time.monotonic() + ARRIVAL_TIMEOUT_S
    while True:
        with urllib.request.urlopen(mixpanel_url + "/_local/events", timeout=5) as response:  # noqa: S310
            listing = json.load(response)
        events: list[dict[str, Any]] = listing["events"]
        if len(events) >= count or time.monotonic() > deadline_s:
            return sorted(events, key=lambda event: int(event["properties"]["time"]))
        time.sleep(0.1)


def _is_complete(events: list[dict[str, Any]], expected: list[str], visitor_id: str) -> bool:
    names = sorted(event["event"] for event in events)
    ids = {event["properties"].get("$device_id") for event in events}
    return names == sorted(expected) and ids == {visitor_id}


def _show(events: list[dict[str, Any]], visitor_id: str, *, is_complete: bool, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"visitor_id": visitor_id, "one_id": is_complete, "events": events}))
        return
    click.echo(f"\nThe visitor ID in the shop: {visitor_id}\nWhat the local Mixpanel received:\n")
    click.echo(f"  {'time':<12}  {'event':<15}  {'$device_id':<36}  {'$user_id':<8}  distinct_id")
    for event in events:
        properties = event["properties"]
        moment = datetime.fromtimestamp(properties["time"] / 1000, UTC)
        click.echo(
            f"  {moment:%H:%M:%S}.{moment.microsecond // 1000:03}  {event['event']:<15}  "
            f"{properties.get('$device_id', '-'):<36}  {properties.get('$user_id', '-'):<8}  "
            f"{properties['distinct_id']}"
        )
    verdict = (
        "All events arrived, under one visitor ID."
        if is_complete
        else "NOT all events arrived under one visitor ID."
    )
    click.echo(f"\n{verdict}\n")


def _stay(shop_url: str, mixpanel_url: str) -> None:
    click.echo(f"The shop:            {shop_url}")
    click.echo(f"The local Mixpanel:  {mixpanel_url}")
    click.echo("Click through the shop and watch the events arrive. Ctrl-C ends both.")
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(3600)


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt
