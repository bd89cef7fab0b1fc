"""SplitIdentities: visits to which browser and server gave an ID each.

An event does not say which visit it belongs to. Two events count as one visit if one is of a browser's SDK
and one of a server, both name the same page, browser and system within `TOGETHER_MS`, and neither ID was seen
from the other side: in an application that shares its IDs, each is soon seen from both.

Many servers name no page, as the official libraries do not. Their event counts as a browser's visit if both
IDs are new, and no third one is, within `NEW_TOGETHER_MS`: a developer who tries an application is alone.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from .eviction import forget_first
from .id_merges import DEVICE

if TYPE_CHECKING:
    from collections.abc import Mapping

Source = Literal["browser", "server"]

TOGETHER_MS = 10_000
NEW_TOGETHER_MS = 3_000
MAX_IDS = 20_000
MAX_PAIRS = 200
_MAX_PAGES = 2_000
_MAX_SIGHTINGS = 8
_MAX_NEW = 3
_MAX_CHARS = 1_000

_BROWSER_LIBRARIES = frozenset({"web", "swift", "iphone", "android", "react-native", "flutter", "unity"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoIds:
    """One visit with two IDs, the browser SDK's and the server's.

    The IDs are as Mixpanel stores them before any merge; `browser_event` and `server_event` are the numbers
    of the two events, and `token` names the project.
    """

    browser_id: str
    server_id: str
    page: str
    browser_event: int
    server_event: int
    token: str = ""


def source_of(properties: Mapping[str, Any]) -> Source:
    """Return who sent an event: an SDK on a visitor's device, or a server.

    >>> source_of({"mp_lib": "web"}), source_of({})
    ('browser', 'server')
    """
    return "browser" if properties.get("mp_lib") in _BROWSER_LIBRARIES else "server"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sighting:
    source: Source
    own_id: str
    event_number: int
    at_ms: int
    page: str | None


class SplitIdentities:
    """Finds such visits among all events; bounded, and not thread-safe."""

    def __init__(self) -> None:
        # By the hashes of IDs: 20,000 of them may be long.
        self._sources: dict[int, set[Source]] = {}
        self._pages: dict[tuple[str, str, str], deque[_Sighting]] = {}
        self._new_ids: deque[_Sighting] = deque(maxlen=_MAX_NEW)
        self._pairs: OrderedDict[tuple[str, str], TwoIds] = OrderedDict()

    def add(self, event_number: int, properties: Mapping[str, Any], own_id: str | None, at_ms: int) -> None:
        """Add the next event; `at_ms` is when it arrived."""
        if own_id is None or len(own_id) > _MAX_CHARS:
            return
        source = source_of(properties)
        device = properties.get("$device_id")
        url = properties.get("$current_url")
        page = url.partition("#")[0][:_MAX_CHARS] if isinstance(url, str) else None
        sighting = _Sighting(source=source, own_id=own_id, event_number=event_number, at_ms=at_ms, page=page)
        new = [
            self._add_source(each, source)
            for each in {own_id, DEVICE + device if isinstance(device, str) and device else own_id}
        ]
        if all(new):
            self._add_new_ids(sighting)
        browser, system = properties.get("$browser", ""), properties.get("$os", "")
        if page is not None and isinstance(browser, str) and isinstance(system, str):
            self._add_to_page(sighting, (page, browser[:_MAX_CHARS], system[:_MAX_CHARS]))

    def _add_to_page(self, sighting: _Sighting, key: tuple[str, str, str]) -> None:
        sightings = self._pages.setdefault(key, deque(maxlen=_MAX_SIGHTINGS))
        for earlier in sightings:
            if earlier.source != sighting.source and sighting.at_ms - earlier.at_ms <= TOGETHER_MS:
                self._suspect(sighting, earlier)
        sightings.append(sighting)
        if len(self._pages) > _MAX_PAGES:
            forget_first(self._pages)

    def _add_new_ids(self, sighting: _Sighting) -> None:
        self._new_ids.append(sighting)
        together = [each for each in self._new_ids if sighting.at_ms - each.at_ms <= NEW_TOGETHER_MS]
        sources = {each.source: each for each in together}
        if len(together) == 2 and len(sources) == 2:
            if sources["server"].page is None and sources["browser"].page is not None:
                self._suspect(*together)
            return
        # With more than one visitor it is unknown which IDs belong together.
        event_numbers = {each.event_number for each in together if each.page is None}
        for key in [key for key, pair in self._pairs.items() if pair.server_event in event_numbers]:
            del self._pairs[key]

    def two_ids(self) -> list[TwoIds]:
        """Return the visits whose IDs were seen from their own side only, newest last."""
        return [
            pair
            for pair in self._pairs.values()
            if self._sources_of(pair.browser_id) == {"browser"}
            and self._sources_of(pair.server_id) == {"server"}
        ]

    def _sources_of(self, own_id: str) -> set[Source]:
        return self._sources.get(hash(own_id), set())

    def _add_source(self, own_id: str, source: Source) -> bool:
        """Add a source of an ID; return whether the ID is new."""
        key = hash(own_id)
        sources = self._sources.get(key)
        if sources is not None:
            sources.add(source)
            return False
        self._sources[key] = {source}
        if len(self._sources) > MAX_IDS:
            forget_first(self._sources)
        return True

    def _suspect(self, first: _Sighting, second: _Sighting) -> None:
        browser, server = (first, second) if first.source == "browser" else (second, first)
        pair = (browser.own_id, server.own_id)
        if browser.own_id == server.own_id or pair in self._pairs:
            return
        if any(len(self._sources_of(each)) > 1 for each in pair):
            return
        self._pairs[pair] = TwoIds(
            browser_id=browser.own_id,
            server_id=server.own_id,
            page=browser.page or "",
            browser_event=browser.event_number,
            server_event=server.event_number,
        )
        if len(self._pairs) > MAX_PAIRS:
            self._pairs.popitem(last=False)
