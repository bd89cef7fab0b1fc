"""Idempotency: which records may be sent again when nobody knows whether Mixpanel has taken them.

Events carry an `$insert_id`, and `$set` and its like come to the same however often they are applied. What
adds, appends or removes does not, and Mixpanel's profile API knows no key to deduplicate by.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mixpanel_visitor.records import Endpoint

MAX_ONCE = 50
"""So many of them go into one request: where its outcome is unknown, all of them are in doubt."""

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
    """Cut a claim, in its order, so that no request holds both kinds, and few of those that go out once."""
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
