"""The pictures in the README: `scripts/screenshots`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from mixpanel_visitor.emulator import LocalMixpanel

from .browser import Chromium
from .live_page import LivePage, broken_shop, shop

HOME = Path(__file__).parents[2] / "docs" / "assets" / "screenshots"
MAX_BYTES = 200_000
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
        pictures = take(HOME, chromium)
    for path in pictures:
        print(f"{path.name}: {path.stat().st_size:,} bytes")
        if path.stat().st_size > MAX_BYTES:
            sys.exit(f"{path} is too large for a README")
