"""Page views that the server sends in the browser's place: which requests and responses are some."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mixpanel_visitor.core.policy import is_document
from mixpanel_visitor.core.request import response_header

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mixpanel_visitor.core.request import RequestFacts

EVENT = "$mp_web_page_view"
"""The name under which mixpanel-browser's `track_pageview` sends them."""

_PAGES = ("text/html", "application/xhtml+xml")


class PageViews:
    """Page views: successful HTML responses to GET requests, at the paths that `patterns` select.

    A pattern is a path in which `*` stands for anything; with `!` before it, it excludes. If there is none
    that includes, it selects all paths that none excludes.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self._included = _any_of([pattern for pattern in patterns if not pattern.startswith("!")] or ["*"])
        self._excluded = _any_of([pattern[1:] for pattern in patterns if pattern.startswith("!")])

    def may_come(self, facts: RequestFacts) -> bool:
        """Return whether the response to this request may be a page view."""
        return (
            facts.method == "GET"
            and facts.protocol == "http"
            and self._included.fullmatch(facts.path) is not None
            and self._excluded.fullmatch(facts.path) is None
            and is_document(facts)
        )


def is_page(status: int, headers: Sequence[tuple[str, str]]) -> bool:
    """Return whether a response is a page that is shown; 304 (not modified) is."""
    if status == 304:
        return True
    content_type = response_header(headers, "content-type") or ""
    return 200 <= status < 300 and content_type.partition(";")[0].strip().lower() in _PAGES


def _any_of(patterns: Sequence[str]) -> re.Pattern[str]:
    if not patterns:
        return re.compile(r"(?!)")
    return re.compile("|".join(".*".join(map(re.escape, pattern.split("*"))) for pattern in patterns))
