"""Store: what has arrived, as Mixpanel would count it.

Thread-safe. Events are deduplicated by (event, time, distinct_id, $insert_id) in each project. The last
`max_events` are kept with their content, at most `max_bytes` of them; everything is counted. The person of an
event (`people`) is computed from all events as they first arrived; a duplicate joins no IDs.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, OrderedDict, deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson

from .eviction import forget_first, last_of
from .model import Profile, ProfileChange
from .profiles import applied
from .projects import Projects
from .stored_event import MutableEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .event_log import EventLog
    from .model import Arrival, Person, Rejection, StoredEvent
    from .people import IdMerge
    from .profiles import ProfileEndpoint, Update
    from .projects import Project
    from .rules import Event, EventEndpoint
    from .split_identities import TwoIds

logger = logging.getLogger(__name__)

MAX_REJECTIONS = 1_000
MAX_KEYS = 1_000_000
"""Duplicates of this many last events are found, or of a tenth less; about 200 bytes each."""
MAX_PATHS = 100
MAX_BYTES = 128 * 1024 * 1024
"""The bound for events; profiles have half of it. Any page that a developer visits can send some."""


def wall_clock_ms() -> int:
    """Return the time in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class Store:
    """Everything one local Mixpanel has received; `now_ms` is its wall clock, `id_merge` its project's.

    With an `event_log` it starts with the arrivals in that log, and writes each new one to it.
    """

    def __init__(
        self,
        *,
        max_events: int = 50_000,
        max_bytes: int = MAX_BYTES,
        now_ms: Callable[[], int] = wall_clock_ms,
        id_merge: IdMerge = "simplified",
        event_log: EventLog | None = None,
    ) -> None:
        if max_events < 1:
            raise ValueError(f"max_events must be at least 1, not {max_events}")
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._id_merge: IdMerge = id_merge
        self._now_ms = now_ms
        self._lock = threading.Lock()
        self._arrived = threading.Condition()
        self._epoch = 0
        self._listeners: tuple[Callable[[Sequence[Arrival]], None], ...] = ()
        self._event_log: EventLog | None = None
        self.reset()
        if event_log is not None:
            event_log.replay(self)
            self._event_log = event_log
            self.subscribe(event_log.write)

    def reset(self) -> None:
        """Forget everything and count from zero again; listeners stay."""
        with self._lock:
            self._epoch += 1
            self._counts: Counter[str] = Counter()
            self._inserted = 0
            self._last_arrival_ms: int | None = None
            self._requests: dict[str, Counter[int]] = {}
            self._events: deque[MutableEvent] = deque()
            self._event_bytes = 0
            # Keyed by the hash of the key: 64 bits, so that among a million events a false duplicate has
            # a chance of one in thirty million, at a third of the memory.
            self._seen: dict[int, MutableEvent] = {}
            self._rejections: deque[Rejection] = deque(maxlen=MAX_REJECTIONS)
            self._profiles: OrderedDict[tuple[str, str, Any], Profile] = OrderedDict()
            self._profile_sizes: dict[tuple[str, str, Any], int] = {}
            self._profile_bytes = 0
            self._projects = Projects(self._id_merge)
        if self._event_log is not None:
            self._event_log.clear()

    @property
    def id_merge(self) -> IdMerge:
        """How the project merges IDs."""
        return self._id_merge

    @property
    def epoch(self) -> int:
        """Increases with each reset, which makes earlier event numbers invalid."""
        return self._epoch

    def subscribe(self, listener: Callable[[Sequence[Arrival]], None]) -> Callable[[], None]:
        """Call `listener` with each request's arrivals, in its thread; return what unsubscribes it."""
        with self._lock:
            self._listeners = (*self._listeners, listener)

        def unsubscribe() -> None:
            with self._lock:
                self._listeners = tuple(each for each in self._listeners if each is not listener)

        return unsubscribe

    def add_events(
        self,
        endpoint: EventEndpoint,
        events: Sequence[Event],
        properties: Sequence[dict[str, Any]] | None = None,
        *,
        token: str = "",
        at_ms: int | None = None,
    ) -> None:
        """Add accepted events, in order; `properties` are their decoded properties, if the caller has them.

        `token` is the project of events that name none; `at_ms` is when they arrived, by default now.
        """
        if properties is None:
            properties = [orjson.loads(event.properties) for event in events]
        tokens = [_text(own_properties.get("token")) or token for own_properties in properties]
        keys = [_dedup_key(event, own_token) for event, own_token in zip(events, tokens, strict=True)]
        digests = [hash(event.properties) for event in events]
        listening = bool(self._listeners)
        arrivals: list[Arrival] = []
        with self._lock:
            now_ms = self._now_ms() if at_ms is None else at_ms
            project_of = self._projects.of
            for event, key, digest, own_properties, own_token in zip(
                events, keys, digests, properties, tokens, strict=True
            ):
                entry = self._seen.get(key) if key is not None else None
                if entry is None:
                    project = project_of(own_token)
                    entry = self._insert(endpoint, event, key, digest, now_ms, project)
                    entry.own_id, entry.failure = project.people.record_event(
                        event.name, own_properties, endpoint
                    )
                    project.visits.add(entry.number, own_properties, entry.own_id, now_ms)
                else:
                    self._repeat(entry, event, digest)
                if listening:
                    arrivals.append(entry.stored(event))
            self._counts["received"] += len(events)
            self._last_arrival_ms = now_ms
        with self._arrived:
            self._arrived.notify_all()
        self._notify(arrivals)

    def add_updates(
        self, endpoint: ProfileEndpoint, updates: Sequence[Update], *, at_ms: int | None = None
    ) -> None:
        """Apply accepted profile updates, in order; `at_ms` as in `add_events`."""
        arrivals: list[Arrival] = []
        with self._lock:
            now_ms = self._now_ms() if at_ms is None else at_ms
            for update in updates:
                self._apply(update, now_ms)
                arrivals.append(ProfileChange(endpoint=endpoint, update=update, received_at_ms=now_ms))
            self._counts["profile_updates" if endpoint == "engage" else "groups"] += len(updates)
            self._last_arrival_ms = now_ms
        with self._arrived:
            self._arrived.notify_all()
        self._notify(arrivals)

    def reject(self, rejections: Sequence[Rejection]) -> None:
        """Add refusals; only refused records are counted in `rejected`, not refused requests."""
        with self._lock:
            self._rejections.extend(rejections)
            self._counts["refusals"] += len(rejections)
            self._counts["rejected"] += sum(rejection.index is not None for rejection in rejections)
        self._notify(rejections)

    def count_request(self, path: str, status: int) -> None:
        """Count an answered request; beyond `MAX_PATHS` paths the rest is counted as one."""
        with self._lock:
            if path not in self._requests and len(self._requests) >= MAX_PATHS:
                path = "(other)"
            self._requests.setdefault(path, Counter())[status] += 1

    def stats(self) -> dict[str, Any]:
        """Return the counters since the start or the last reset.

        `received` == `unique` + `duplicates`; `altered` are duplicates with other properties than before;
        `rejected` are refused records and `refusals` those and refused requests; `profile_updates` and
        `groups` are applied updates of people and of groups; `retained` events can be listed; `requests` is
        {path: {status: how many}}, of the ingestion endpoints and of paths that do not exist.
        """
        with self._lock:
            counts = self._counts
            return {
                "received": counts["received"],
                "unique": counts["received"] - counts["duplicates"],
                "duplicates": counts["duplicates"],
                "altered": counts["altered"],
                "rejected": counts["rejected"],
                "refusals": counts["refusals"],
                "profile_updates": counts["profile_updates"],
                "groups": counts["groups"],
                "retained": len(self._events),
                "last_arrival_ms": self._last_arrival_ms,
                "requests": {
                    path: {str(status): count for status, count in statuses.items()}
                    for path, statuses in self._requests.items()
                },
            }

    def events(
        self,
        *,
        limit: int | None = None,
        event: str | None = None,
        distinct_id: str | None = None,
        person: str | None = None,
        token: str | None = None,
        search: str | None = None,
        since_ms: int | None = None,
        after: int | None = None,
    ) -> list[StoredEvent]:
        """Return the retained unique events that match, newest last.

        `person` is compared within each project, `token` names one; `since_ms` is compared with the arrival,
        `after` with the number; `search` is text in name or properties, without regard to case.
        """
        text = search.lower().encode() if search else None
        matching: list[StoredEvent] = []
        with self._lock:
            for entry in reversed(self._events):
                if limit is not None and len(matching) >= limit:
                    break
                if after is not None and entry.number <= after:
                    break
                if (
                    entry.event is not None
                    and (event is None or entry.event.name == event)
                    and (distinct_id is None or entry.event.distinct_id == distinct_id)
                    and (
                        person is None
                        or (
                            entry.own_id is not None
                            and entry.project.people.canonical_id(entry.own_id) == person
                        )
                    )
                    and (token is None or entry.project.token == token)
                    and (text is None or text in (entry.event.name.encode() + entry.event.properties).lower())
                    and (since_ms is None or entry.received_at_ms >= since_ms)
                ):
                    matching.append(entry.stored(entry.event))
        matching.reverse()
        return matching

    def two_ids(self) -> list[TwoIds]:
        """Return visits with two IDs, of browser and server, that no merge has joined, newest last."""
        with self._lock:
            matching = [
                replace(pair, token=project.token)
                for project in self._projects
                for pair in project.visits.two_ids()
                if project.people.canonical_id(pair.browser_id) != project.people.canonical_id(pair.server_id)
            ]
        return sorted(matching, key=lambda pair: max(pair.browser_event, pair.server_event))

    def wait_for(self, satisfied: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until arrivals make `satisfied()` true; return False if it is not after `timeout_s`."""
        with self._arrived:
            return self._arrived.wait_for(satisfied, timeout_s)

    def people(self, *, limit: int | None = None) -> list[Person]:
        """Return the persons of the retained unique events; the one seen last is last."""
        with self._lock:
            own_ids: dict[str, list[str | None]] = {}
            last: dict[tuple[str, str], int] = {}
            for entry in self._events:
                own_ids.setdefault(entry.project.token, []).append(entry.own_id)
                if entry.own_id is not None:
                    last[entry.project.token, entry.project.people.canonical_id(entry.own_id)] = entry.number
            matching = [
                replace(person, token=project.token)
                for project in self._projects
                for person in project.people.persons(own_ids.get(project.token, ()))
            ]
        return last_of(sorted(matching, key=lambda person: last[person.token, person.person]), limit)

    def profiles(self, *, limit: int | None = None) -> list[Profile]:
        """Return people's profiles; the one updated last is last."""
        return self._listed(limit, groups=False)

    def groups(self, *, limit: int | None = None) -> list[Profile]:
        """Return groups' profiles; the one updated last is last."""
        return self._listed(limit, groups=True)

    def rejections(self, *, limit: int | None = None) -> list[Rejection]:
        """Return the last refused records and requests, newest last."""
        with self._lock:
            return last_of(self._rejections, limit)

    def now_ms(self) -> int:
        """The store's wall clock."""
        return self._now_ms()

    def _insert(
        self,
        endpoint: EventEndpoint,
        event: Event,
        key: int | None,
        digest: int,
        now_ms: int,
        project: Project,
    ) -> MutableEvent:
        self._inserted += 1
        entry = MutableEvent(self._inserted, endpoint, event, digest, now_ms, project)
        self._events.append(entry)
        self._event_bytes += _size(event)
        while len(self._events) > self._max_events or self._event_bytes > self._max_bytes:
            self._evict_oldest()
        if key is not None:
            self._seen[key] = entry
            if len(self._seen) > MAX_KEYS:
                forget_first(self._seen)
        return entry

    def _evict_oldest(self) -> None:
        oldest = self._events.popleft()
        if oldest.event is not None:
            self._event_bytes -= _size(oldest.event)
        oldest.evict()

    def _repeat(self, entry: MutableEvent, event: Event, digest: int) -> None:
        self._counts["duplicates"] += 1
        entry.deliveries += 1
        if entry.digest != digest:
            self._counts["altered"] += 1
            entry.altered = True
            entry.digest = digest
            if entry.event is not None:
                self._event_bytes += _size(event) - _size(entry.event)
                entry.event = event  # "only the latest ingested one will be considered in queries"

    def _apply(self, update: Update, now_ms: int) -> None:
        key = (update.token, update.group_key, update.profile_id)
        before = self._profiles.pop(key, None)
        self._profile_bytes -= self._profile_sizes.pop(key, 0)
        if update.operation == "$delete":
            return
        self._profiles[key] = Profile(
            token=update.token,
            group_key=update.group_key,
            profile_id=update.profile_id,
            properties=applied(before.properties if before else {}, update.operation, update.operand),
            updates=before.updates + 1 if before else 1,
            updated_at_ms=now_ms,
        )
        self._profile_sizes[key] = size = len(orjson.dumps(self._profiles[key].properties))
        self._profile_bytes += size
        while len(self._profiles) > self._max_events or self._profile_bytes > self._max_bytes // 2:
            oldest, _ = self._profiles.popitem(last=False)
            self._profile_bytes -= self._profile_sizes.pop(oldest)

    def _listed(self, limit: int | None, *, groups: bool) -> list[Profile]:
        with self._lock:
            return last_of(
                [each for each in self._profiles.values() if bool(each.group_key) == groups], limit
            )

    def _notify(self, arrivals: Sequence[Arrival]) -> None:
        if not arrivals:
            return
        for listener in self._listeners:
            try:
                listener(arrivals)
            except Exception:
                logger.exception("A listener of the local Mixpanel failed")


def _dedup_key(event: Event, token: str) -> int | None:
    if event.insert_id is None:
        return None
    return hash((event.name, event.time_ms, event.distinct_id, event.insert_id, token))


def _size(event: Event) -> int:
    return len(event.properties) + len(event.name)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
