"""BrowserEvents: from what the browser SDK has sent to records, by the rules that hold for our own events.

What the SDK says is left as it is: the moment, the `$insert_id`, the identity. Secrets are taken out, the
address is that which we see, and what differs from the signed visitor is marked.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from mixpanel_visitor.core.collector.addresses import cleaned, has_no_address
from mixpanel_visitor.core.events.encoding import converted
from mixpanel_visitor.core.events.record_builder import IDENTITY_EVENTS, event_record, profile_record
from mixpanel_visitor.core.events.timestamps import time_ms
from mixpanel_visitor.errors import InvalidEventError
from mixpanel_visitor.quoting import quoted, type_name

from .event_callbacks import DroppedError, last_word

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mixpanel_visitor.core.collector.ownership import KnownVisitor, Ownership
    from mixpanel_visitor.core.events.redaction import Redactor
    from mixpanel_visitor.observability.counters import EventCounters
    from mixpanel_visitor.observability.rate_limited_log import RateLimitedLog
    from mixpanel_visitor.plan.checker import PlanGuard
    from mixpanel_visitor.records import Endpoint, Record
    from mixpanel_visitor.settings import Settings

MISMATCH = "visitor_mismatch"
"""The property of an event whose IDs are not the signed visitor's: "device" or "user"."""

MERGE_EVENT = "$merge"
"""Mixpanel takes it with a project's own credentials only, which no browser has; we send with them."""


_FOREIGN = frozenset({"collector_token", "collector_differs", "collector_unknown_user", "collector_merge"})


class Taken(NamedTuple):
    """What a batch has become; `foreign`: whether some of it was refused as another project's or person's."""

    records: list[Record]
    foreign: bool


class Sender(NamedTuple):
    """Who has sent a batch: the visitor of the request, the address for Mixpanel, and whether it is a bot."""

    visitor: KnownVisitor
    ip: str
    is_bot: bool


class BrowserEvents:
    """Makes records of events and updates, or says why not; counts and logs what is refused."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Callable[[], float],
        insert_id: Callable[[], str],
        redactor: Redactor,
        plan: PlanGuard | None,
        counters: EventCounters,
        log: RateLimitedLog,
    ) -> None:
        self._token = settings.token
        self._refuses_strangers = settings.collector_trust == "refuse"
        self._before_send = settings.before_send
        self._clock = clock
        self._insert_id = insert_id
        self._redactor = redactor
        self._plan = plan
        self._counters = counters
        self._log = log

    def records(self, endpoint: Endpoint, items: Iterable[Any], sender: Sender) -> Taken:
        """Return the records of what can be sent; the rest is counted, by reason."""
        made: list[Record] = []
        foreign = False
        for item in items:
            try:
                if endpoint == "import":
                    made.append(self._event(item, sender))
                else:
                    made.append(self._profile(endpoint, item, sender))
            except InvalidEventError as error:
                foreign = foreign or error.reason in _FOREIGN
                self._refused(error.reason, str(error))
            except DroppedError:
                self._counters.refuse("before_send")
            except Exception as error:
                self._refused("internal_error", f"it raised {type_name(type(error))}")
        return Taken(made, foreign)

    def _event(self, item: Any, sender: Sender) -> Record:
        name, given = (item.get("event"), item.get("properties")) if type(item) is dict else (None, None)
        if type(name) is not str or type(given) is not dict:
            raise InvalidEventError("collector_malformed", "an event has a name and properties")
        self._check_token(given.get("token"))
        if name == MERGE_EVENT:
            raise InvalidEventError("collector_merge", "no browser may merge people by $merge")
        mismatch = self._judge(sender.visitor.of_event(given))
        if self._plan is not None and name not in IDENTITY_EVENTS:
            self._plan(name, given, strict=False)
        properties = dict(given)
        for ours in ("token", "ip", MISMATCH):
            properties.pop(ours, None)
        properties = self._clean(properties)
        # The SDK says seconds with a fraction; `/import` takes whole numbers only.
        properties["time"] = time_ms(properties.get("time"), now_ms=round(self._clock() * 1000))
        properties["token"] = self._token
        properties["ip"] = sender.ip
        if "$insert_id" not in properties:
            properties["$insert_id"] = self._insert_id()
        if sender.is_bot:
            properties["is_bot"] = True
        if mismatch:
            properties[MISMATCH] = mismatch
        event = {"event": name, "properties": properties}
        if self._before_send is None:
            return event_record(event, is_plain=True)
        return event_record(last_word(self._before_send, event))

    def _profile(self, endpoint: Endpoint, item: Any, sender: Sender) -> Record:
        if type(item) is not dict:
            raise InvalidEventError("collector_malformed", "a profile update is an object")
        self._check_token(item.get("$token"))
        if endpoint == "engage":
            self._judge(sender.visitor.of_profile(item))
            is_own = sender.visitor.owns_profile(item)
        else:
            is_own = sender.visitor.is_logged_in
        if not is_own and ("$delete" in item or "$unset" in item):
            raise InvalidEventError(
                "collector_profile", "$delete and $unset are taken for the signed visitor's own profile only"
            )
        update = {"$time": round(self._clock(), 3), **item, "$token": self._token}
        if endpoint == "engage":
            update["$ip"] = sender.ip
        return profile_record(endpoint, update, clean=self._clean_plain)

    def _check_token(self, token: object) -> None:
        if token != self._token:
            raise InvalidEventError(
                "collector_token",
                f"the token {quoted(token)} is another project's: mixpanel.init in the pages and the setting "
                "token have to say the same",
            )

    def _judge(self, ownership: Ownership) -> str:
        """Count how IDs compare with the visitor's; return the mark of what differs, or refuse it."""
        mismatch = ownership.mismatch
        if not mismatch:
            if ownership.is_earlier:
                self._counters.note("collector_earlier_id")
            elif not ownership.is_signed:
                self._counters.note("collector_unsigned")
            return ""
        is_unknown = mismatch == "unknown-user"
        if self._refuses_strangers:
            what = mismatch.removeprefix("unknown-")
            raise InvalidEventError(
                "collector_unknown_user" if is_unknown else "collector_differs",
                f"its {what} is not the signed visitor's, and collector_trust is 'refuse'",
            )
        self._counters.note("collector_unknown_user" if is_unknown else "collector_differs")
        return "" if is_unknown else mismatch

    def _clean(self, properties: dict[str, Any]) -> dict[str, Any]:
        """Return properties within Mixpanel's limits and without secrets."""
        if not self._redactor.is_plain(properties):
            properties = dict(self._redactor.clean(converted(properties), self._secret))
        if has_no_address(properties):
            return properties
        clean: dict[str, Any] = cleaned(properties, self._redactor.is_secret)
        return clean

    def _clean_plain(self, plain: Mapping[str, Any]) -> Mapping[str, Any]:
        return self._clean_addresses(self._redactor.clean(plain, self._secret))

    def _clean_addresses(self, plain: Mapping[str, Any]) -> Mapping[str, Any]:
        clean: Mapping[str, Any] = cleaned(dict(plain), self._redactor.is_secret)
        return clean

    def _secret(self, name: str) -> None:
        self._counters.note("scrubbed")
        self._log(
            logging.WARNING,
            "collector secret",
            "the property %s of a browser's event looks like a secret by its name and was replaced.",
            quoted(name),
        )

    def _refused(self, reason: str, message: str) -> None:
        self._counters.refuse(reason)
        self._log(
            logging.WARNING,
            f"collector {reason}",
            "an event of a browser's was refused (%s): %s",
            reason,
            message,
        )
