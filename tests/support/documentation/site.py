"""Checks of the built site: links and anchors lead somewhere, and nothing is loaded from another host."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from urllib.parse import unquote, urljoin, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_LOADED = {
    *(
        (tag, "src")
        for tag in ["audio", "embed", "iframe", "img", "input", "script", "source", "track", "video"]
    ),
    *(("img", "srcset"), ("source", "srcset"), ("object", "data"), ("use", "href"), ("video", "poster")),
}
"""What a browser fetches by itself; `link` is looked at by its `rel`."""

_LOADING_RELATIONS = {
    "stylesheet",
    "icon",
    "preload",
    "prefetch",
    "preconnect",
    "dns-prefetch",
    "manifest",
    "modulepreload",
}
_IN_STYLES = re.compile(r"""(?:url\(|@import\s+)\s*["']?([^"')]+)""")
_SITE = "https://site.invalid/"


class Page(HTMLParser):
    """A page's links, what it loads, and the anchors that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.canonical = ""
        self._in_style = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what the tag names."""
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if values.get(name)}
        self._in_style = tag == "style"
        if tag in ("a", "area") and "href" in values:
            self.links.append(values["href"])
        if tag == "link" and values.get("rel") == "canonical":
            self.canonical = values.get("href", "")
        if tag == "link" and _LOADING_RELATIONS & set(values.get("rel", "").split()):
            self.loaded.append(values.get("href", ""))
        for name, value in values.items():
            if (tag, name) in _LOADED:
                self.loaded += [each.split()[0] for each in value.split(",")] if name == "srcset" else [value]
            if name == "style":
                self.loaded += _IN_STYLES.findall(value)

    def handle_endtag(self, tag: str) -> None:
        """Leave a block of styles."""
        self._in_style = self._in_style and tag != "style"

    def handle_data(self, data: str) -> None:
        """Note what a block of styles loads."""
        if self._in_style:
            self.loaded += _IN_STYLES.findall(data)


def problems_of(site: Path) -> list[str]:
    """Return a line for each broken link or anchor, and for each thing that is loaded from another host."""
    pages = {path: Page(path.read_text("utf-8")) for path in sorted(site.rglob("*.html"))}
    problems = [] if pages else [f"{site}: there is no page"]
    for path, page in pages.items():
        name = path.relative_to(site).as_posix()
        problems += (f"{name}: loads {each}" for each in page.loaded if _is_elsewhere(each))
        problems += (f"{name}: {each}" for each in _broken(site, name, page, pages))
    for path in sorted(site.rglob("*.css")):
        loaded = _IN_STYLES.findall(path.read_text("utf-8"))
        problems += (f"{path.relative_to(site)}: loads {each}" for each in loaded if _is_elsewhere(each))
    return problems


def _is_elsewhere(address: str) -> bool:
    return bool(urlsplit(address).netloc)


def _broken(site: Path, name: str, page: Page, pages: dict[Path, Page]) -> Iterator[str]:
    """Yield what is wrong with the links of a page to this site.

    404.html stands for any address, so its links begin with the path under which the site is published, which
    the canonical address of the first page has.
    """
    first = pages.get(site / "index.html")
    root = urlsplit(first.canonical).path if first is not None and first.canonical else "/"
    base = urljoin(_SITE, f"{root}{name}")
    for link in [*page.links, *page.loaded]:
        parts = urlsplit(urljoin(base, link))
        if f"{parts.scheme}://{parts.netloc}/" != _SITE:
            continue
        target = site / unquote(parts.path).removeprefix(root).lstrip("/")
        target = target / "index.html" if target.is_dir() else target
        if not target.is_file():
            yield f"leads nowhere: {link}"
        elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
            yield f"has no such place: {link}"
