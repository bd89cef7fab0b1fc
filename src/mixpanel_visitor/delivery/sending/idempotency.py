"""Idempotency: which records may be sent again when it is unknown whether Mixpanel has taken them.

Events have an `$insert_id`, and `$set` and its like may be applied repeatedly. `$add`, `$append` and
`$remove` may not, and Mixpanel's profile API has no key to deduplicate by.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mixpanel_visitor.records import Endpoint

MAX_ONCE = 50
"""Records that must not be repeated in one request: if its outcome is unknown, theirs is as well."""

_OPERATIONS = (b'"$add"', b'"$append"', b'"$remove"')


def is_repeatable(endpoint: Endpoint, body: bytes) -> bool:
    """Return whether a second delivery of this record would change nothing."""
    if endpoint == "import" or not any(operation in body for operation in _OPERATIONS):
        return True
    try:
        update = orjson.loads(body)
    except ValueError:
        return False
    return isinstance(update, dict) and update.keys().isdisjoint(("$add", "$append", "$remove"))


def runs(endpoint: Endpoint, bodies: Sequence[bytes]) -> Iterator[range]:
    """Divide a claim, in order, so that no run has both kinds, and at most `MAX_ONCE` not repeatable ones."""
    if endpoint == "import":
        yield range(len(bodies))
        return
    start = 0
    for repeatable, group in groupby(bodies, lambda body: is_repeatable(endpoint, body)):
        end = start + sum(1 for _ in group)
        step = end - start if repeatable else MAX_ONCE
        for first in range(start, end, step):
            yield range(first, min(first + step, end))
        start = end
