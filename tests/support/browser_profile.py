"""Browsing: what somebody does in a browser whatever the site, one call after the other."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlsplit

import orjson
from playwright.async_api import TimeoutError as TooLate

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext, Page, Request

    from .browser import Chromium

_WRITTEN_DOWN = """() => {
    try {
        return !Object.keys(localStorage).some((key) => /^__mp.*:[XYZ]$/.test(key));
    } catch (noStorage) {
        return true;
    }
}"""
"""Whether the SDK has written down what was tracked: while it waits for its lock, it has a key like these."""

_WRITTEN_DOWN_MS = 5_000.0


async def _look_at(tab: Page) -> None:
    """Stay as long as somebody who looks at the page: what still waits for the SDK's lock would be lost."""
    with contextlib.suppress(TooLate):
        await tab.wait_for_function(_WRITTEN_DOWN, polling=20, timeout=_WRITTEN_DOWN_MS)


async def _leave_for(tab: Page, url: str, wait_until: Literal["commit", "load"] = "commit") -> None:
    await _look_at(tab)
    await tab.goto(url, wait_until=wait_until)


class Browsing:
    """A fresh profile in a browser, with tabs; subclasses say whose pages are meant by a path."""

    def __init__(self, chromium: Chromium) -> None:
        self._chromium = chromium
        self._contexts: list[BrowserContext] = []
        self._context: BrowserContext
        self.tabs: list[Page] = []
        self.errors: list[str] = []
        """What the pages' scripts have thrown."""
        self.strangers: list[str] = []
        """What the browser asked of somebody else."""

    def url(self, path: str, host: str | None = None) -> str:
        """Return the whole URL of a path."""
        raise NotImplementedError

    # --- tabs and pages -------------------------------------------------------------------------
    def another_browser(self) -> None:
        """Go on with a fresh profile, with one empty tab; the one before is not asked again."""
        self._context = self._chromium.run(self._fresh_profile())
        self._contexts.append(self._context)
        self.tabs = []
        self.new_tab()

    def close(self) -> None:
        """Close all profiles."""
        while self._contexts:
            self._chromium.run(self._contexts.pop().close())

    async def _fresh_profile(self) -> BrowserContext:
        context = await self._chromium.context()
        context.on("request", self._note)
        context.on("weberror", lambda error: self.errors.append(str(error.error)))
        return context

    @property
    def page(self) -> Page:
        """The tab that is in front."""
        return self.tabs[-1]

    def new_tab(self) -> None:
        """Open a tab and bring it to the front."""
        self.tabs.append(self._chromium.run(self._context.new_page()))

    def switch_tab(self) -> None:
        """Bring the tab to the front that has been behind the longest."""
        self.tabs.append(self.tabs.pop(0))

    def visit(self, path: str, *, host: str | None = None) -> None:
        """Open a page by its address, and wait until it has loaded."""
        self._chromium.run(_leave_for(self.page, self.url(path, host), wait_until="load"))

    def wait_until_quiet(self) -> None:
        """Wait until the page in front, since it was opened, has asked for nothing for half a second."""
        self._chromium.run(self.page.wait_for_load_state("networkidle"))

    def visit_at_once(self, *paths: str) -> None:
        """Open a new tab for each of these pages, all at the same time."""
        for _ in paths:
            self.new_tab()
        tabs = self.tabs[-len(paths) :]

        async def open_all() -> None:
            await asyncio.gather(
                *(tab.goto(self.url(path), wait_until="load") for tab, path in zip(tabs, paths, strict=True))
            )

        self._chromium.run(open_all())

    def click(self, selector: str) -> None:
        """Click something that leads to another page."""
        self._chromium.run(self._click(selector))

    async def _click(self, selector: str) -> None:
        await _look_at(self.page)
        async with self.page.expect_event("load"):
            await self.page.click(selector)

    def fill(self, selector: str, text: str) -> None:
        """Type into a field."""
        self._chromium.run(self.page.fill(selector, text))

    def js(self, script: str, *arguments: Any) -> Any:
        """Run a function in the page, and give what it (or its promise) returns."""
        return self._chromium.run(self.page.evaluate(f"(given) => ({script})(...given)", list(arguments)))

    def leave(self) -> None:
        """Leave all pages: now the SDK sends what it has."""

        async def leave_all() -> None:
            await asyncio.gather(*(_leave_for(tab, "about:blank") for tab in self.tabs))

        self._chromium.run(leave_all())

    def block_sdk(self) -> None:
        """Block the SDK's files, as some people's browsers do."""
        self._chromium.run(self._context.route("**/sdk/**", lambda route: route.abort()))

    def unblock_sdk(self) -> None:
        """Take the block off again."""
        self._chromium.run(self._context.unroute("**/sdk/**"))

    # --- cookies and storage ----------------------------------------------------------------------

    def cookies(self) -> dict[str, str]:
        """Return the cookies that the browser holds, by name."""
        cookies = self._chromium.run(self._context.cookies())
        return {cookie["name"]: cookie["value"] for cookie in cookies}  # type: ignore[typeddict-item]

    def domain_of(self, name: str) -> str:
        """Return a cookie's domain; with a dot before it, it is that of the hosts below as well."""
        cookies = self._chromium.run(self._context.cookies())
        (domain,) = (cookie["domain"] for cookie in cookies if cookie["name"] == name)  # type: ignore[typeddict-item]
        return domain  # type: ignore[no-any-return]

    def give_cookie(self, name: str, properties: dict[str, Any], **attributes: Any) -> None:
        """Put a cookie into the browser that holds this object as the SDK's do."""
        value = quote(orjson.dumps(properties), safe="")
        cookie = {"name": name, "value": value, "path": "/", "domain": ".example.com", **attributes}
        self._chromium.run(self._context.add_cookies([cookie]))  # type: ignore[list-item]

    def forget_cookie(self, name: str) -> None:
        """Delete a cookie, as its end of life does."""
        assert name in self.cookies()
        self._chromium.run(self._context.clear_cookies(name=name))

    def forget_storage(self) -> None:
        """Clear the localStorage of the shop, from a file of the same host that runs no script."""
        self.leave()
        self.visit("/sdk/mixpanel.min.js")
        self.js("() => localStorage.clear()")

    def _note(self, request: Request) -> None:
        address = urlsplit(request.url)
        host = address.hostname or ""
        ours = host == "127.0.0.1" or host.endswith((".example.com", ".localhost"))
        if address.scheme in ("http", "https") and not ours:
            self.strangers.append(request.url)
