"""JSON API: what has arrived, as JSON under `/_local/`."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from .advice import fix_of
from .http import Reply, Request, json_reply
from .model import Rejection
from .payload import PayloadError
from .split_identities import source_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .chaos import Chaos
    from .model import Profile, ProfileChange, StoredEvent
    from .split_identities import TwoIds
    from .store import Store

MAX_MESSAGE_CHARS = 1_000
MAX_WAIT_S = 60
MAX_WAITING = 32

TWO_IDS_FIX = (
    "Browser and server each made an ID of their own, so Mixpanel counts two people. Wrap the application "
    "with VisitorMiddleware (MixpanelVisitor in Flask), give both the same project token, and track with "
    "request.state.visitor or current_visitor instead of an ID of your own. If mixpanel-browser keeps its ID "
    "in localStorage, put visitor_script() before it."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The JSON endpoints of one store; each lists the newest last and takes `limit`."""

    store: Store
    chaos: Chaos
    _waiting: threading.BoundedSemaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(MAX_WAITING)
    )

    def events(self, request: Request) -> Reply:
        """`GET /_local/events`: the unique events that are kept.

        The filters `?limit=&event=&distinct_id=&person=&token=&search=&since=&after=` must all match.
        `since` is in milliseconds and inclusive, `after` an event's number and exclusive; `search` is text
        anywhere in the event. With `wait=` (seconds, at most 60) and `count=` the response comes once `count`
        events match, or when the time is over, or at once while `MAX_WAITING` other requests wait.
        """
        query = request.query
        count, wait_s = _whole_number(query, "count"), _whole_number(query, "wait")
        if wait_s and self._waiting.acquire(blocking=False):
            minimum = 1 if count is None else count
            try:
                self.store.wait_for(lambda: len(self._matching(query)) >= minimum, min(wait_s, MAX_WAIT_S))
            finally:
                self._waiting.release()
        return json_reply({"events": [event_json(each) for each in self._matching(query)]})

    def count(self, request: Request) -> Reply:
        """`GET /_local/count`: how many events match, asked as `/_local/events`."""
        return json_reply({"count": len(self._matching(request.query))})

    def chaos_rates(self, request: Request) -> Reply:
        """`/_local/chaos`: GET returns the shares of failing requests, POST sets them: `{"429": 0.1}`."""
        if request.method == "POST":
            try:
                rates = orjson.loads(request.body)
                self.chaos.set(rates if isinstance(rates, dict) else {"": rates})
            except ValueError as error:
                raise PayloadError(400, str(error)) from None
        return json_reply(self.chaos.rates)

    def two_ids(self, _request: Request) -> Reply:
        """`GET /_local/two-ids`: visits that browser and server sent under an ID each."""
        return json_reply({"two_ids": [two_ids_json(each) for each in self.store.two_ids()]})

    def _matching(self, query: Mapping[str, str]) -> list[StoredEvent]:
        return self.store.events(
            limit=_whole_number(query, "limit"),
            event=query.get("event"),
            distinct_id=query.get("distinct_id"),
            person=query.get("person"),
            token=query.get("token"),
            search=query.get("search"),
            since_ms=_whole_number(query, "since"),
            after=_whole_number(query, "after"),
        )

    def people(self, request: Request) -> Reply:
        """`GET /_local/people`: the persons of the kept events, by ID merge; seen last is last."""
        items = self.store.people(limit=_whole_number(request.query, "limit"))
        people = [
            {"person": each.person, "token": each.token, "ids": each.ids, "events": each.events}
            for each in items
        ]
        return json_reply({"id_merge": self.store.id_merge, "people": people})

    def profiles(self, request: Request) -> Reply:
        """`GET /_local/profiles`: people's profiles after all updates so far."""
        items = self.store.profiles(limit=_whole_number(request.query, "limit"))
        return json_reply({"profiles": [profile_json(each) for each in items]})

    def groups(self, request: Request) -> Reply:
        """`GET /_local/groups`: the same for groups."""
        items = self.store.groups(limit=_whole_number(request.query, "limit"))
        return json_reply({"groups": [profile_json(each) for each in items]})

    def rejected(self, request: Request) -> Reply:
        """`GET /_local/rejected`: refused records with the reason, and refused requests (`index` is null)."""
        items = self.store.rejections(limit=_whole_number(request.query, "limit"))
        return json_reply({"rejected": [rejection_json(each) for each in items]})

    def not_sent(self, request: Request) -> Reply:
        """`POST /_local/not-sent`: a sender reports a record that was not sent, listed as refused."""
        message = request.body.decode("utf-8", "replace")[:MAX_MESSAGE_CHARS]
        now_ms = self.store.now_ms()
        self.store.reject(
            [Rejection(endpoint="(not sent)", status=0, message=message, received_at_ms=now_ms)]
        )
        return json_reply({"status": "ok"})

    def stats(self, _request: Request) -> Reply:
        """`GET /_local/stats`: the counts of `Store.stats`."""
        return json_reply(self.store.stats())

    def reset(self, _request: Request) -> Reply:
        """`POST /_local/reset`: forget everything."""
        self.store.reset()
        return json_reply({"status": "ok"})

    def health(self, _request: Request) -> Reply:
        """`GET /_local/health`: the server is running."""
        return json_reply({"status": "ok"})


def event_json(stored: StoredEvent) -> dict[str, Any]:
    """An event as it is listed; values are ready for `orjson.dumps`.

    `lane` is the sender, "browser" or "server"; `own_id` is the ID before any merge and `person` the current
    canonical one in the project `token`, both null without an ID; `identity_failure` is why it joined no
    IDs, or null.
    """
    return {
        "number": stored.number,
        "endpoint": stored.endpoint,
        "event": stored.event.name,
        "distinct_id": stored.event.distinct_id,
        "insert_id": stored.event.insert_id,
        "time_ms": stored.event.time_ms,
        "received_at_ms": stored.received_at_ms,
        "deliveries": stored.deliveries,
        "altered": stored.altered,
        "lane": source_of(stored.properties),
        "own_id": stored.own_id,
        "person": stored.person,
        "token": stored.token,
        "identity_failure": stored.identity_failure,
        "properties": orjson.Fragment(stored.event.properties),
    }


def profile_json(profile: Profile) -> dict[str, Any]:
    """A person's or a group's profile as it is listed, under the names of `/engage` and `/groups`."""
    if profile.group_key:
        identity = {"$group_key": profile.group_key, "$group_id": profile.profile_id}
    else:
        identity = {"$distinct_id": profile.profile_id}
    return {
        "$token": profile.token,
        **identity,
        "properties": profile.properties,
        "updates": profile.updates,
        "updated_at_ms": profile.updated_at_ms,
    }


def change_json(change: ProfileChange) -> dict[str, Any]:
    """One profile update as it arrived."""
    update = change.update
    if update.group_key:
        identity = {"$group_key": update.group_key, "$group_id": update.profile_id}
    else:
        identity = {"$distinct_id": update.profile_id}
    return {
        "endpoint": change.endpoint,
        **identity,
        "operation": update.operation,
        "value": update.operand,
        "received_at_ms": change.received_at_ms,
    }


def rejection_json(rejection: Rejection) -> dict[str, Any]:
    """A refused record or request as it is listed; `record` is null where it is large or there is none."""
    return {
        "endpoint": rejection.endpoint,
        "status": rejection.status,
        "index": rejection.index,
        "field": rejection.field,
        "reason": rejection.message,
        "fix": fix_of(rejection),
        "insert_id": rejection.insert_id,
        "record": None if rejection.record is None else orjson.Fragment(rejection.record),
        "received_at_ms": rejection.received_at_ms,
    }


def two_ids_json(items: TwoIds) -> dict[str, Any]:
    """A visit with two IDs as it is listed, with what to do about it."""
    return {
        "token": items.token,
        "browser_id": items.browser_id,
        "server_id": items.server_id,
        "page": items.page,
        "browser_event": items.browser_event,
        "server_event": items.server_event,
        "fix": TWO_IDS_FIX,
    }


def _whole_number(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise PayloadError(400, f"{name} must be a whole number, not {text!r}")
    return int(text)
