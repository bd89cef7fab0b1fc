"""Writer: turns a handler's call into a record, with the stamps of now, or says why it cannot."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from . import capture
from .core.events import (
    IDENTITY_PROPERTIES,
    PROFILE_OPERATIONS,
    common_stamps,
    event_record,
    profile_record,
    stamped_record,
    time_ms,
)
from .core.glance import Glance
from .core.identity import distinct_id, identity_properties
from .core.scrubbing import Scrubber
from .errors import InvalidEventError
from .logs import call_site
from .quoting import one_line, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from .core.glance import NoGlance
    from .core.identity import Identity, IdMode
    from .core.request import RequestFacts
    from .ledger import Ledger
    from .logs import QuietLog
    from .plan.guard import PlanGuard
    from .records import Endpoint, Record

    class Sink(Protocol):
        """Where a visitor's records go: an exchange, or a visit outside of any request."""

        @property
        def facts(self) -> RequestFacts | None:
            """The request, where there is one."""
            ...

        @property
        def identity(self) -> Identity:
            """Who the visitor is at this moment."""
            ...

        @property
        def glance(self) -> Glance | NoGlance:
            """What the request says of the visitor besides."""
            ...

        @property
        def refusal(self) -> str | None:
            """Why nothing is tracked here; None: it is."""
            ...

        def add(self, record: Record) -> None:
            """Queue a record."""
            ...


class Writer:
    """What all visitors of a tracker write with. `write` and its kin never raise unless asked to."""

    def __init__(
        self,
        *,
        token: str,
        id_mode: IdMode,
        lib_version: str,
        clock: Callable[[], float],
        insert_id: Callable[[], str],
        ledger: Ledger,
        log: QuietLog,
        extra_properties: Mapping[str, Any] | Callable[..., Mapping[str, Any]] | None = None,
        before_send: Callable[[dict[str, Any]], dict[str, Any] | None] | None = None,
        scrubber: Scrubber | None = None,
        withdraw: Callable[[Identity], None] | None = None,
        tell_local: Callable[[str], None] | None = None,
        plan: PlanGuard | None = None,
        raise_errors: bool = False,
    ) -> None:
        self.token = token
        self.id_mode: IdMode = id_mode
        self._lib_version = lib_version
        self._clock = clock
        self._insert_id = insert_id
        self._ledger = ledger
        self._log = log
        self._extra_properties = _with_facts(extra_properties)
        self._before_send = before_send
        self._scrubber = scrubber or Scrubber()
        self.withdraw = withdraw or (lambda _identity: None)
        self._plan = plan
        self._is_strict = raise_errors
        # Who has the last word on an event, or adds to each one, sees it whole.
        extra = self._extra_properties
        self._may_be_quick = before_send is None and not (
            callable(extra) or (extra and not {"time", "$insert_id"}.isdisjoint(extra))
        )
        self._tell_local = tell_local
        self._told_of_bots = False

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
        """Write the profile update that `parts` add up to; token and time are added here."""
        operations = (name for part in parts if isinstance(part, dict) for name in part)
        name = next((name for name in operations if name in PROFILE_OPERATIONS), "?")
        self._submit(sink, "profile update", name, self._profile, endpoint, parts)

    def ready_event(self, sink: Sink, event: dict[str, Any]) -> None:
        """Write an event that the official library has built; only stamps that are missing are added."""
        self._submit(sink, "event", event.get("event"), self._ready, event)

    def refuse(self, reason: str, what: str, message: str) -> None:
        """Count a call that cannot become a record, and log it once a minute with the call site."""
        self._ledger.accept()
        self._refused(reason, what, message)
        if self._raise_errors:
            raise InvalidEventError(reason, message)

    # --- inside ---------------------------------------------------------------------------------

    def _event(
        self,
        sink: Sink,
        glance: Glance | NoGlance,
        name: Any,
        properties: Mapping[str, Any] | None,
        identity: Mapping[str, Any] | None,
        registered: Mapping[str, Any] | None,
    ) -> Record:
        if self._plan is not None:
            name, properties = self._plan(name, properties, strict=self._raise_errors)
        if self._may_be_quick and identity is None and not registered:
            record = self._quick(sink, glance, name, properties)
            if record is not None:
                return record
        stamped: dict[str, Any] = {
            "time": round(self._clock() * 1000),
            "$insert_id": self._insert_id(),
            **self._common(sink, glance, identity, registered),
        }
        if properties:
            if not isinstance(properties, Mapping):
                raise InvalidEventError(
                    "bad_properties", f"properties must be a dict, not {type(properties).__name__}"
                )
            theirs = properties
            if not properties.keys().isdisjoint(IDENTITY_PROPERTIES):
                theirs = _without_identity(properties)
                self._warn_identity(name)
            stamped.update(self._scrubbed(theirs))
            if "time" in properties:
                stamped["time"] = time_ms(properties["time"])
        return self._final({"event": name, "properties": stamped})

    def _profile(
        self,
        _sink: Sink,
        glance: Glance | NoGlance,
        endpoint: Endpoint,
        parts: Sequence[Mapping[str, Any] | None],
    ) -> Record:
        stamped: dict[str, Any] = {"$token": self.token, "$time": round(self._clock(), 3)}
        if endpoint == "engage":
            stamped["$ip"] = glance.surroundings["ip"]
        for part in parts:
            if part is not None and not isinstance(part, Mapping):
                raise InvalidEventError("bad_update", f"it takes a dict, not {type(part).__name__}")
            stamped.update(part or {})
        for operation in PROFILE_OPERATIONS:
            if isinstance(operand := stamped.get(operation), Mapping):
                stamped[operation] = self._scrubbed(operand)
        return profile_record(endpoint, stamped)

    def _ready(self, _sink: Sink, _glance: Glance | NoGlance, event: dict[str, Any]) -> Record:
        properties = event.get("properties")
        if self._plan is not None and isinstance(event.get("event"), str):
            self._plan(event["event"], properties, strict=self._raise_errors)
        if isinstance(properties, dict):
            properties["time"] = time_ms(properties.get("time", self._clock()))
            properties.setdefault("$insert_id", self._insert_id())
            mixpanels_own = {"token": properties.pop("token")} if "token" in properties else {}
            event["properties"] = {**self._scrubbed(properties), **mixpanels_own}
        return self._final(event)

    @property
    def _raise_errors(self) -> bool:
        return self._is_strict or capture.active() is not None

    def _submit(self, sink: Sink, kind: str, name: object, make: Callable[..., Record], *words: Any) -> None:
        self._ledger.accept()
        reason = sink.refusal
        if reason == "closed":
            self._refused(reason, kind, "the tracker was closed; close it after the last event")
            return
        if reason is not None:
            self._ledger.refuse(reason)
            if reason == "bot":
                self._tell_of_bots(sink.facts)
            return
        try:
            glance = sink.glance
            record = make(sink, glance, *words)
            touch = glance.first_touch() if glance.may_touch and kind == "event" else None
        except InvalidEventError as error:
            self._refused(error.reason, f"{kind} {quoted(name)}", str(error))
            if self._raise_errors:
                raise
        except _DroppedError:
            self._ledger.refuse("before_send")
        except Exception as error:
            self._refused("internal_error", f"{kind} {quoted(name)}", f"it raised {type(error).__name__}")
            if self._raise_errors:
                raise
        else:
            sink.add(record)
            if touch:
                self.profile(
                    sink,
                    "engage",
                    {"$distinct_id": distinct_id(self.id_mode, sink.identity), "$set_once": touch},
                )

    def _tell_of_bots(self, facts: RequestFacts | None) -> None:
        # Somebody who wonders why nothing arrives looks here; who has seen it needs it no more.
        if self._told_of_bots:
            return
        self._told_of_bots = True
        user_agent = "" if facts is None else facts.header("user-agent")[:100]
        message = (
            f"Events of bots are dropped and counted (here, for the first time: {user_agent!r}). If that "
            "is a person, or you want them, say bots='tag' or 'keep'."
        )
        self._log(logging.WARNING, "bots", "%s", message)
        if self._tell_local is not None:
            self._tell_local(message)

    def _quick(
        self, sink: Sink, glance: Glance | NoGlance, name: str, properties: Mapping[str, Any] | None
    ) -> Record | None:
        """Make the record of an event that says nothing special; None: it has to be done in the long way.

        What all events of a request have in common is encoded once.
        """
        if not isinstance(glance, Glance):
            return None
        identity, stamps = sink.identity, glance.stamps
        if stamps is None or stamps.identity is not identity:
            common = self._common(sink, glance, None, None)
            glance.stamps = stamps = common_stamps(identity, common, ours=not self._extra_properties)
            if stamps is None:
                return None
        if properties is None:
            properties = {}
        elif type(properties) is not dict or not stamps.taken.isdisjoint(properties):
            return None
        plain = self._scrubber.is_plain(properties)
        return stamped_record(
            name,
            properties if plain else self._scrubbed(properties),
            stamps,
            plain=plain,
            time_ms=round(self._clock() * 1000),
            insert_id=self._insert_id(),
        )

    def _common(
        self,
        sink: Sink,
        glance: Glance | NoGlance,
        identity: Mapping[str, Any] | None,
        registered: Mapping[str, Any] | None,
    ) -> dict[str, Any]:
        common: dict[str, Any] = {
            "token": self.token,
            "mp_lib": "python",
            "$lib_version": self._lib_version,
            **glance.surroundings,
        }
        extra = self._extra_properties
        if callable(extra):
            extra = self._called(extra, sink.facts)
        for properties in (extra, registered):
            if properties:
                common.update(self._scrubbed(_without_identity(properties)))
        common.update(identity or identity_properties(self.id_mode, sink.identity))
        return common

    def _called(self, extra: Callable[..., Any], facts: RequestFacts | None) -> Mapping[str, Any]:
        try:
            return extra(facts) or {}
        except Exception:
            self._ledger.note("extra_properties_failed")
            self._log(
                logging.ERROR,
                "extra_properties",
                "extra_properties raised; the event goes without them. Mend the callable.",
                exc_info=True,
            )
            return {}

    def _scrubbed(self, properties: Mapping[str, Any]) -> Mapping[str, Any]:
        return self._scrubber.clean(properties, self._found_secret)

    def _found_secret(self, name: str) -> None:
        self._ledger.note("scrubbed")
        site = call_site()
        self._log(
            logging.WARNING,
            f"secret {site}",
            "the property %s at %s looks like a secret by its name and was replaced. Leave it out; if it is "
            "none, say which names are with scrub=[...].",
            quoted(name),
            site,
        )

    def _final(self, event: dict[str, Any]) -> Record:
        if self._before_send is not None:
            try:
                last_word = self._before_send(event)
            except Exception as error:
                # It may be the scrubber of personal data: what it could not look at does not leave.
                raise InvalidEventError(
                    "before_send_failed", f"before_send raised {type(error).__name__}: {one_line(str(error))}"
                ) from error
            if last_word is None:
                raise _DroppedError
            event = last_word
        return event_record(event)

    def _warn_identity(self, name: str) -> None:
        site = call_site()
        self._log(
            logging.WARNING,
            f"identity {site}",
            "event %s at %s: token, distinct_id, $device_id and $user_id are the visitor's own and cannot be "
            "given as properties; they were left out. Use visitor.identify(...) or tracker.track(...).",
            quoted(name),
            site,
        )

    def _refused(self, reason: str, what: str, message: str) -> None:
        self._ledger.refuse(reason)
        site = call_site()
        self._log(
            logging.WARNING,
            f"{reason} {site}",
            "%s was not accepted (%s) at %s: %s",
            what,
            reason,
            site,
            message,
        )


def _without_identity(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in properties.items() if key not in IDENTITY_PROPERTIES}


def _with_facts(extra: Any) -> Any:
    """Let an `extra_properties` callable take the request facts or nothing at all."""
    if not callable(extra):
        return extra
    try:
        inspect.signature(extra).bind(None)
    except TypeError:
        return lambda _facts: extra()
    except ValueError:
        return extra  # a builtin without a signature
    return extra


class _DroppedError(Exception):
    """before_send returned None."""
