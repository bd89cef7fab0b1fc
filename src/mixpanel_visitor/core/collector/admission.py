"""Admission: which requests to the collector are read at all; decided before their bodies are read.

The SDK sends from the site's own pages and to their own origin, so that no other origin has to be allowed. A
beacon needs no preflight, so the origin of a request keeps other sites out, not its content type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mixpanel_visitor.core.policy import is_same_origin
from mixpanel_visitor.core.request import content_length

if TYPE_CHECKING:
    from mixpanel_visitor.core.request import RequestFacts

    from .routes import Route

MAX_BODY_BYTES = 2**20
"""The SDK sends at most 50 events of some 0.7 KB at once, and halves a larger body after a 413."""

MAX_REPORT_BYTES = 65_536
"""The largest body that is passed on to Mixpanel: it contains a few IDs."""

METHODS: dict[Route, tuple[str, ...]] = {
    "track": ("POST",),
    "engage": ("POST",),
    "groups": ("POST",),
    "record": ("POST",),
    "flags": ("GET", "POST"),
    "settings": ("GET",),
}
"""With GET events would be in addresses, which every proxy logs."""


class CollectorError(ValueError):
    """A request that is refused: the HTTP `status` of the response, and the note it is counted under."""

    def __init__(self, status: int, note: str, message: str) -> None:
        self.status = status
        self.note = note
        super().__init__(message)


def too_large(message: str) -> CollectorError:
    """Return the refusal of a body that is too large; the SDK sends it in halves then."""
    return CollectorError(413, "collector_too_large", message)


def check(route: Route, facts: RequestFacts) -> None:
    """Check a request's head; raise `CollectorError` if its body need not be read."""
    if facts.method not in METHODS[route]:
        allowed = " or ".join(METHODS[route])
        raise CollectorError(405, "collector_method", f"the browser SDK sends this with {allowed}")
    if route == "record":
        message = "session recordings are not taken here: let the proxy pass them on"
        raise CollectorError(404, "collector_record", message)
    if not is_same_origin(facts, or_referer=True):
        raise CollectorError(403, "collector_cross_site", "only this site's own pages may send events here")
    try:
        length_bytes = content_length(facts)
    except ValueError as error:
        raise CollectorError(400, "collector_malformed", str(error)) from None
    max_bytes = MAX_REPORT_BYTES if route == "flags" else MAX_BODY_BYTES
    if length_bytes is not None and length_bytes > max_bytes:
        raise too_large(f"the body may have {max_bytes:,} bytes")
