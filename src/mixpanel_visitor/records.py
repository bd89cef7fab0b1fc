"""Record: the only thing that crosses from the core to delivery."""

from __future__ import annotations

from typing import Literal, NamedTuple

Endpoint = Literal["import", "engage", "groups"]
"""Where Mixpanel takes it: events (`/import`), people profiles (`/engage`), group profiles (`/groups`)."""

ENDPOINTS: tuple[Endpoint, ...] = ("import", "engage", "groups")


class Record(NamedTuple):
    """An event or a profile update in its final bytes, addressed to an endpoint.

    `body` is one JSON object in UTF-8 without any newline byte: what leaves for Mixpanel is these bytes
    and no others, so that every delivery of a record is identical and Mixpanel can deduplicate it.
    """

    endpoint: Endpoint
    body: bytes
