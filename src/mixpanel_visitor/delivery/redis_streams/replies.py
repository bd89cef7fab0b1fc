"""Replies: reads what the Redis client returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def entries_of(reply: Any) -> list[tuple[bytes, Mapping[bytes, bytes]]]:
    """Return the entries of a reply to XREADGROUP for one stream, which is a list, or a map with RESP3."""
    if not reply:
        return []
    if isinstance(reply, dict):
        (entries,) = reply.values()
        # RESP3 has one more list around them.
        return entries[0] if entries and isinstance(entries[0], list) else entries
    ((_, entries),) = reply
    return list(entries)


def hmget(client: Any, *, key: str, fields: Sequence[bytes]) -> list[bytes | None]:
    """Ask for several fields of a hash."""
    reply: list[bytes | None] = client.hmget(key, fields)
    return reply


def parse_indexes(text: bytes | None) -> frozenset[int]:
    """Return the indexes that `Streams.note_settled` has written."""
    return frozenset(int(each) for each in (text or b"").split(b",") if each.isdigit())
