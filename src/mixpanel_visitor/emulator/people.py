"""People: which events belong to one person, under the merge rules that Mixpanel publishes.

Pure: names and properties in, IDs out. As `rules`, it is written from Mixpanel's documentation and shares
nothing with `core`: it is the judge of what the core sends. What the documentation leaves open is read
strictly, so that one person here is one person there, and is said in `id_merges`, where the rules are.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from .id_merges import Legacy, Original, Simplified
from .model import Person

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .rules import EventEndpoint

IdMerge = Literal["simplified", "original", "legacy"]
"""How a project merges IDs: its setting "Identity Merge" says Simplified API, Original API or disabled."""

ID_MERGES: tuple[IdMerge, ...] = get_args(IdMerge)

MAX_IDS = 250_000
"""The most joined IDs that are remembered, about 250 bytes each; the oldest are dropped first."""

_RULES: dict[IdMerge, type[Simplified | Original | Legacy]] = {
    "simplified": Simplified,
    "original": Original,
    "legacy": Legacy,
}


class RecordEvent(Protocol):
    """The type of `People.record_event`."""

    def __call__(
        self, name: str, properties: dict[str, Any], endpoint: EventEndpoint = "import", /
    ) -> tuple[str | None, str | None]:
        """Return the event's own ID, and why it joined nothing."""
        ...


class People:
    """The people of one project; raise ValueError for an unknown `id_merge`. Not thread-safe.

    >>> people = People("simplified")
    >>> people.record_event("Viewed", {"$device_id": "D"})
    ('$device:D', None)
    >>> people.record_event("Signed up", {"$device_id": "D", "$user_id": "user-42"})
    ('user-42', None)
    >>> people.canonical_id("$device:D")
    'user-42'
    """

    record_event: RecordEvent
    """Record the next accepted event that is not a duplicate; return its own ID, and why it joined nothing.

    Its own ID is the distinct ID that Mixpanel stores with it before any merge; None: it has no person
    (an empty `distinct_id`; one that is missing becomes a hash of the sender's address there). The reason is
    Mixpanel's `$failure_reason` or `$identity_failure_reason`, or None.
    """

    canonical_id: Callable[[str], str]
    """Return the current canonical distinct ID for an event's own ID.

    Under Original ID Merge any ID of the person may be the canonical one: compare two, do not expect one.
    """

    def __init__(self, id_merge: IdMerge = "simplified", *, max_ids: int = MAX_IDS) -> None:
        if id_merge not in ID_MERGES:
            known = ", ".join(map(repr, ID_MERGES))
            raise ValueError(f"id_merge must be one of {known}, not {id_merge!r}")
        self.id_merge: IdMerge = id_merge
        self._rules = _RULES[id_merge](max_ids)
        # Bound, not wrapped in methods: each event calls them.
        self.record_event = self._rules.record_event
        self.canonical_id = self._rules.canonical_id

    def persons(self, own_ids: Iterable[str | None]) -> list[Person]:
        """Return the persons of events with these own IDs, in this order; the one seen last is last."""
        counts: OrderedDict[str, Counter[str]] = OrderedDict()
        for own_id in own_ids:
            if own_id is not None:
                person = self.canonical_id(own_id)
                counts.setdefault(person, Counter())[own_id] += 1
                counts.move_to_end(person)
        ids = {person: dict.fromkeys(events) for person, events in counts.items()}
        for known_id, person in self._rules.joined():
            if person in ids:
                ids[person][known_id] = None
        return [
            Person(person=person, ids=tuple(ids[person]), events=events.total())
            for person, events in counts.items()
        ]
