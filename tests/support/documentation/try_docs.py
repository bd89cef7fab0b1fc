"""Follow the tutorials as a new user would: `scripts/try-docs [flask] [fastapi] [django]`.

From the wheel and the pages alone, in a fresh environment, with a real Chromium: every command of a page is
run, every block is put into the file that it names, and then the buttons of the shop are pressed. Only the
browser's SDK comes from npm in place of Mixpanel's CDN. Exit code 1: a step does not lead where it should.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support import browser_sdk
from support.browser import Chromium
from support.waiting import PATIENCE_S, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.async_api import Page, Route

ROOT = Path(__file__).parents[3]
SDK_URL = "https://cdn.mxpnl.com/libs/mixpanel-js/dist/mixpanel.module.js"
LOCAL = "http://127.0.0.1:8484"
SHOPS = {
    "flask": "http://127.0.0.1:5000",
    "fastapi": "http://127.0.0.1:8000",
    "django": "http://127.0.0.1:8000",
}
FOR_TESTS = {"flask": ["pytest"], "fastapi": ["pytest", "httpx2"], "django": ["pytest", "pytest-django"]}
_BLOCK = re.compile(r"```(python|console)\n(.*?)```", re.DOTALL)


class Reader:
    """Somebody with a page, a terminal and a directory."""

    def __init__(self, framework: str, wheel: Path, directory: Path) -> None:
        self.framework = framework
        self._wheel = wheel
        self._directory = directory
        self._page = (ROOT / "docs" / "start" / f"{framework}.md").read_text("utf-8")
        programs = f"{directory}/.venv/bin{os.pathsep}{os.environ['PATH']}"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MIXPANEL_")}
        self._environment = {**inherited, "PATH": programs, "HOME": str(directory)}

    def follow(self, chromium: Chromium) -> None:
        """Do what the page says, in its order."""
        with contextlib.ExitStack() as running:
            for kind, block in _BLOCK.findall(self._page):
                if kind == "python":
                    self._save(block)
                    continue
                for line in block.splitlines():
                    command = line.removeprefix("$ ")
                    if "mixpanel-visitor dev" in command or "API_HOST" in command:
                        running.enter_context(self._started(command))
                    elif "doctor" not in command:  # that is for the site that is live
                        self.run(command)
            self._press_the_buttons(chromium)
        self._run_the_tests()

    def run(self, command: str) -> None:
        """Type a command; the package is the wheel, and the environment of the same Python."""
        command = command.replace("python3 -m venv", f"{sys.executable} -m venv")
        package = re.compile(r"'mixpanel-visitor(\[\w+\])'")
        command = package.sub(lambda match: f"'{self._wheel}{match[1]}'", command)
        subprocess.run(command, shell=True, cwd=self._directory, env=self._environment, check=True)

    def _save(self, block: str) -> None:
        path = self._directory / re.match(r"# ([\w/]+\.py)", block)[1]  # type: ignore[index]
        with path.open("a") as file:
            file.write(f"\n\n{block}")

    @contextlib.contextmanager
    def _started(self, command: str) -> Iterator[None]:
        """Run a command until the end of the block, once it listens."""
        port = 8484 if "dev" in shlex.split(command) else int(SHOPS[self.framework].rpartition(":")[2])
        if _listens(port):
            raise SystemExit(f"something listens on port {port} already, which the tutorial names")
        with (self._directory / f"{port}.log").open("wb") as log:
            process = subprocess.Popen(
                command,
                shell=True,
                cwd=self._directory,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            if not wait_until(lambda: _listens(port), PATIENCE_S):
                raise SystemExit((self._directory / f"{port}.log").read_text())
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(PATIENCE_S)

    def _press_the_buttons(self, chromium: Chromium) -> None:
        """Look at the shop, log in, log out; ask the local Mixpanel what it has made of that."""
        chromium.run(self._as_a_visitor(chromium), timeout_s=4 * PATIENCE_S)
        people = _ask("/_local/people")["people"]
        known = [each for each in people if any(not name.startswith("$device:") for name in each["ids"])]
        _expect(len(known) == 1 and len(known[0]["ids"]) >= 2, f"one person after the log-in, not {people}")
        _expect(len(people) == 2, f"after the log-out another person: {people}")
        _expect(not _ask("/_local/two-ids")["two_ids"], "browser and server have one ID")

    async def _as_a_visitor(self, chromium: Chromium) -> None:
        context = await chromium.context()
        page = await context.new_page()
        await page.route(SDK_URL, _sdk)
        await page.goto(SHOPS[self.framework])
        await _see_events(2, "one event of the server and one of the browser")
        await self._log_in(page)
        await _see_events(5 if self.framework != "django" else 4, "the log-in, and the page after it")
        await page.click("#logout")
        await _see_events(7 if self.framework != "django" else 6, "the page after the log-out")
        await context.close()

    async def _log_in(self, page: Page) -> None:
        await page.click("#login")
        if self.framework == "django":
            await page.fill("[name=username]", "anna")
            await page.fill("[name=password]", "secret")
            await page.click("[type=submit]")

    def _run_the_tests(self) -> None:
        if self.framework == "django":
            (self._directory / "pytest.ini").write_text("[pytest]\nDJANGO_SETTINGS_MODULE = shop.settings\n")
        self.run(f"pip install --quiet {' '.join(FOR_TESTS[self.framework])}")
        self.run("python -m pytest -q")


def _ask(path: str) -> Any:
    with urllib.request.urlopen(LOCAL + path, timeout=PATIENCE_S) as answer:
        return json.load(answer)


def _expect(is_so: bool, what: str) -> None:
    if not is_so:
        raise AssertionError(f"not as the page says: {what}")


async def _see_events(count: int, what: str) -> None:
    """Wait in a thread, since the browser's requests for the SDK are answered by this one."""
    path = f"/_local/events?count={count}&wait=30"
    events = (await asyncio.to_thread(_ask, path))["events"]
    _expect(len(events) >= count, f"{what}; there are {[each['event'] for each in events]}")


async def _sdk(route: Route) -> None:
    await route.fulfill(path=browser_sdk.files() / "mixpanel.module.js", content_type="text/javascript")


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def main(frameworks: list[str]) -> None:
    """Follow each page in a directory of its own."""
    browser_sdk.files()  # npm may take its time; a reader's browser has the SDK from the CDN
    with tempfile.TemporaryDirectory() as built, Chromium() as chromium:
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", built]
        subprocess.run(build, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        (wheel,) = Path(built).glob("*.whl")
        for framework in frameworks or SHOPS:
            directory = Path(tempfile.mkdtemp(prefix=f"try-docs-{framework}-"))
            started_s = time.monotonic()
            Reader(framework, wheel, directory).follow(chromium)
            print(f"{framework}: as the page says, {time.monotonic() - started_s:.0f} s")
            shutil.rmtree(directory)


if __name__ == "__main__":
    main(sys.argv[1:])
