"""EventBuilder: turns a handler's call into a record with the time of the call, or logs why it cannot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mixpanel_visitor import release
from mixpanel_visitor.core.enrichment.request_properties import EmptyRequestProperties, RequestProperties
from mixpanel_visitor.core.events.encoding import converted, encoded
from mixpanel_visitor.core.events.record_builder import (
    IDENTITY_EVENTS,
    IDENTITY_PROPERTIES,
    PROFILE_OPERATIONS,
    encoded_identity,
    event_record,
    join_parts,
    profile_record,
    record_with_common,
)
from mixpanel_visitor.core.events.redaction import Redactor
from mixpanel_visitor.core.events.timestamps import FAR_MS, time_ms
from mixpanel_visitor.core.identity.identity import distinct_id, identity_properties
from mixpanel_visitor.errors import InvalidEventError
from mixpanel_visitor.quoting import quoted, type_name

from . import recorder
from .diagnostics import Diagnostics
from .event_callbacks import DroppedError, last_word, with_facts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from mixpanel_visitor.core.events.record_builder import EncodedCommon
    from mixpanel_visitor.core.identity.identity import Identity, IdMode
    from mixpanel_visitor.core.request import RequestFacts
    from mixpanel_visitor.observability.counters import EventCounters
    from mixpanel_visitor.observability.rate_limited_log import RateLimitedLog
    from mixpanel_visitor.plan.checker import PlanGuard
    from mixpanel_visitor.records import Endpoint, Record

    from .flags import VisitorFlags

    class Sink(Protocol):
        """Where a visitor's records go: an exchange, or a detached exchange outside of any request."""

        @property
        def registered(self) -> Mapping[str, Any] | None:
            """The super properties, as they will be sent."""
            ...

        @property
        def in_background(self) -> bool:
            """Whether its records are committed by a thread, not by the caller."""
            ...

        @property
        def facts(self) -> RequestFacts | None:
            """The request, where there is one."""
            ...

        @property
        def identity(self) -> Identity:
            """The visitor's identity at this moment."""
            ...

        @property
        def request_properties(self) -> RequestProperties | EmptyRequestProperties:
            """The properties that the request adds to the visitor's events."""
            ...

        flag_decisions: dict[str, Any] | None
        """The decided feature flags by key; None: none yet."""

        @property
        def exported_at_ms(self) -> int | None:
            """When a request has exported this visitor, in unix milliseconds; None: none has."""
            ...

        @property
        def refusal(self) -> str | None:
            """The reason why nothing is tracked here; None: events are tracked."""
            ...

        def add(self, record: Record) -> Sequence[Record]:
            """Queue a record. Return those that have to be committed now."""
            ...


_EMPTY: Mapping[str, Any] = {}


class EventBuilder:
    """Builds and queues the records of all visitors of a tracker; raises only with `raise_errors`."""

    def __init__(
        self,
        *,
        token: str,
        id_mode: IdMode,
        lib_version: str,
        clock: Callable[[], float],
        insert_id: Callable[[], str],
        counters: EventCounters,
        log: RateLimitedLog,
        extra_properties: Mapping[str, Any] | Callable[..., Mapping[str, Any]] | None = None,
        before_send: Callable[[dict[str, Any]], dict[str, Any] | None] | None = None,
        redactor: Redactor | None = None,
        commit: Callable[[Sequence[Record], bool], None] = lambda _records, _in_background: None,
        withdraw: Callable[[Identity], None] | None = None,
        export: Callable[[Sink], str] = lambda _sink: "",
        notify_local: Callable[[str], None] | None = None,
        plan: PlanGuard | None = None,
        flags: VisitorFlags | None = None,
        raise_errors: bool = False,
    ) -> None:
        self.token = token
        self.id_mode: IdMode = id_mode
        self._own_part = encoded(
            {
                "token": token,
                # Reports tell our events from the official library's by this name.
                "mp_lib": release.NAME,
                "$lib_version": lib_version,
            }
        )
        self._clock = clock
        self._insert_id = insert_id
        self._counters = counters
        self.diagnostics = Diagnostics(counters, log, notify_local)
        self.stringified = self.diagnostics.stringified
        self._extra_properties = with_facts(extra_properties)
        self._before_send = before_send
        self._redactor = redactor or Redactor()
        self._commit = commit
        self.withdraw = withdraw or (lambda _identity: None)
        self.export = export
        self._plan = plan
        self.flags = flags
        self._always_raises = raise_errors
        # `before_send` and an `extra_properties` callable need the whole event, not its encoded parts.
        extra = self._extra_properties
        self._fast_path_allowed = before_send is None and not (
            callable(extra) or (extra and not {"time", "$insert_id"}.isdisjoint(extra))
        )

    def event(
        self,
        sink: Sink,
        name: Any,
        properties: Mapping[str, Any] | None,
        identity: Mapping[str, Any] | None = None,
        registered: Mapping[str, Any] | None = None,
    ) -> None:
        """Write an event of the sink's visitor; `identity` replaces the visitor's identity properties.

        `name` may be an instance of a class of the plan.
        """
        self._submit(sink, "event", name, self._event, name, properties, identity, registered)

    def profile(self, sink: Sink, endpoint: Endpoint, *parts: Mapping[str, Any] | None) -> None:
        """Write the profile update that `parts` add up to, with token and time."""
        operations = (name for part in parts if isinstance(part, dict) for name in part)
        name = next((name for name in operations if name in PROFILE_OPERATIONS), "?")
        self._submit(sink, "profile update", name, self._profile, endpoint, parts)

    def prebuilt_event(self, sink: Sink, event: dict[str, Any], *, is_of_visitor: bool = False) -> None:
        """Write an event that the official library has built, with the properties of every event.

        `is_of_visitor`: it is an event of the sink's visitor, and gets the properties of the request.
        """
        self._submit(sink, "event", event.get("event"), self._prebuilt, event, is_of_visitor)

    def prepared(self, subject: str, properties: Any) -> Mapping[str, Any] | None:
        """Return properties as they will be sent; None: they were refused."""
        try:
            return dict(self._prepared(_mapping(properties)))
        except InvalidEventError as error:
            self.refuse(error.reason, subject, str(error))
        except Exception as error:
            self.refuse("internal_error", subject, f"it raised {type_name(type(error))}")
        return None

    def refuse(self, reason: str, subject: str, message: str) -> None:
        """Count a call that cannot become a record, and log it once a minute with the call site."""
        self._counters.accept()
        self.diagnostics.refused(reason, subject, message)
        if self._raise_errors:
            raise InvalidEventError(reason, message)

    # --- inside ---------------------------------------------------------------------------------

    def _event(
        self,
        sink: Sink,
        request_properties: RequestProperties | EmptyRequestProperties,
        name: Any,
        properties: Mapping[str, Any] | None,
        identity: Mapping[str, Any] | None,
        registered: Mapping[str, Any] | None,
    ) -> Record:
        if self._plan is not None:
            name, properties = self._plan(name, properties, strict=self._raise_errors)
        if self._fast_path_allowed and identity is None and not registered:
            record = self._fast_path(sink, request_properties, name, properties)
            if record is not None:
                return record
        own: Mapping[str, Any] = {}
        if properties:
            own = _mapping(properties)
            if not properties.keys().isdisjoint(IDENTITY_PROPERTIES):
                own = _without_identity(properties)
                self.diagnostics.identity_in_properties(name)
            own = self._prepared(own)
        common = self._common(sink, request_properties, registered)
        common.update(identity or identity_properties(self.id_mode, sink.identity))
        return self._final_record(name, common, own)

    def _profile(
        self,
        _sink: Sink,
        request_properties: RequestProperties | EmptyRequestProperties,
        endpoint: Endpoint,
        parts: Sequence[Mapping[str, Any] | None],
    ) -> Record:
        update: dict[str, Any] = {"$token": self.token, "$time": round(self._clock(), 3)}
        if endpoint == "engage":
            update["$ip"] = request_properties.parts[0].properties["ip"]
        for part in parts:
            if part is not None and not isinstance(part, Mapping):
                raise InvalidEventError("bad_update", f"it takes a dict, not {type_name(type(part))}")
            update.update(part or {})
        if type(update["$time"]) not in (int, float, str):
            update["$time"] = self._time_ms(update["$time"], latest_ms=FAR_MS) / 1000
        return profile_record(endpoint, update, on_stringified=self.stringified, clean=self._redacted)

    def _prebuilt(
        self,
        sink: Sink,
        request_properties: RequestProperties | EmptyRequestProperties,
        event: dict[str, Any],
        is_of_visitor: bool,
    ) -> Record:
        name, properties = event.get("event"), event.get("properties")
        if self._plan is not None and isinstance(name, str):
            self._plan(name, properties, strict=self._raise_errors)
        if not isinstance(properties, dict):
            return event_record(event)  # raises with the reason
        own = dict(properties)
        if "time" in own:
            # The library has set it, by a clock that may differ from ours.
            own["time"] = self._time_ms(own["time"], latest_ms=FAR_MS)
        token = {"token": own.pop("token")} if "token" in own else {}
        common: dict[str, Any] = {}
        if name not in IDENTITY_EVENTS:
            common = (
                self._common(sink, request_properties, sink.registered)
                if is_of_visitor
                else self._common(sink, EmptyRequestProperties(), None)
            )
        return self._final_record(name, common, {**self._cleaned(own), **token}, event)

    @property
    def _raise_errors(self) -> bool:
        return self._always_raises or recorder.active() is not None

    def _submit(self, sink: Sink, kind: str, name: object, build: Callable[..., Record], *args: Any) -> None:
        self._counters.accept()
        reason = sink.refusal
        if reason == "closed":
            self.diagnostics.refused(reason, kind, "the tracker was closed; close it after the last event")
            return
        if reason == "bot":
            self.diagnostics.refused_bot(sink.facts)
            return
        if reason is not None:
            self._counters.refuse(reason)
            return
        try:
            request_properties = sink.request_properties
            record = build(sink, request_properties, *args)
            first_touch = (
                request_properties.first_touch()
                if request_properties.has_first_touch and kind == "event"
                else None
            )
        except InvalidEventError as error:
            self.diagnostics.refused(error.reason, f"{kind} {quoted(name)}", str(error))
            if self._raise_errors:
                raise
        except DroppedError:
            self._counters.refuse("before_send")
        except Exception as error:
            self.diagnostics.refused(
                "internal_error", f"{kind} {quoted(name)}", f"it raised {type_name(type(error))}"
            )
            if self._raise_errors:
                raise
        except BaseException:
            # SystemExit, KeyboardInterrupt or a cancelled task: never swallowed.
            self._counters.refuse("interrupted")
            raise
        else:
            due_records = sink.add(record)
            if due_records:
                self._commit(due_records, sink.in_background)
            if first_touch:
                self.profile(
                    sink,
                    "engage",
                    {"$distinct_id": distinct_id(self.id_mode, sink.identity), "$set_once": first_touch},
                )

    def _fast_path(
        self,
        sink: Sink,
        request_properties: RequestProperties | EmptyRequestProperties,
        name: str,
        properties: Mapping[str, Any] | None,
    ) -> Record | None:
        """Return the record of a plain event; None: only `_final_record` can make it.

        The common part of all events of a request is encoded once.
        """
        if not isinstance(request_properties, RequestProperties):
            return None
        common = request_properties.encoded_common
        if common is None or common.identity is not sink.identity:
            request_properties.encoded_common = common = self._encoded_common(sink, request_properties)
            if common is None:
                return None
        if properties is None:
            properties = {}
        elif type(properties) is not dict or not common.reserved_names.isdisjoint(properties):
            return None
        return record_with_common(
            name,
            properties if self._redactor.is_plain(properties) else self._converted(properties),
            common,
            round(self._clock() * 1000),
            self._insert_id(),
            self.stringified,
        )

    def _encoded_common(self, sink: Sink, request_properties: RequestProperties) -> EncodedCommon | None:
        """Return the common part of all events of the request; None: each needs `_final_record`."""
        identity = sink.identity
        identity_part = encoded_identity(self.id_mode, identity)
        if identity_part is None:
            return None
        parts = [self._own_part, *request_properties.parts]
        if self._extra_properties:
            parts.append(encoded(self._extra(sink.facts)))
        common = join_parts(identity, [*parts, identity_part])
        if common is None:
            merged = {name: value for part in parts for name, value in part.properties.items()}
            common = join_parts(identity, [encoded(merged), identity_part])
        return common

    def _common(
        self,
        sink: Sink,
        request_properties: RequestProperties | EmptyRequestProperties,
        registered: Mapping[str, Any] | None,
    ) -> dict[str, Any]:
        """Return the properties of every event, apart from its identity."""
        common: dict[str, Any] = {}
        for part in (self._own_part, *request_properties.parts):
            common.update(part.properties)
        if self._extra_properties:
            common.update(self._extra(sink.facts))
        if registered:
            common.update(_without_identity(registered))
        return common

    def _extra(self, facts: RequestFacts | None) -> Mapping[str, Any]:
        extra: Any = self._extra_properties
        try:
            properties: Any = (extra(facts) or {}) if callable(extra) else extra
            return _without_identity(self._prepared(properties))
        except Exception as error:
            self.diagnostics.extra_properties_failed(error)
            return {}

    def _prepared(self, properties: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return an event's properties as JSON has them, without secrets."""
        if "time" in properties:
            properties = {**properties, "time": self._time_ms(properties["time"])}
        return self._cleaned(properties)

    def _cleaned(self, properties: Mapping[str, Any]) -> Mapping[str, Any]:
        return properties if self._redactor.is_plain(properties) else self._converted(properties)

    def _converted(self, properties: Mapping[str, Any]) -> Mapping[str, Any]:
        return self._redacted(converted(properties, self.stringified))

    def _redacted(self, plain: Mapping[str, Any]) -> Mapping[str, Any]:
        return self._redactor.clean(plain, self.diagnostics.secret)

    def _time_ms(self, value: Any, latest_ms: int | None = None) -> int:
        now_ms = round(self._clock() * 1000)
        return time_ms(value, now_ms=now_ms, latest_ms=latest_ms, on_naive=self.diagnostics.naive_time)

    def _final_record(
        self,
        name: Any,
        common: Mapping[str, Any],
        own: Mapping[str, Any],
        event: Mapping[str, Any] = _EMPTY,
    ) -> Record:
        """Return the record of an event with all checks, and `before_send`; slower than `_fast_path`."""
        defaults = {"time": round(self._clock() * 1000), "$insert_id": self._insert_id()}
        complete: dict[str, Any] = {**event, "event": name, "properties": {**defaults, **common, **own}}
        on_stringified, time = self.stringified, complete["properties"]["time"]
        if self._before_send is None:
            return event_record(complete, on_stringified=on_stringified, is_plain=True)
        changed = last_word(self._before_send, complete)
        properties = changed.get("properties")
        if isinstance(properties, Mapping) and properties.get("time", time) is not time:
            changed = {**changed, "properties": {**properties, "time": self._time_ms(properties["time"])}}
        return event_record(changed, on_stringified=on_stringified)


def _mapping(properties: Any) -> Mapping[str, Any]:
    if not isinstance(properties, Mapping):
        raise InvalidEventError(
            "bad_properties", f"properties must be a dict, not {type_name(type(properties))}"
        )
    return properties


def _without_identity(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in properties.items() if key not in IDENTITY_PROPERTIES}
