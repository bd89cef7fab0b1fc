"""Values: properties as JSON values, within Mixpanel's limits.

The time for a value is bounded by its bytes in JSON: its size is checked before it is read, and a value that
contains itself is cut. `value_types` has the conversion of each type.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from mixpanel_visitor.errors import InvalidEventError
from mixpanel_visitor.quoting import quoted, type_name

from .json_values import FLAT_TYPES, MANY, chars, is_part_of_itself, levels
from .value_types import conversion_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .json_values import Level

    OnStringified = Callable[[str, type], None]
    """Called with the property's name and the type of a value that became its text."""

MAX_RECORD_BYTES = 1_000_000
"""Mixpanel takes events and updates under 1 MB (reference: import-events)."""

MAX_TEXT_CHARS = 255
"""Mixpanel cuts strings there (reference: import-events), so the text of a value is cut there, too."""


MAX_PROFILE_PROPERTY_BYTES = 262_144
"""Mixpanel takes 256 KB in a list or object of a profile (property reference: data types)."""


class Limits(NamedTuple):
    """What Mixpanel takes in one property; None: there is no documented limit."""

    depth: int
    keys: int | None = None
    items: int | None = None
    nested_bytes: int = MAX_RECORD_BYTES


EVENT = Limits(depth=3, keys=255, items=255)
"""Fewer than 255 keys and items, three levels (reference: import-events)."""

RECORD = Limits(depth=50)
"""For values whose place in a record is not known; a deeper one is a mistake."""

PROFILE = Limits(depth=50, nested_bytes=MAX_PROFILE_PROPERTY_BYTES)
"""Mixpanel documents a size for lists and objects in profiles; for their depth see `RECORD`."""

CYCLE = "[...]"
"""Stands for a value within itself, as Python writes it."""

_MIN_INT, _MAX_INT = -(2**63), 2**64 - 1  # what the encoder can write
_MAX_DIGIT_BITS = 3_000  # Python takes quadratic time for the digits, and from 4,300 on refuses
_NOT_PLAIN: Final = object()
_CONSTANTS = {None: "null", True: "true", False: "false"}


def ignore_stringified(_name: str, _kind: type) -> None:
    """Ignore a value that became its text."""


class Converter:
    """Converts the properties of one record to JSON values.

    `exact`: also replaces in strings and numbers what the encoder cannot write, half a character and integers
    beyond 64 bits; needed only where the encoder has refused.
    """

    __slots__ = ("_budget_bytes", "_exact", "_limits", "_name", "_on_stringified", "_path", "_reserve_bytes")

    def __init__(
        self, limits: Limits, on_stringified: OnStringified = ignore_stringified, *, exact: bool = False
    ) -> None:
        self._limits = limits
        self._on_stringified = on_stringified
        self._exact = exact
        self._budget_bytes = MAX_RECORD_BYTES
        self._reserve_bytes = 0  # beyond the limit of this property
        self._name = ""
        self._path: list[int] = []

    def properties(self, properties: Mapping[Any, Any]) -> dict[str, Any]:
        """Return the properties as JSON values; raise `InvalidEventError` if Mixpanel would refuse them."""
        plain = {}
        for key, value in properties.items():
            self._name = name = key if type(key) is str and not self._exact else self._property_name(key)
            self.spend(len(name) + 4)
            plain[name] = self.value(value)
            self._budget_bytes, self._reserve_bytes = self._budget_bytes + self._reserve_bytes, 0
        return plain

    def value(self, value: Any, depth: int = 0) -> Any:
        """Return a value as a JSON value; `depth` is the number of lists and objects around it."""
        kind: Any = type(value)
        if kind in FLAT_TYPES:
            if kind is str:
                self.spend(len(value))
                return _well_formed(value) if self._exact else value
            return self._integer(value) if kind is int and self._exact else value
        self.spend(1)
        if kind is list or kind is tuple:
            self.expect_items(len(value))
            return self.items(value, value, depth)
        try:
            return conversion_of(kind)(self, value, depth)
        except InvalidEventError:
            raise
        except Exception:  # a method of the value's has failed: its text must do
            return self.stringified(self.text(value), kind)

    # --- for the conversions of types -------------------------------------------------------------

    def items(self, owner: Any, items: Iterable[Any], depth: int) -> Any:
        """Return a list; `owner` is the value that holds the items."""
        if id(owner) in self._path:
            return self.stringified(CYCLE, type(owner))
        self._enter(depth)
        max_items = self._limits.items
        members = list(islice(items, max(self._budget_bytes, 0) if max_items is None else max_items))
        self.expect_items(len(members))
        if not self._exact and FLAT_TYPES.issuperset(map(type, members)):
            self.spend(2 * len(members) + chars(members))
            return members
        if len(members) >= MANY and (plain := self._plain(owner, depth)) is not _NOT_PLAIN:
            return plain
        self.spend(2 * len(members))
        self._path.append(id(owner))
        try:
            return [self.value(member, depth + 1) for member in members]
        finally:
            self._path.pop()

    def pairs(self, owner: Any, pairs: Iterable[tuple[Any, Any]], depth: int) -> Any:
        """Return an object; `owner` is the value that holds the pairs."""
        if id(owner) in self._path:
            return self.stringified(CYCLE, type(owner))
        self._enter(depth)
        max_keys = self._limits.keys
        members = list(islice(pairs, max(self._budget_bytes, 0) if max_keys is None else max_keys))
        self.expect_keys(len(members))
        if len(members) >= MANY and (plain := self._plain(owner, depth)) is not _NOT_PLAIN:
            return plain
        self._path.append(id(owner))
        try:
            result = {}
            for key, member in members:
                name = key if type(key) is str and not self._exact else self._key(key)
                self.spend(len(name) + 4)
                result[name] = self.value(member, depth + 1)
        finally:
            self._path.pop()
        return result

    def expect_items(self, count: int) -> None:
        """Refuse a list with too many items, before it is read."""
        self._expect(count, self._limits.items, "items")

    def expect_keys(self, count: int) -> None:
        """Refuse an object with too many keys, before it is read."""
        self._expect(count, self._limits.keys, "keys")

    def spend(self, size: int) -> None:
        """Count bytes of JSON; raise `InvalidEventError` for more than Mixpanel takes."""
        self._budget_bytes -= size
        if self._budget_bytes < 0:
            raise self._too_large()

    def text(self, value: Any) -> str:
        """Return the text of a value, cut as Mixpanel cuts; if `str` fails, the name of its type."""
        try:
            text = str.__getitem__(str(value), slice(MAX_TEXT_CHARS))
        except Exception:  # its text is foreign code
            text = f"<{type_name(type(value))}>"
        self.spend(len(text))
        return _well_formed(text)

    def stringified(self, text: str, kind: type) -> str:
        """Return the text in place of a value of this type, and report it to `on_stringified`."""
        self._on_stringified(self._name, kind)
        return text[:MAX_TEXT_CHARS]

    # --- inside -----------------------------------------------------------------------------------

    def _enter(self, depth: int) -> None:
        """Refuse a list or object that is too deep; limit the budget for the outermost one."""
        if depth >= self._limits.depth:
            raise self._too_deep()
        if not depth and self._budget_bytes > self._limits.nested_bytes:
            self._reserve_bytes = self._budget_bytes - self._limits.nested_bytes
            self._budget_bytes = self._limits.nested_bytes

    def _plain(self, owner: Any, depth: int) -> Any:
        """Return a copy of a list or object that is JSON already; else `_NOT_PLAIN`."""
        if self._exact:
            return _NOT_PLAIN
        budget_bytes = self._budget_bytes
        read_levels = []
        try:
            for level in levels(owner):
                read_levels.append(level)
                if not level.is_plain or not self._spend_level(level, depth + len(read_levels)):
                    break
            else:
                return orjson.loads(orjson.dumps(owner))
        except InvalidEventError:
            # A value that contains itself only seems to be too large.
            if not is_part_of_itself(read_levels, self._path):
                raise
        except ValueError:  # half a character, or an integer beyond 64 bits
            pass
        self._budget_bytes = budget_bytes
        return _NOT_PLAIN

    def _spend_level(self, level: Level, depth: int) -> bool:
        """Count the bytes of a level at this depth; False: a name is no string."""
        if depth > self._limits.depth:
            raise self._too_deep()
        self.expect_items(level.longest_list)
        self.expect_keys(level.largest_object)
        self.spend(2 * level.size)
        names = level.names
        if names and set(map(type, names)) != {str}:
            return False
        self.spend(2 * len(names) + chars(names) + chars(level.values))
        return True

    def _too_large(self) -> InvalidEventError:
        if self._reserve_bytes:
            return InvalidEventError("too_large", nested_too_large(self._name))
        return InvalidEventError(
            "too_large",
            f"it is more than Mixpanel's limit of {MAX_RECORD_BYTES:,} bytes, with property "
            f"{quoted(self._name)}; send fewer or shorter properties",
        )

    def _too_deep(self) -> InvalidEventError:
        return InvalidEventError(
            "too_deep",
            f"property {quoted(self._name)} is nested more than {self._limits.depth} levels deep; flatten it",
        )

    def _expect(self, count: int, fewer_than: int | None, noun: str) -> None:
        if fewer_than is not None and count >= fewer_than:
            raise InvalidEventError(
                "too_large",
                f"property {quoted(self._name)} has {count:,} {noun}, Mixpanel takes fewer than {fewer_than}",
            )
        if 2 * count > self._budget_bytes:
            self.spend(2 * count)

    def _property_name(self, key: Any) -> str:
        name = self._key(key)
        if not issubclass(type(key), str):
            self._name = name
            self._on_stringified(name, type(key))
        return name

    def _key(self, key: Any) -> str:
        try:
            plain = self.value(key, self._limits.depth)
        except InvalidEventError:
            plain = self.text(key)  # a list or object is deeper than that
        if type(plain) is int:
            plain = self._integer(plain)
        if plain is None or plain is True or plain is False:
            return _CONSTANTS[plain]
        return plain if type(plain) is str else str(plain)

    def _integer(self, value: int) -> Any:
        if _MIN_INT <= value <= _MAX_INT:
            return value
        if value.bit_length() > _MAX_DIGIT_BITS:
            return self.stringified(f"<int of {value.bit_length():,} bits>", int)
        text = str(value)
        return text if len(text) <= MAX_TEXT_CHARS else self.stringified(text, int)


def nested_too_large(name: str) -> str:
    """Return the message for a too large list or object of a profile."""
    return (
        f"property {quoted(name)} is a list or object of more than {MAX_PROFILE_PROPERTY_BYTES:,} bytes, and "
        "Mixpanel takes no more of one in a profile; send less of it, or events instead"
    )


def _well_formed(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
