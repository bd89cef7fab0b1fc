"""The official `mixpanel.Mixpanel` over our spool: the only file that imports the official package.

The official `alias` makes its own blocking HTTP request and ignores the consumer it was given; `Mixpanel`
here is the official class with that one method replaced.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import mixpanel
import orjson

from .core.events.encoding import converted, plain_value, written
from .core.events.record_builder import IDENTITY_EVENTS
from .core.events.values import RECORD
from .core.identity.identity import DEVICE_PREFIX, distinct_id, identity_properties, read_id
from .errors import InvalidEventError
from .quoting import one_line, quoted

if TYPE_CHECKING:
    from typing import Protocol

    from .core.events.values import OnStringified
    from .core.identity.identity import Identity, IdMode
    from .records import Endpoint

    class Sink(Protocol):
        """The destination of records, with the visitor's identity."""

        @property
        def identity(self) -> Identity:
            """The visitor's identity at this moment."""
            ...

    class MessageWriter(Protocol):
        """Stores the messages of the official library: `tracking.event_builder.EventBuilder`."""

        token: str
        id_mode: IdMode

        @property
        def stringified(self) -> OnStringified:
            """Called with the name and type of each value that became its text."""
            ...

        def prebuilt_event(self, sink: Any, event: dict[str, Any], *, is_of_visitor: bool = False) -> None:
            """Write an event that the official library has built."""
            ...

        def profile(self, sink: Any, endpoint: Endpoint, *parts: Mapping[str, Any] | None) -> None:
            """Write the profile update that `parts` add up to."""
            ...

        def refuse(self, reason: str, subject: str, message: str) -> None:
            """Count and log a message that cannot become a record."""
            ...


_ENDPOINTS: dict[str, Endpoint] = {
    "events": "import",
    "imports": "import",
    "people": "engage",
    "groups": "groups",
}


class Mixpanel(mixpanel.Mixpanel):  # type: ignore[misc]
    """The official class; `alias` uses the consumer, as the other methods do."""

    def alias(self, alias_id: str, original: str, meta: dict[str, Any] | None = None) -> None:
        """Map `alias_id` to the distinct ID `original`; unlike the official one, without waiting."""
        event = {
            "event": "$create_alias",
            "properties": {"distinct_id": original, "alias": alias_id, "token": self._token},
        }
        event.update(meta or {})
        self._consumer.send("events", mixpanel.json_dumps(event, cls=self._serializer))


class SpoolConsumer:
    """A consumer for the official library: what it is sent is stored in the spool, and nothing waits.

    Never raises: what Mixpanel would refuse is logged and counted, as with `visitor.track`.

    >>> import mixpanel
    >>> from mixpanel_visitor import Tracker
    >>> from mixpanel_visitor.testing import capture_events
    >>> with capture_events() as events:
    ...     official = mixpanel.Mixpanel("token", consumer=Tracker().consumer())
    ...     official.track("user-42", "Signed up", {"plan": "pro"})
    >>> events.names
    ['Signed up']
    """

    def __init__(self, writer: MessageWriter, sink: Sink) -> None:
        self._writer = writer
        self._sink = sink

    def send(
        self, endpoint: str, json_message: str, api_key: object = None, api_secret: object = None
    ) -> None:
        """Store one message, or a list of them, for `"events"`, `"imports"`, `"people"` or `"groups"`.

        Keys and secrets are those of the tracker; what is given here is not needed and not used.
        """
        del api_key, api_secret
        record_endpoint = _ENDPOINTS.get(endpoint) if isinstance(endpoint, str) else None
        if record_endpoint is None:
            names = ", ".join(_ENDPOINTS)
            self._writer.refuse(
                "bad_endpoint", "message", f"no endpoint {quoted(endpoint)}; there are {names}"
            )
            return
        if isinstance(json_message, _RefusedMessage):
            self._writer.refuse(json_message.error.reason, "message", str(json_message.error))
            return
        try:
            messages = _parse_json(json_message)
        except (ValueError, TypeError, RecursionError) as error:
            self._writer.refuse("not_serialisable", "message", f"it is not JSON: {one_line(str(error))}")
            return
        for message in messages if isinstance(messages, list) else [messages]:
            if not isinstance(message, dict):
                self._writer.refuse("bad_properties", "message", "it is not a JSON object")
            elif record_endpoint == "import":
                self._writer.prebuilt_event(
                    self._sink, message, is_of_visitor=self._complete_identity(message)
                )
            else:
                self._writer.profile(self._sink, record_endpoint, message)

    def flush(self) -> None:
        """Do nothing: there is no buffer here. The name is the official BufferedConsumer's."""

    def _complete_identity(self, _event: dict[str, Any]) -> bool:
        """Complete the identity of the visitor's own events; return whether this is one."""
        return False


class VisitorConsumer(SpoolConsumer):
    """The consumer of `visitor.mixpanel`: completes the identity of events that are this visitor's."""

    def _complete_identity(self, event: dict[str, Any]) -> bool:
        properties = event.get("properties")
        if not isinstance(properties, dict) or event.get("event") in IDENTITY_EVENTS:
            return False
        identity = self._sink.identity
        event_id, reason = read_id(properties.get("distinct_id"))
        # A device ID without its prefix would become a user, who can never be merged.
        if reason is None and event_id in (distinct_id(self._writer.id_mode, identity), identity.device_id):
            properties.update(identity_properties(self._writer.id_mode, identity))
            return True
        if event_id.startswith(DEVICE_PREFIX):
            properties.setdefault("$device_id", event_id.removeprefix(DEVICE_PREFIX))
        return False


class _RefusedMessage(str):
    """Stands for a message that Mixpanel would not take, with the error."""

    __slots__ = ("error",)

    error: InvalidEventError


class _Serializer(json.JSONEncoder):
    """Writes values as `visitor.track` does, where the official library raises TypeError into a handler."""

    def __init__(self, *, on_stringified: OnStringified, **options: Any) -> None:
        super().__init__(**options)
        self._on_stringified = on_stringified

    def encode(self, o: Any) -> str:
        """Return the message in JSON."""
        try:
            plain = {
                name: converted(value, self._on_stringified, limits=RECORD)
                if isinstance(value, Mapping)
                else plain_value(value, self._on_stringified, name=name)
                for name, value in o.items()
            }
            return written(plain, self._on_stringified).decode()
        except InvalidEventError as error:
            message = _RefusedMessage("")
            message.error = error
            return message


def bound_mixpanel(writer: MessageWriter, sink: Sink) -> Mixpanel:
    """Build the official client whose messages go where the visitor's go."""
    serializer: Any = partial(_Serializer, on_stringified=writer.stringified)
    return Mixpanel(writer.token, consumer=VisitorConsumer(writer, sink), serializer=serializer)


def _parse_json(message: str) -> Any:
    try:
        return orjson.loads(message)
    except orjson.JSONDecodeError:
        return json.loads(message)  # accepts the NaN of the official library
