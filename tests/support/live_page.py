"""The local Mixpanel's page in a browser, and what two applications send it: a good one and a broken one."""

from __future__ import annotations

import base64
import contextlib
import json
import time
import urllib.request
import uuid
from typing import TYPE_CHECKING, Any

import mixpanel

from .waiting import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from playwright.async_api import BrowserContext, Locator, Page

    from mixpanel_visitor.emulator import LocalMixpanel

    from .browser import Chromium

TOKEN = "0123456789abcdef0123456789abcdef"
DEVICE_ID = "3f1c2b7a-58de-4c1e-9a70-0d6b1e8f2a55"
ANONYMOUS = {"distinct_id": f"$device:{DEVICE_ID}", "$device_id": DEVICE_ID}
KNOWN = {"distinct_id": "anna", "$device_id": DEVICE_ID, "$user_id": "anna"}
PAGE = {"$current_url": "https://shop.example.com/tea", "$browser": "Chrome", "$os": "Linux"}
BROWSER = {**PAGE, "mp_lib": "web"}
SERVER = {**PAGE, "mp_lib": "python"}

_RED = """async (picture) => {
    const bytes = Uint8Array.from(atob(picture), (letter) => letter.charCodeAt(0));
    const image = await createImageBitmap(new Blob([bytes]));
    const paper = new OffscreenCanvas(image.width, image.height).getContext("2d");
    paper.drawImage(image, 0, 0);
    const pixels = paper.getImageData(0, 0, image.width, image.height).data;
    let red = 0;
    for (let at = 0; at < pixels.length; at += 4) {
        const others = Math.max(pixels[at + 1], pixels[at + 2]);
        if (pixels[at] > 150 && pixels[at] > others + 60) red += 1;
    }
    return red;
}"""


def event(name: str, *, ago_ms: int = 0, **properties: Any) -> dict[str, Any]:
    """Make an event of now, or of some milliseconds ago."""
    stamps = {"token": TOKEN, "time": time.time_ns() // 1_000_000 - ago_ms, "$insert_id": str(uuid.uuid4())}
    return {"event": name, "properties": {**stamps, **properties}}


def send(local: LocalMixpanel, records: list[dict[str, Any]], path: str = "/track", **headers: str) -> None:
    """Send records as the browser SDK does; raises OSError where they are not answered with 200."""
    request = urllib.request.Request(
        local.url + path, json.dumps(records).encode(), {"Content-Type": "application/json", **headers}
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
        answer.read()


def shop_events() -> list[dict[str, Any]]:
    """Return the events of one visitor under one ID, who logs in; oldest first."""
    return [
        event("Page viewed", ago_ms=9_000, path="/tea", **ANONYMOUS, **SERVER),
        event("$mp_web_page_view", ago_ms=8_700, **ANONYMOUS, **BROWSER),
        event("Added to cart", ago_ms=7_000, product="Earl Grey", price=4.5, **ANONYMOUS, **BROWSER),
        event("Logged in", ago_ms=4_000, plan="gold", **KNOWN, **SERVER),
        event("Checkout opened", ago_ms=3_000, **KNOWN, **BROWSER),
        event("Bought", ago_ms=1_000, amount=13.5, items=["Earl Grey", "mug"], **KNOWN, **SERVER),
    ]


def shop(local: LocalMixpanel) -> None:
    """An application as it should be: one visitor under one ID, who logs in."""
    send(local, shop_events())
    send(
        local,
        [{"$token": TOKEN, "$distinct_id": "anna", "$set": {"$name": "Anna", "plan": "gold"}}],
        "/engage",
    )


def broken_shop(local: LocalMixpanel) -> None:
    """An application with the usual mistakes; its server uses the official library, in the usual way."""
    urls = {
        f"{name}_url": f"{local.url}/{path}" for name, path in [("events", "track"), ("people", "engage")]
    }
    consumer = mixpanel.Consumer(**urls, request_timeout=10, retry_limit=0)
    tracker = mixpanel.Mixpanel(TOKEN, consumer=consumer)
    page = {**PAGE, "$current_url": "https://shop.example.com/mug"}
    # An ID for each side, as everyone writes it at first.
    device_id = uuid.uuid4().hex
    tracker.track(f"$device:{device_id}", "Page viewed", {"$device_id": device_id, **page})
    other = str(uuid.uuid4())
    own = {"distinct_id": f"$device:{other}", "$device_id": other}
    send(local, [event("Mug turned", **own, **page, mp_lib="web")])
    user = None
    with contextlib.suppress(mixpanel.MixpanelException):
        tracker.track(str(user), "Signed up", {"plan": "free"})
    with contextlib.suppress(mixpanel.MixpanelException):
        tracker.track("bert", "Paid", {"amount": float("nan")})
    with contextlib.suppress(mixpanel.MixpanelException):
        tracker.track("bert", "Searched", {f"result {number}": number for number in range(300)})
    consumer._session.close()


class LivePage:
    """The page, opened; `errors` are what it complained of."""

    def __init__(self, chromium: Chromium, local: LocalMixpanel, **look: Any) -> None:
        self._chromium = chromium
        self.errors: list[str] = []
        self._context, self._page = chromium.run(self._opened(local.url, look))

    def do(self, call: Callable[[Page], Coroutine[Any, Any, Any]]) -> Any:
        """Do something with Playwright's page, and give what it gives."""
        return self._chromium.run(call(self._page))

    def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            self.do(lambda page, key=key: page.keyboard.press(key))

    def click(self, name: str, role: Any = "button") -> None:
        """Click what is called so."""
        self.do(lambda page: page.get_by_role(role, name=name).first.click())

    def see(self, selector: str, text: str | None = None) -> None:
        """Wait until it is there; the browser's own timeout is when it is not."""
        self.do(lambda page: page.locator(selector, has_text=text).first.wait_for())

    def texts(self, selector: str) -> list[str]:
        """Return the texts of all that match, in the page's order."""
        return self.do(lambda page: page.locator(selector).all_inner_texts())

    def run(self, script: str) -> Any:
        """Run a script in the page."""
        return self.do(lambda page: page.evaluate(script))

    def red_pixels(self, element: Locator) -> int:
        """Take a picture of an element, and count what is red in it."""
        return self._chromium.run(self._red_pixels(element))

    async def _red_pixels(self, element: Locator) -> int:
        picture = await element.screenshot(animations="disabled")
        blank = await self._context.new_page()
        red: int = await blank.evaluate(_RED, base64.b64encode(picture).decode())
        await blank.close()
        return red

    def close(self) -> None:
        """Close the tab."""
        self._chromium.run(self._context.close())

    async def _opened(self, url: str, look: dict[str, Any]) -> tuple[BrowserContext, Page]:
        context = await self._chromium.context(**look)
        await context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = await context.new_page()
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        await page.goto(url)
        await page.locator("#state.live").wait_for()
        return context, page
