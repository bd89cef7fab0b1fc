"""ID merges: Mixpanel's three ways to join IDs, one class for each; `people` chooses.

Sources: the pages "Identifying Users (Simplified)" with its former FAQ on `$identity_failure_reason`,
"Identifying Users (Original)", "Migrating to Simplified ID Merge", "Identity Management FAQ", "Server-side
events with no logged-in user", "Create Identity", "Create Alias" and "Merge Identities"; the developer
page "Identity Management" of 2021, which lists the failure reasons; `legacy/aliases.md`; the release notes
of mixpanel-browser 2.46.0. An ID is a string that is not empty; of any other type it is none (not
documented). IDs are compared as they are, upper and lower case being different.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from .eviction import forget_first
from .rules import IDENTITY_EVENTS
from .union_find import UnionFind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .rules import EventEndpoint

DEVICE = "$device:"
MAX_PAIR_CHARS = 2_000
"""Two IDs that are longer together are not joined, so that they cannot fill the memory."""
MAX_CLUSTER = 500
"""The most IDs of one person under Original ID Merge."""

SAME_IDS = "errSameIDs"
NOT_A_UUID = "errAnonDistinctIdNonGUIDForm"
ASSIGNED_ALREADY = "errAnonDistinctIdAssignedAlready"
MANY_IDS = "errManyIDs"
ALIAS_EXISTS = "errAliasAlreadyExists"

_UUID4 = re.compile(r"[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-4[0-9A-Fa-f]{3}-[89ABab][0-9A-Fa-f]{3}-[0-9A-Fa-f]{12}")


class Simplified:
    """Simplified ID Merge: an event with `$device_id` and `$user_id` joins that device to that user.

    The user is the person; users never merge, and a device stays with its first user: an event with another
    user counts for that one, and joins nothing, with a reason. `distinct_id` counts only where both
    properties are missing. `$identify`, `$create_alias` and `$merge` join nothing, not even
    by these two properties ("they will be ignored", "send at least one event after the `.identify()` call").

    Not documented: a `$user_id` that begins with `$device:`. The browser SDK refuses one; here it is not a
    user, so nothing is joined to it.
    """

    def __init__(self, max_ids: int) -> None:
        self._max_ids = max_ids
        self._users: dict[str, str] = {}

    def record_event(
        self, name: str, properties: dict[str, Any], _endpoint: EventEndpoint = "import", /
    ) -> tuple[str | None, str | None]:
        """See `People.record_event`."""
        user, device = properties.get("$user_id"), properties.get("$device_id")
        if user and isinstance(user, str):
            if not device or not isinstance(device, str) or self._users.get(device) == user:
                return user, None
            return user, None if name in IDENTITY_EVENTS else self._join(device, user)
        if device and isinstance(device, str):
            return DEVICE + device, None
        distinct_id = properties.get("distinct_id")
        return distinct_id if distinct_id and isinstance(distinct_id, str) else None, None

    def canonical_id(self, own_id: str) -> str:
        """See `People.canonical_id`."""
        return self._users.get(own_id.removeprefix(DEVICE), own_id) if own_id.startswith(DEVICE) else own_id

    def joined(self) -> Iterator[tuple[str, str]]:
        """Return each joined device with its user."""
        return ((DEVICE + device, user) for device, user in self._users.items())

    def _join(self, device: str, user: str) -> str | None:
        if device in self._users:
            return ASSIGNED_ALREADY
        if not user.startswith(DEVICE):
            _remember(self._users, device, user, self._max_ids)
        return None


class Original:
    """Original ID Merge: `$identify`, `$create_alias` and `$merge` join IDs to clusters of at most 500.

    `$identify` takes an anonymous ID that is a UUIDv4 and that no `$identify` has given to another user;
    `$create_alias` takes an alias that is not one of another distinct ID; `$merge` takes any two IDs, but
    through `/import` only. `$device_id` and `$user_id` join nothing.

    Of the prefix `$device:` is documented that the SDKs put it before the `distinct_id` of anonymous events
    and that `$identify` takes UUIDs with it, while the pages speak of the device ID without it. Assumed:
    `$identify` means the anonymous ID in both spellings, whichever it names, and they count as one of the
    500. Not assumed: that they are one without an `$identify`.
    """

    def __init__(self, max_ids: int) -> None:
        self._max_ids = max_ids
        self._clusters = UnionFind(max_ids=max_ids, max_size=MAX_CLUSTER)
        self._identified: dict[str, str] = {}
        self._aliases: dict[str, str] = {}

    def record_event(
        self, name: str, properties: dict[str, Any], endpoint: EventEndpoint = "import", /
    ) -> tuple[str | None, str | None]:
        """See `People.record_event`."""
        own_id = _text(properties.get("distinct_id"))
        if name not in IDENTITY_EVENTS:
            return own_id, None
        match name:
            case "$identify":
                user, anon = _identify_ids(properties)
                return own_id or user, self._identify(user, anon) if user and anon else None
            case "$create_alias":
                alias = _text(properties.get("alias"))
                return own_id, self._alias(own_id, alias) if own_id and alias else None
            case "$merge" if endpoint == "import":
                first, second = _merge_ids(properties)
                return own_id, self._join(first, second) if first and second else None
        return own_id, None

    def canonical_id(self, own_id: str) -> str:
        """See `People.canonical_id`."""
        return self._clusters.canonical_id(own_id)

    def joined(self) -> Iterator[tuple[str, str]]:
        """Each ID in a cluster, with its person."""
        return self._clusters.members()

    def _identify(self, user: str, anon: str) -> str | None:
        bare = anon.removeprefix(DEVICE)
        if user.removeprefix(DEVICE) == bare:
            return SAME_IDS
        if not _UUID4.fullmatch(bare):
            return NOT_A_UUID
        if self._identified.get(bare, user) != user:
            return ASSIGNED_ALREADY
        failure = self._join(user, anon, spelling=bare if anon != bare else DEVICE + bare)
        if failure is None:
            _remember(self._identified, bare, user, self._max_ids)
        return failure

    def _alias(self, distinct_id: str, alias: str) -> str | None:
        if self._aliases.get(alias, distinct_id) != distinct_id:
            return ALIAS_EXISTS
        failure = self._join(distinct_id, alias)
        if failure is None:
            _remember(self._aliases, alias, distinct_id, self._max_ids)
        return failure

    def _join(self, first: str, second: str, *, spelling: str | None = None) -> str | None:
        if len(first) + len(second) > MAX_PAIR_CHARS:
            return None
        return None if self._clusters.join(first, second, spelling=spelling) else MANY_IDS


class Legacy:
    """No ID merge: `$create_alias` maps the alias to a distinct ID, for what comes later.

    The mapping is made as an event comes in and is not retroactive: what came under the alias before stays
    a person of its own. An alias maps once, aliases may be chained, and `$identify` and `$merge` do nothing.
    Not documented: the name of the reason why an alias is refused, taken from Original ID Merge.
    """

    def __init__(self, max_ids: int) -> None:
        self._max_ids = max_ids
        self._targets: dict[str, str] = {}

    def record_event(
        self, name: str, properties: dict[str, Any], _endpoint: EventEndpoint = "import", /
    ) -> tuple[str | None, str | None]:
        """See `People.record_event`."""
        own_id = _text(properties.get("distinct_id"))
        if own_id in self._targets:
            own_id = self._target(own_id)
        if name != "$create_alias":
            return own_id, None
        alias = _text(properties.get("alias"))
        return own_id, self._map(alias, own_id) if alias and own_id else None

    def canonical_id(self, own_id: str) -> str:
        """See `People.canonical_id`."""
        return own_id

    def joined(self) -> Iterator[tuple[str, str]]:
        """Each alias, with what it is mapped to."""
        return ((alias, self._target(alias)) for alias in list(self._targets))

    def _map(self, alias: str, target: str) -> str | None:
        if alias in self._targets:
            return None if self._target(alias) == target else ALIAS_EXISTS
        if alias != target:  # else a circle
            _remember(self._targets, alias, target, self._max_ids)
        return None

    def _target(self, distinct_id: str) -> str:
        passed = []
        target = distinct_id
        while (further := self._targets.get(target)) is not None:
            passed.append(target)
            target = further
        for alias in passed[:-1]:  # a long chain is walked once
            self._targets[alias] = target
        return target


def _identify_ids(properties: dict[str, Any]) -> tuple[str | None, str | None]:
    """The user's and the anonymous ID of an `$identify`, as the browser SDK or as a server spells it."""
    if "$anon_distinct_id" in properties:
        user, anon = properties.get("distinct_id"), properties["$anon_distinct_id"]
    else:
        user, anon = properties.get("$identified_id"), properties.get("$anon_id")
    return _text(user), _text(anon)


def _merge_ids(properties: dict[str, Any]) -> tuple[str | None, str | None]:
    pair = properties.get("$distinct_ids")
    if not isinstance(pair, list) or len(pair) != 2:
        return None, None
    return _text(pair[0]), _text(pair[1])


def _text(value: Any) -> str | None:
    return value if value and isinstance(value, str) else None


def _remember(table: dict[str, str], key: str, value: str, limit: int) -> None:
    if len(key) + len(value) > MAX_PAIR_CHARS:
        return
    table[key] = value
    if len(table) > limit:
        forget_first(table)
