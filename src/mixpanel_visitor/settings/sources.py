"""Sources: which value each setting gets, and from where; keyword beats mapping beats environment."""

from __future__ import annotations

import re
import reprlib
from typing import TYPE_CHECKING, Any, NamedTuple

from mixpanel_visitor.spelling import closest

from .masked import without_secrets
from .service_account import PART_KEYS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

BRAND = "MIXPANEL_"
PREFIX = "MIXPANEL_VISITOR_"

_MIN_SIMILARITY = 0.8
"""difflib's ratio for TOKNE and TOKEN; API_SECRET and API_HOST have a lower one."""

_ALL_SETTINGS = "help(mixpanel_visitor.Settings) lists all of them"
_URL_PASSWORD = re.compile(r"//.*@", re.DOTALL)
_shorten = reprlib.Repr()
_shorten.maxstring = _shorten.maxother = 80


class Spec(NamedTuple):
    """How one setting is read: its check, and its names outside of Python.

    `parse` returns the value in its normal form (and is idempotent), or raises ValueError with what is wrong
    and the fix. `keys` are the names in a mapping and in the environment, the recommended one first. With
    `allows_none` None is a value; a `code_only` setting has no text form, so no environment variable.
    """

    name: str
    parse: Callable[[Any], Any]
    keys: tuple[str, ...]
    secret: bool = False
    allows_none: bool = False
    code_only: bool = False


class RawValue(NamedTuple):
    """A value as given, and its origin as messages name it."""

    value: Any
    origin: str
    of_framework: bool = False

    def describe(self, spec: Spec) -> str:
        """Return the setting's name, value and origin for a message, without secrets."""
        if spec.secret:
            return f"{spec.name} ({self.origin})"
        # Masked first: a shortened URL may end in its password, without the @.
        value = without_secrets(self.value) if isinstance(self.value, str) else self.value
        value_shown = _URL_PASSWORD.sub("//***@", _shorten.repr(value))
        return f"{spec.name}={value_shown} ({self.origin})"


class Sources:
    """Raw values of the settings in `specs`, and problems for names that are no setting."""

    def __init__(
        self,
        specs: Mapping[str, Spec],
        keywords: Mapping[str, Any],
        mapping: Mapping[str, Any],
        environ: Mapping[str, str],
    ) -> None:
        self.problems: list[str] = []
        self.raw: dict[str, RawValue] = {}
        self._specs = specs
        self._keywords = keywords
        # Compose files and CI set empty text for a variable without a value.
        self._named_sources = [
            ("the mapping", {key: value for key, value in mapping.items() if not _is_blank(value)}),
            ("the environment", {key: value for key, value in environ.items() if not _is_blank(value)}),
        ]
        for spec in specs.values():
            raw_value = self._raw_value(spec)
            if raw_value is not None:
                self.raw[spec.name] = raw_value
        self._refuse_unknown(mapping, environ)

    def has_key(self, key: str) -> bool:
        """Return whether the mapping or the environment holds something under `key`."""
        return any(key in source for _, source in self._named_sources)

    def _raw_value(self, spec: Spec) -> RawValue | None:
        if spec.name in self._keywords and (spec.allows_none or self._keywords[spec.name] is not None):
            return RawValue(self._keywords[spec.name], "keyword")
        if spec.name == "service_account":
            return self._service_account()
        for place, source in self._named_sources:
            if spec.code_only and place == "the environment":
                continue
            for key in spec.keys:
                if key in source and (spec.allows_none or source[key] is not None):
                    return RawValue(source[key], f"{key} in {place}")
        return self._framework_secret() if spec.name == "secret_key" else None

    def _service_account(self) -> RawValue | None:
        """Join the three parts, which may come from different sources."""
        parts: dict[str, object] = {}
        origins: list[str] = []
        for part, key in PART_KEYS.items():
            for place, source in self._named_sources:
                if source.get(key) is not None:
                    parts[part] = source[key]
                    origins.append(f"{key} in {place}")
                    break
        # A project ID alone is for another tool.
        return RawValue(parts, ", ".join(origins)) if parts.keys() - {"project_id"} else None

    def _framework_secret(self) -> RawValue | None:
        """Return Flask's keys: SECRET_KEY signs, its fallbacks only verify."""
        place, mapping = self._named_sources[0]
        secret, fallbacks = mapping.get("SECRET_KEY"), mapping.get("SECRET_KEY_FALLBACKS")
        if secret is None:
            return None
        if fallbacks is None:
            return RawValue(secret, f"SECRET_KEY in {place}", of_framework=True)
        old_keys = fallbacks if isinstance(fallbacks, (list, tuple)) else [fallbacks]
        return RawValue(
            [*old_keys, secret], f"SECRET_KEY_FALLBACKS and SECRET_KEY in {place}", of_framework=True
        )

    def _refuse_unknown(self, mapping: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        for name in self._keywords:
            if name not in self._specs:
                suggestion = closest(name, self._specs)
                hint = f"did you mean {suggestion}?" if suggestion else _ALL_SETTINGS
                self.problems.append(f"{name} (keyword): there is no such setting; {hint}")
        keys = {key: spec for spec in self._specs.values() for key in spec.keys}
        for place, source in (("the mapping", mapping), ("the environment", environ)):
            for key in source:
                if not isinstance(key, str) or not key.startswith(PREFIX):
                    continue  # MIXPANEL_... without VISITOR may be another program's
                spec = keys.get(key)
                if spec is None:
                    self.problems.append(f"{key} in {place}: there is no such setting; {self._hint(key)}")
                elif spec.code_only and place == "the environment":
                    self.problems.append(
                        f"{key} in {place}: {spec.name} cannot be text; give it in code, as keyword"
                    )

    def near_misses(self) -> Iterator[str]:
        """Yield a line for each name that looks like a misspelt setting.

        Other programs may use such names, so they are not refused.
        """
        known = {key: spec for spec in self._specs.values() for key in spec.keys} | dict.fromkeys(
            PART_KEYS.values()
        )
        key_by_name = {name.upper(): spec.keys[0] for name, spec in self._specs.items() if not spec.code_only}
        key_by_suffix = {key.removeprefix(BRAND): key for key in known}
        for place, source in self._named_sources:
            for key in source:
                if not isinstance(key, str) or not key.startswith(BRAND) or key in known:
                    continue
                suffix = key.removeprefix(BRAND)
                if key.startswith(PREFIX) or self.has_key(key_by_name.get(suffix, "")):
                    continue
                import difflib  # noqa: PLC0415  # late: for mistakes only

                matches = difflib.get_close_matches(suffix, key_by_suffix, n=1, cutoff=_MIN_SIMILARITY)
                suggestion = key_by_name.get(suffix) or (key_by_suffix[matches[0]] if matches else "")
                if suggestion and not self.has_key(suggestion):
                    yield f"{key} in {place} is no setting and does nothing; did you mean {suggestion}?"

    def _hint(self, key: str) -> str:
        suggestion = closest(key.removeprefix(PREFIX).lower(), self._specs)
        return _ALL_SETTINGS if suggestion is None else f"did you mean {self._specs[suggestion].keys[0]}?"


def _is_blank(value: object) -> bool:
    return isinstance(value, str) and not value.strip()
