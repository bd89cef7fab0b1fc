"""Plan: the events of an application, declared as classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from mixpanel_visitor.core.events.record_builder import MAX_NAME_CHARS
from mixpanel_visitor.errors import InvalidEventError
from mixpanel_visitor.quoting import several

from .differences import Difference, differences
from .event import Event
from .lexicon import lexicon
from .lint import find_problems
from .models import EVENT_NAME, is_model, values_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_Class = TypeVar("_Class", bound=type)


class Plan:
    """The events that an application may track.

    With `partial=True` only declared events are compared, and others are no difference.

    >>> from dataclasses import dataclass
    >>> plan = Plan()
    >>> @plan.event("Signed up")
    ... @dataclass
    ... class SignedUp:
    ...     plan: str
    >>> plan.read(SignedUp(plan="pro"))
    ('Signed up', {'plan': 'pro'})
    >>> [str(difference) for difference in plan.differences("Signed up", {"plan": 3})]
    ['plan: 3 is an integer, must be a string']
    """

    def __init__(self, *, partial: bool = False) -> None:
        self.partial = partial
        self._events: dict[str, Event] = {}
        self._by_class: dict[type, Event] = {}

    def __repr__(self) -> str:
        return f"<Plan of {several(len(self._events), 'event')}>"

    @property
    def events(self) -> Mapping[str, Event]:
        """The declared events by name."""
        return self._events

    def event(
        self, name: str, *, description: str = "", display_name: str = "", tags: Iterable[str] = ()
    ) -> Callable[[_Class], _Class]:
        """Declare an event: a decorator for a dataclass (above `@dataclass`), pydantic model or struct.

        Its fields are the properties; those with a default are optional. `description` defaults to the
        class's docstring. Raise TypeError for other classes, ValueError for a name that is taken.
        """
        if not isinstance(name, str):
            raise TypeError(f"the event's name is missing: write @plan.event('Signed up'), not {name!r}")

        def declare(cls: _Class) -> _Class:
            if not is_model(cls):
                raise TypeError(
                    f"{getattr(cls, '__name__', cls)!s} has no fields to read: an event is a dataclass, with "
                    "@plan.event(...) above @dataclass, a pydantic model or a msgspec struct"
                )
            if name in self._events:
                raise ValueError(f"{name!r} is declared already, as {self._events[name].cls.__qualname__}")
            event = Event(name, cls, description=description, display_name=display_name, tags=tuple(tags))
            self._events[name] = self._by_class[cls] = event
            setattr(cls, EVENT_NAME, name)
            return cls

        return declare

    def resolve(self) -> None:
        """Read the types of all events now; raise ValueError for one that cannot be read."""
        for event in self._events.values():
            try:
                event.schema  # noqa: B018  # the property builds it
            except Exception as error:
                raise ValueError(
                    f"the types of {event.cls.__qualname__} ({event.name!r}) cannot be read: {error}; import "
                    "what they name outside of `if TYPE_CHECKING:`"
                ) from error

    def read(self, instance: object) -> tuple[str, dict[str, Any]]:
        """Return an instance's name and properties; raise `InvalidEventError` for an undeclared class."""
        event = next((self._by_class[cls] for cls in type(instance).__mro__ if cls in self._by_class), None)
        if isinstance(instance, type) and instance in self._by_class:
            raise InvalidEventError(
                "bad_name", f"{instance.__name__} is a class: give an instance, {instance.__name__}(...)"
            )
        if event is None:
            raise InvalidEventError(
                "bad_name",
                f"an event is a name or an instance of a class of the plan, not {type(instance).__name__}; "
                "declare it: @plan.event('Signed up')",
            )
        try:
            return event.name, values_of(instance)
        except Exception as error:
            raise InvalidEventError(
                "bad_properties", f"the fields of {type(instance).__name__} cannot be read: {error}"
            ) from error

    def differences(
        self, name: str, properties: Mapping[str, Any] | None, *, complete: bool = True
    ) -> list[Difference]:
        """Return how an event differs from the plan; Mixpanel's own events (`$...`) never do.

        With `complete=False` the event has further properties, so none counts as missing.
        """
        event = self._events.get(name)
        if event is not None:
            return list(differences(event.schema, properties or {}, complete=complete))
        if self.partial or name.startswith(("$", "mp_")):
            return []
        return [Difference("", "is not in the plan", word=name[:MAX_NAME_CHARS], known=tuple(self._events))]

    def problems(self) -> list[str]:
        """Return mistakes of the plan itself, such as a property with two types, one line each."""
        return find_problems(self._events.values())

    def lexicon(self) -> dict[str, Any]:
        """Return the plan as the body of a request to Mixpanel's Lexicon Schemas API."""
        return lexicon(self._events.values())
