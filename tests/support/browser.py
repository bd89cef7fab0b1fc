"""Chromium without a window, for the journeys in `tests/browser`."""

from __future__ import annotations

import asyncio
import shutil
import threading
from typing import TYPE_CHECKING, Any, Self, TypeVar

from playwright.async_api import async_playwright

from .waiting import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import TracebackType

    from playwright.async_api import BrowserContext

_T = TypeVar("_T")

# example.com is this machine, and there is nothing else in the world.
_HOSTS = "MAP *.example.com 127.0.0.1, EXCLUDE 127.0.0.1, EXCLUDE *.localhost, MAP * ~NOTFOUND"
_ARGUMENTS = (
    f"--host-resolver-rules={_HOSTS}",
    "--ignore-certificate-errors",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_BROWSER_MS = 60_000


class Chromium:
    """A browser, driven from a thread of its own; each `context` is a person's fresh profile.

    Not with Playwright's synchronous interface: that leaves its event loop running in the thread of the
    tests, where every other test's `asyncio.run` would then fail.
    """

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chromium", daemon=True)
        self._thread.start()
        try:
            self.run(self._launch(), timeout_s=PATIENCE_S)
        except BaseException:
            self._end_thread()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.run(self._close())
        finally:
            self._end_thread()

    def run(self, call: Coroutine[Any, Any, _T], *, timeout_s: float = PATIENCE_S) -> _T:
        """Do something in the browser's thread, and wait for it; Playwright is to be used nowhere else."""
        return asyncio.run_coroutine_threadsafe(call, self._loop).result(timeout_s)

    async def context(self, **look: Any) -> BrowserContext:
        """Return a fresh profile: no cookies, storage or cache; `look` is Playwright's, a viewport say."""
        context = await self._browser.new_context(ignore_https_errors=True, **look)
        context.set_default_timeout(_BROWSER_MS)
        return context

    async def _launch(self) -> None:
        self._playwright = await async_playwright().start()
        try:
            self._browser = await self._playwright.chromium.launch(
                executable_path=shutil.which("chromium") or "chromium", args=_ARGUMENTS
            )
        except BaseException:
            await self._playwright.stop()
            raise

    async def _close(self) -> None:
        await self._browser.close()
        await self._playwright.stop()

    def _end_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()
