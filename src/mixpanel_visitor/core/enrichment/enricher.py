"""Enricher: the event properties of a request, with the names of mixpanel-browser.

The browser describes the page that it shows. So does this: a document's own address is `$current_url`, and
its Referer is `$referrer`; for requests that a page makes, the Referer is the page itself, and the page's own
referrer is not known here.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from mixpanel_visitor.core.events.encoding import encoded
from mixpanel_visitor.core.identity.mixpanel_browser import persisted
from mixpanel_visitor.core.policy import asks_for_page, is_prefetch
from mixpanel_visitor.hosts import hostname

from . import url_properties
from .user_agents import MAX_CHARS as USER_AGENT_MAX_CHARS
from .user_agents import properties_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from mixpanel_visitor.core.events.encoding import EncodedPart
    from mixpanel_visitor.core.events.redaction import Redactor
    from mixpanel_visitor.core.identity.mixpanel_browser import MixpanelBrowser
    from mixpanel_visitor.core.request import RequestFacts

    from .client_address import ClientAddresses

MAX_CHARS = 255
"""Mixpanel stores this many characters of a text, and mixpanel-browser cuts there."""

PERSISTED = ("$initial_referrer", "$initial_referring_domain", "$search_engine", "mp_keyword")
"""Properties of the first visit or the last search that the SDK stores and adds to every event."""


REMEMBERED = 1024
REMEMBERED_CHARS = 1024
"""How many clients, pages and SDK cookies are remembered with their properties, and how long ones."""


class Enricher:
    """Reads requests; `mixpanel` is None where the site's pages have another SDK, or none.

    Most requests share their browser, and their page, with others: the properties of each are remembered, in
    JSON.
    """

    def __init__(
        self, *, addresses: ClientAddresses, redactor: Redactor, mixpanel: MixpanelBrowser | None
    ) -> None:
        self._addresses = addresses
        self._is_secret = redactor.is_secret
        self._mixpanel = mixpanel
        self._client_part = lru_cache(REMEMBERED)(self._describe_client)
        self._persisted_part = lru_cache(REMEMBERED)(_describe_persisted)
        self._pages: dict[Hashable, tuple[EncodedPart, EncodedPart]] = {}

    def properties(self, facts: RequestFacts, *, is_new: bool, is_bot: bool) -> dict[str, Any]:
        """Return the event properties of a request; `is_new`: it is its visitor's first."""
        properties: dict[str, Any] = {}
        for part in self.parts(facts, is_new=is_new, is_bot=is_bot):
            properties.update(part.properties)
        return properties

    def parts(self, facts: RequestFacts, *, is_new: bool, is_bot: bool) -> list[EncodedPart]:
        """Return the same in parts; of two properties of one name the later one counts."""
        user_agent = facts.header("user-agent")[:USER_AGENT_MAX_CHARS]
        page, search = self._page_parts(facts, is_new=is_new)
        parts = [self._client_part(facts.client, user_agent, is_bot), page]
        if self._mixpanel is not None and (cookie := self._mixpanel.first_value(facts.cookies)):
            is_long = len(cookie) > REMEMBERED_CHARS
            parts.append((_describe_persisted if is_long else self._persisted_part)(cookie))
        if search.names:
            parts.append(search)
        return parts

    def _describe_client(self, client: str | None, user_agent: str, is_bot: bool) -> EncodedPart:
        properties: dict[str, Any] = {"ip": self._addresses.event_ip(client)}
        if user_agent:
            properties.update(properties_of(user_agent))
        if is_bot:
            properties["is_bot"] = True
        return encoded(properties)

    def _page_parts(self, facts: RequestFacts, *, is_new: bool) -> tuple[EncodedPart, EncodedPart]:
        key = (is_new, *facts.page_key())
        try:
            parts = self._pages.get(key)
        except TypeError:  # a server's own types
            return self._describe_page(facts, is_new=is_new)
        if parts is None:
            parts = self._describe_page(facts, is_new=is_new)
            if sum(len(text) for text in key if isinstance(text, (str, bytes))) <= REMEMBERED_CHARS:
                if len(self._pages) >= REMEMBERED:
                    self._pages.clear()
                self._pages[key] = parts
        return parts

    def _describe_page(self, facts: RequestFacts, *, is_new: bool) -> tuple[EncodedPart, EncodedPart]:
        """Return the properties of a page, and of the search that has led to it."""
        properties: dict[str, Any] = {}
        if is_prefetch(facts):
            properties["prefetched"] = True
        url, referrer = _page_and_referrer(facts)
        if url:
            properties["$current_url"] = self._without_secrets(url)[:MAX_CHARS]
            for parameters in (url_properties.campaign(url), url_properties.clicks(url)):
                if parameters:
                    properties.update(_cut_texts(parameters))
        if referrer is not None:
            clean = self._without_secrets(referrer)
            domain = url_properties.referring_domain(clean)[:MAX_CHARS]
            clean = clean[:MAX_CHARS]
            if clean:
                properties["$referrer"] = clean
            if domain:
                properties["$referring_domain"] = domain
            if is_new:
                properties["$initial_referrer"] = clean or url_properties.DIRECT
                properties["$initial_referring_domain"] = domain or url_properties.DIRECT
        search = url_properties.search_info(referrer) if referrer else {}
        return encoded(properties), encoded(_cut_texts(search))

    def first_touch(self, facts: RequestFacts) -> Mapping[str, Any]:
        """Return the `$set_once` properties of the profile of a new visitor who came by a campaign."""
        url, _ = _page_and_referrer(facts)
        touch = url_properties.first_touch(url) if url else {}
        return _cut_texts(touch)

    def page_view(self, facts: RequestFacts, route: str | None) -> dict[str, Any]:
        """Return the properties of the SDK's own page view, and the route's template as `route`."""
        search = self._without_secrets(f"?{facts.query}") if facts.query else ""
        properties = {
            "current_domain": hostname(facts.host),
            "current_url_path": facts.path,
            "current_url_protocol": f"{facts.scheme}:",
            "current_url_search": search,
            "route": route,
        }
        return _cut_texts({name: value for name, value in properties.items() if value})

    def _without_secrets(self, url: str) -> str:
        return url_properties.without_secrets(url[: url_properties.MAX_CHARS], self._is_secret)


def _page_and_referrer(facts: RequestFacts) -> tuple[str, str | None]:
    """Return the page's address, and that of the page before it; `""` and None: not known."""
    if facts.protocol == "websocket":
        return "", None
    page = f"{facts.scheme}://{facts.host}{facts.path}{'?' if facts.query else ''}{facts.query}"
    page, referrer = page[: url_properties.MAX_CHARS], facts.header("referer")[: url_properties.MAX_CHARS]
    if asks_for_page(facts) or not (facts.destination or _is_same_host(referrer, facts)):
        return page, referrer
    # Fetched by a page: its own address is the Referer, whole if the page is of this site.
    return (referrer if _is_same_host(referrer, facts) else ""), None


def _describe_persisted(cookie: str) -> EncodedPart:
    return encoded(_cut_texts(persisted(cookie, PERSISTED)))


def _is_same_host(referrer: str, facts: RequestFacts) -> bool:
    return url_properties.referring_domain(referrer).lower() == facts.host.lower()


def _cut_texts(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value[:MAX_CHARS] if isinstance(value, str) else value for name, value in properties.items()
    }
