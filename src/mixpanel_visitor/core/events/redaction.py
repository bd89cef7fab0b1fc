"""Redaction: takes secrets out of the properties of an event.

A deny list of names. Values are not examined: a card number under the name "note" stays.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from .json_values import FLAT_TYPES, MANY, levels
from .values import MAX_RECORD_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SECRET_NAMES = (
    "access key", "access token", "api key", "api secret", "auth token", "authenticity token",
    "authorization",
    "bearer", "card number", "cc number", "client secret", "credentials", "credit card", "credit card number",
    "csrf", "csrf token", "cvc", "cvv", "id token", "jwt", "otp", "passphrase", "passwd", "password",
    "password confirmation", "private key", "pwd", "refresh token", "secret", "secret key", "security code",
    "session id", "session key", "session token", "social security number", "ssn", "token", "xsrf token",
)  # fmt: skip
"""The names for which the entry `"default"` stands."""

REDACTED = "REDACTED"
"""The text in place of a secret."""

MAX_DEPTH = 8
"""Deeper levels are not examined; Mixpanel takes three levels."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+")

_NAMES_CACHED = 4096
_CALLS_CACHED = 1024
_NAME_MAX_CHARS = 256


class Redactor:
    """Recognizes secrets by their names: `password`, `user[password]`, `newPassword2`, `API_KEY`, `apikey`.

    A name is secret if it ends with the words of an entry, however they are joined; so `token_count` and
    `passwords_changed` are not. The entry `"default"` stands for `SECRET_NAMES`; without `names` no
    name is secret.
    """

    def __init__(self, names: Iterable[str] = ("default",)) -> None:
        configured = {"".join(_words(name)) for name in names} - {""}
        defaults = {"".join(_words(name)) for name in SECRET_NAMES} if "default" in configured else set()
        entries = frozenset(configured - {"default"} | defaults)

        def is_secret(name: str) -> bool:
            words = _words(name)
            return any("".join(words[start:]) in entries for start in range(len(words)))

        self._has_entries = bool(entries)
        self.is_secret: Callable[[str], bool] = lru_cache(_NAMES_CACHED)(is_secret) if entries else _never
        # The same call always has the same names: mostly one look-up for all of them.
        self._are_plain = lru_cache(_CALLS_CACHED)(self._are_plain_names)

    def _are_plain_names(self, names: tuple[Any, ...]) -> bool:
        return all(isinstance(name, str) and not self.is_secret(name) for name in names)

    def is_plain(self, properties: Mapping[Any, Any]) -> bool:
        """Return whether nothing needs redaction: no secret names, and short flat values."""
        chars = 0
        for value in properties.values():
            kind = type(value)
            if kind is str:
                chars += len(value)
            elif kind not in FLAT_TYPES:
                return False
        return chars < MAX_RECORD_BYTES and self._are_plain(tuple(properties))

    def clean(self, properties: Mapping[str, Any], on_secret: Callable[[str], None]) -> Mapping[str, Any]:
        """Return properties with secrets replaced: the same object where there are none, else a copy.

        `on_secret` is called with the name of each.
        """
        if not self._has_entries or self.is_plain(properties):
            return properties
        cleaned: Mapping[str, Any] = self._cleaned(properties, on_secret, 0)
        return cleaned

    def _has_no_secret(self, value: Any, depth: int) -> bool:
        """Return whether all is plain, without a secret's name at any depth that is examined."""
        for level in islice(levels(value), MAX_DEPTH + 1 - depth):
            names = set(level.names)
            if not level.is_plain or any(type(name) is not str or self.is_secret(name) for name in names):
                return False
        return True

    def _cleaned(self, value: Any, on_secret: Callable[[str], None], depth: int) -> Any:
        if depth > MAX_DEPTH:
            return value
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
            cleaned = self._cleaned(fields, on_secret, depth)
            return value if cleaned is fields else cleaned
        if isinstance(value, (dict, list)) and len(value) >= MANY and self._has_no_secret(value, depth):
            return value
        if isinstance(value, Mapping):
            changed = {}
            for name, item in value.items():
                if isinstance(name, str) and self.is_secret(name):
                    if item is not None and item != REDACTED:
                        on_secret(name)
                        changed[name] = REDACTED
                elif type(item) not in FLAT_TYPES:
                    cleaned = self._cleaned(item, on_secret, depth + 1)
                    if cleaned is not item:
                        changed[name] = cleaned
            return {**value, **changed} if changed else value
        if isinstance(value, (list, tuple)):
            items = [
                item if type(item) in FLAT_TYPES else self._cleaned(item, on_secret, depth + 1)
                for item in value
            ]
            return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
        return value


def _words(name: str) -> list[str]:
    """Split a name at signs, digits and capitals; return the words in lower case."""
    name = name[:_NAME_MAX_CHARS]
    return [word.lower() for word in _WORD.findall(unquote(name) if "%" in name else name)]


def _never(_name: str) -> bool:
    return False
