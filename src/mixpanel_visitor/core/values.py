"""Values: what properties are in JSON, within Mixpanel's limits.

A value costs as much time as what becomes of it has bytes: sizes are asked before a value is read, and what
holds itself is cut. What each type becomes stands in `value_types`.
"""

from __future__ import annotations

from itertools import islice
from operator import length_hint
from typing import TYPE_CHECKING, Any, NamedTuple

from mixpanel_visitor.errors import InvalidEventError
from mixpanel_visitor.quoting import quoted, type_name

from .scrubbing import FLAT_TYPES
from .value_types import way_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Told = Callable[[str, type], None]
    """Is told the property and the type of a value that became its text."""

MAX_RECORD_BYTES = 1_000_000
"""Mixpanel takes events and updates under 1 MB (reference: import-events)."""

MAX_TEXT_CHARS = 255
"""Mixpanel cuts strings there (reference: import-events), so the text of a value is cut there, too."""


class Limits(NamedTuple):
    """What Mixpanel takes in one property; None: there is no documented limit."""

    depth: int
    keys: int | None = None
    items: int | None = None


EVENT = Limits(depth=3, keys=255, items=255)
"""Fewer than 255 keys and items, three levels (reference: import-events)."""

PROFILE = Limits(depth=50)
"""Mixpanel documents none for profiles; what is deeper than this is a mistake."""

CYCLE = "[...]"
"""Stands for a value within itself, as Python writes it."""

_MIN_INT, _MAX_INT = -(2**63), 2**64 - 1  # what the encoder can write
_MAX_DIGIT_BITS = 3_000  # Python takes quadratic time for the digits, and from 4,300 on refuses
_WORDS = {None: "null", True: "true", False: "false"}


def untold(_name: str, _kind: type) -> None:
    """Take no notice of values that became their text."""


class Converter:
    """Makes JSON's values of the properties of one record.

    `exact`: also looks at each string and number for what the encoder cannot write, half a character and
    integers beyond 64 bits; needed only where the encoder has refused.
    """

    __slots__ = ("_exact", "_left", "_limits", "_name", "_path", "_told")

    def __init__(self, limits: Limits, told: Told = untold, *, exact: bool = False) -> None:
        self._limits = limits
        self._told = told
        self._exact = exact
        self._left = MAX_RECORD_BYTES
        self._name = ""
        self._path: list[int] = []

    def properties(self, given: Mapping[Any, Any]) -> dict[str, Any]:
        """Return the properties as JSON has them; raises `InvalidEventError` where Mixpanel would refuse."""
        plain = {}
        for key, value in given.items():
            self._name = name = key if type(key) is str and not self._exact else self._property_name(key)
            self.spend(len(name) + 4)
            plain[name] = self.value(value)
        return plain

    def value(self, value: Any, depth: int = 0) -> Any:
        """Return a value as JSON has it; `depth` is the number of lists and objects around it."""
        kind: Any = type(value)
        if kind in FLAT_TYPES:
            if kind is str:
                self.spend(len(value))
                return _well_formed(value) if self._exact else value
            return self._integer(value) if kind is int and self._exact else value
        self.spend(2)
        if kind is list or kind is tuple:
            self.expect_items(len(value))
            return self.items(value, value, depth)
        try:
            return way_of(kind)(self, value, depth)
        except InvalidEventError:
            raise
        except Exception:  # a method of the value's failed: whatever it is, the event is worth more
            return self.noted(self.text(value), kind)

    # --- for the ways of types --------------------------------------------------------------------

    def items(self, owner: Any, items: Iterable[Any], depth: int) -> Any:
        """Return a list; `owner` is the value that holds the items."""
        if id(owner) in self._path:
            return self.noted(CYCLE, type(owner))
        if depth >= self._limits.depth:
            raise self._too_deep()
        most = self._limits.items
        found = list(islice(items, max(self._left, 0) if most is None else most))
        self.expect_items(len(found))
        self.spend(2 * len(found))
        if not self._exact and FLAT_TYPES.issuperset(map(type, found)):
            self.spend(sum(map(length_hint, found)))  # of the strings: the others have none
            return found
        self._path.append(id(owner))
        try:
            return [self.value(each, depth + 1) for each in found]
        finally:
            self._path.pop()

    def pairs(self, owner: Any, pairs: Iterable[tuple[Any, Any]], depth: int) -> Any:
        """Return an object; `owner` is the value that holds the pairs."""
        if id(owner) in self._path:
            return self.noted(CYCLE, type(owner))
        if depth >= self._limits.depth:
            raise self._too_deep()
        most = self._limits.keys
        found = list(islice(pairs, max(self._left, 0) if most is None else most))
        self.expect_keys(len(found))
        self._path.append(id(owner))
        try:
            plain = {}
            for key, each in found:
                name = key if type(key) is str and not self._exact else self._key(key)
                self.spend(len(name) + 4)
                plain[name] = self.value(each, depth + 1)
        finally:
            self._path.pop()
        return plain

    def expect_items(self, number: int) -> None:
        """Refuse a list with so many items, before anybody reads it."""
        self._expect(number, self._limits.items, "items")

    def expect_keys(self, number: int) -> None:
        """Refuse an object with so many keys, before anybody reads it."""
        self._expect(number, self._limits.keys, "keys")

    def spend(self, size: int) -> None:
        """Count what is written; refuses what is more than Mixpanel takes."""
        self._left -= size
        if self._left < 0:
            raise InvalidEventError(
                "too_large",
                f"it is more than Mixpanel's limit of {MAX_RECORD_BYTES:,} bytes, with property "
                f"{quoted(self._name)}; send fewer or shorter properties",
            )

    def text(self, value: Any) -> str:
        """Return the text of a value, cut as Mixpanel cuts; of one whose text fails, the name of its type."""
        try:
            text = str.__getitem__(str(value), slice(MAX_TEXT_CHARS))
        except Exception:  # its text is foreign code
            text = f"<{type_name(type(value))}>"
        self.spend(len(text))
        return _well_formed(text)

    def noted(self, text: str, kind: type) -> str:
        """Return the text that stands for a value of this type, and tell that it does."""
        self._told(self._name, kind)
        return text[:MAX_TEXT_CHARS]

    # --- inside -----------------------------------------------------------------------------------

    def _too_deep(self) -> InvalidEventError:
        return InvalidEventError(
            "too_deep",
            f"property {quoted(self._name)} is nested more than {self._limits.depth} levels deep; flatten it",
        )

    def _expect(self, number: int, fewer_than: int | None, what: str) -> None:
        if fewer_than is not None and number >= fewer_than:
            raise InvalidEventError(
                "too_large",
                f"property {quoted(self._name)} has {number:,} {what}, Mixpanel takes fewer than "
                f"{fewer_than}",
            )
        if 2 * number > self._left:
            self.spend(2 * number)

    def _property_name(self, key: Any) -> str:
        name = self._key(key)
        if not issubclass(type(key), str):
            self._name = name
            self._told(name, type(key))
        return name

    def _key(self, key: Any) -> str:
        try:
            plain = self.value(key, self._limits.depth)
        except InvalidEventError:
            plain = self.text(key)  # what holds others is deeper than that
        if type(plain) is int:
            plain = self._integer(plain)
        if plain is None or plain is True or plain is False:
            return _WORDS[plain]
        return plain if type(plain) is str else str(plain)

    def _integer(self, value: int) -> Any:
        if _MIN_INT <= value <= _MAX_INT:
            return value
        if value.bit_length() > _MAX_DIGIT_BITS:
            return self.noted(f"<int of {value.bit_length():,} bits>", int)
        text = str(value)
        return text if len(text) <= MAX_TEXT_CHARS else self.noted(text, int)


def _well_formed(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
