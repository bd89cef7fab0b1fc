"""The pictures of the local Mixpanel's page in README and docs: `scripts/screenshots`."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from mixpanel_visitor.emulator import LocalMixpanel

from .browser import Chromium
from .live_page import LivePage, broken_shop, send, shop, shop_events

HOME = Path(__file__).parents[2] / "docs" / "assets" / "screenshots"
MAX_BYTES = 200_000
STEP_MS, LAST_MS = 1_200, 4_000
"""How long a frame of the moving picture stays, and its last one."""

PICTURES = {
    "light": ("events", "timeline", "two-ids", "problems"),
    "dark": ("events", "timeline", "two-ids"),
    "phone": ("two-ids", "problems"),
}
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1120, "height": 760}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1120, "height": 760}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}},
}


def take(directory: Path, chromium: Chromium) -> list[Path]:
    """Write the pictures; gives their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    taken: list[Path] = []
    with LocalMixpanel() as local:
        for broken, names in ((False, ("events", "timeline")), (True, ("two-ids", "problems"))):
            local.store.reset()
            shop(local)
            if broken:
                broken_shop(local)
            for look, options in LOOKS.items():
                page = LivePage(chromium, local, **options)
                page.see("#events .row")
                for name in sorted(set(names) & set(PICTURES[look])):
                    _show(page, name)
                    taken.append(directory / f"{name}-{look}.png")
                    page.do(lambda it, path=taken[-1]: it.screenshot(path=path, animations="disabled"))
                page.close()
    return taken


def animate(directory: Path, chromium: Chromium) -> Path:
    """Write the picture of browser and server that become one person, event by event; return its path."""
    frames: list[Image.Image] = []
    with LocalMixpanel() as local:
        page = LivePage(chromium, local, color_scheme="light", viewport={"width": 1120, "height": 760})
        for event in shop_events():
            send(local, [event])
            if not frames:
                page.click("People", role="tab")
            person = event["properties"]["distinct_id"]
            page.see("#people .row", person)
            page.do(lambda it: it.locator("#people .row").first.click())  # after a log-in it has another name
            page.see("#timeline", event["event"])
            picture = page.do(lambda it: it.screenshot(animations="disabled"))
            frames.append(Image.open(io.BytesIO(picture)).convert("RGB"))
        page.close()
    path = directory / "one-person.webp"
    directory.mkdir(parents=True, exist_ok=True)
    frames[0].save(
        path,
        save_all=True,
        append_images=frames[1:],
        duration=[STEP_MS] * (len(frames) - 1) + [LAST_MS],
        loop=0,
        lossless=True,
        method=6,
    )
    return path


def _show(page: LivePage, name: str) -> None:
    page.press("Escape")  # on a phone one event lies over the rest
    if name == "events":
        page.do(lambda it: it.get_by_role("button", name="Bought").first.click())
        page.see("#detail h2")
    elif name == "problems":
        page.click("Problems", role="tab")
        page.see("#problems .problem")
    else:
        page.click("People", role="tab")
        page.see(".timeline .link.bad" if name == "two-ids" else ".timeline .link")
        page.do(lambda it: it.locator("#timeline").scroll_into_view_if_needed())


if __name__ == "__main__":
    with Chromium() as chromium:
        pictures = [*take(HOME, chromium), animate(HOME, chromium)]
    for path in pictures:
        print(f"{path.name}: {path.stat().st_size:,} bytes")
        if path.stat().st_size > MAX_BYTES:
            sys.exit(f"{path} is too large for a README")
