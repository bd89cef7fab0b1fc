"""Settings: everything that can be configured, from keywords, a mapping or the environment.

All mistakes are found at once and raised as one `SettingsError`; each says what, where and the fix.
"""

from __future__ import annotations

import difflib
import logging
import os
from dataclasses import MISSING, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, Self

from .errors import SettingsError
from .setting_rules import (
    API_HOSTS,
    ServiceAccount,
    a_callable,
    a_choice,
    a_cookie_domain,
    a_cookie_name,
    a_flag,
    a_handover_path,
    a_host,
    a_lifetime,
    a_network_list,
    a_service_account,
    a_spool,
    a_string,
    a_token,
    browser_sdks,
    default_spool,
    mapping_or_callable,
    secret_keys,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from ipaddress import IPv4Network, IPv6Network

    Rule = Callable[[Any], Any]

logger = logging.getLogger("mixpanel_visitor")

SHORT_KEY_CHARS = 16
PREFIX = "MIXPANEL_VISITOR_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one tracker; build it with `resolve`, `from_env` or `from_mapping`.

    | field | meaning |
    |---|---|
    | `token` | the project token |
    | `secret_key` | signs the visitor cookie; a list for rotation, oldest first, the last one signs |
    | `region`, `api_host` | `"us"`, `"eu"`, `"in"`; or the host or URL of a proxy or the local Mixpanel |
    | `service_account` | user name, secret, project ID; without it `/import` takes the token |
    | `spool` | where accepted events wait: a directory, or `memory:` |
    | `durability` | `"after-response"`, or `"before-response"`: stored before the response's last byte |
    | `deliver` | False: this process only stores, another one that shares the spool delivers |
    | `id_mode` | how the project merges IDs: `"simplified"`, `"original"`, `"legacy"`, `"spid"` |
    | `browser_sdk`, `spid_...`, `handover_path` | the browser's side; checked, not used in this version |
    | `cookie_name`, `cookie_domain`, `cookie_max_age_s` | the visitor cookie; seconds, 400 days at most |
    | `consent` | `(facts) -> "granted" / "denied" / "unknown"`; default: everyone not opted out |
    | `respect_dnt`, `respect_gpc` | whether `DNT: 1` and `Sec-GPC: 1` mean no |
    | `trusted_proxies` | networks whose `X-Forwarded-...` is believed; checked, not used in this version |
    | `bots` | `"drop"`, `"tag"` (tracked, never minted) or `"keep"` |
    | `before_send` | `(event) -> event or None`, the last word on every event |
    | `extra_properties` | a mapping, or a callable `(facts)` or `()`, added to every event |
    | `request_filter` | `(facts) -> bool`: True for requests to leave alone |
    | `enabled`, `dry_run` | track at all; or only validate and log |
    | `on_error` | `"log"`, or `"raise"` for tests: bad input to `track` raises |
    """

    token: str
    secret_key: tuple[str, ...] = field(default=(), repr=False)
    region: Literal["us", "eu", "in"] = "us"
    api_host: str = ""
    service_account: ServiceAccount | None = None
    spool: str = ""
    durability: Literal["after-response", "before-response"] = "after-response"
    deliver: bool = True
    id_mode: Literal["simplified", "original", "legacy", "spid"] = "simplified"
    browser_sdk: tuple[str, ...] = ("mixpanel",)
    spid_client_id: str | None = None
    spid_sign_secret: str | None = field(default=None, repr=False)
    spid_production: bool = True
    handover_path: str | None = "/_visitor"
    cookie_name: str = "mpv"
    cookie_domain: str | None = None
    cookie_max_age_s: int = 365 * 86_400
    consent: Callable[..., Any] | None = None
    respect_dnt: bool = True
    respect_gpc: bool = True
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    bots: Literal["drop", "tag", "keep"] = "drop"
    before_send: Callable[[dict[str, Any]], dict[str, Any] | None] | None = None
    extra_properties: Mapping[str, Any] | Callable[..., Mapping[str, Any]] | None = None
    request_filter: Callable[..., Any] | None = None
    enabled: bool = True
    dry_run: bool = False
    on_error: Literal["log", "raise"] = "log"

    @classmethod
    def from_env(cls, **given: Any) -> Self:
        """Read the environment; keywords win."""
        return cls.resolve(given)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], **given: Any) -> Self:
        """Read a mapping with keys such as `MIXPANEL_TOKEN`, then the environment; keywords win."""
        return cls.resolve(given, mapping=mapping)

    @classmethod
    def resolve(
        cls,
        given: Mapping[str, Any],
        *,
        mapping: Mapping[str, Any] | None = None,
        environ: Mapping[str, str] | None = None,
        require_secret: bool = True,
    ) -> Self:
        """Find, check and complete all settings: keyword beats mapping beats environment beats default.

        A mapping's `SECRET_KEY` and `SECRET_KEY_FALLBACKS` (Flask's) sign where no key of ours is given.
        `require_secret=False` is for processes that only deliver.
        """
        reader = _Reader(given, mapping or {}, os.environ if environ is None else environ)
        values = reader.read(require_secret=require_secret)
        if reader.problems:
            raise SettingsError(reader.problems)
        for key in values["secret_key"]:
            if len(key) < SHORT_KEY_CHARS:
                logger.warning(
                    "secret_key has %d characters; whoever guesses it can forge visitor cookies. "
                    "Use 32 random ones: python -c 'import secrets; print(secrets.token_hex())'.",
                    len(key),
                )
                break
        return cls(**values)


_REGIONS = a_choice("us", "eu", "in")

_RULES: dict[str, Rule] = {
    "token": a_token,
    "secret_key": secret_keys,
    "region": _REGIONS,
    "api_host": a_host,
    "service_account": a_service_account,
    "spool": a_spool,
    "durability": a_choice("after-response", "before-response"),
    "deliver": a_flag,
    "id_mode": a_choice("simplified", "original", "legacy", "spid"),
    "browser_sdk": browser_sdks,
    "spid_client_id": a_string,
    "spid_sign_secret": a_string,
    "spid_production": a_flag,
    "handover_path": a_handover_path,
    "cookie_name": a_cookie_name,
    "cookie_domain": a_cookie_domain,
    "cookie_max_age_s": a_lifetime,
    "consent": a_callable,
    "respect_dnt": a_flag,
    "respect_gpc": a_flag,
    "trusted_proxies": a_network_list,
    "bots": a_choice("drop", "tag", "keep"),
    "before_send": a_callable,
    "extra_properties": mapping_or_callable,
    "request_filter": a_callable,
    "enabled": a_flag,
    "dry_run": a_flag,
    "on_error": a_choice("log", "raise"),
}

_OWN_NAMES = {"token": "MIXPANEL_TOKEN", "region": "MIXPANEL_REGION", "api_host": "MIXPANEL_API_HOST"}
_KEYS = {_OWN_NAMES.get(name, PREFIX + name.upper()): name for name in _RULES if name != "service_account"}
_KEYS |= dict.fromkeys(("MIXPANEL_PROJECT_TOKEN",), "token")
_NO_TEXT = ("consent", "before_send", "extra_properties", "request_filter")
_OPTIONAL = ("api_host", "service_account", "spool", "spid_client_id", "spid_sign_secret", "handover_path",
             "cookie_domain", "consent", "trusted_proxies", "before_send", "extra_properties",
             "request_filter", "browser_sdk")  # fmt: skip
"""None is a value of these: it stands for the default or for "none of it"."""

_SECRETS = ("secret_key", "spid_sign_secret", "service_account", "token")
_ACCOUNT_KEYS = {
    "username": "MIXPANEL_SERVICE_ACCOUNT_USERNAME",
    "secret": "MIXPANEL_SERVICE_ACCOUNT_SECRET",
    "project_id": "MIXPANEL_PROJECT_ID",
}


class _Reader:
    """Collects values from three sources, and every problem on the way."""

    def __init__(
        self, given: Mapping[str, Any], mapping: Mapping[str, Any], environ: Mapping[str, str]
    ) -> None:
        self.problems: list[str] = []
        self._found: dict[str, tuple[str, Any]] = {}
        self._environ = environ
        self._from_keys(environ, "environment", text=True)
        self._account(environ, "environment")
        self._from_keys(mapping, "mapping", text=False)
        self._account(mapping, "mapping")
        self._framework_secret(mapping)
        for name, value in given.items():
            if name in _RULES:
                self._found[name] = (name, value)
            else:
                self._unknown(f"{name}=", name, list(_RULES))

    def read(self, *, require_secret: bool) -> dict[str, Any]:
        values = {item.name: item.default for item in fields(Settings) if item.default is not MISSING}
        explicit: set[str] = set()
        for name, (where, raw) in self._found.items():
            if raw is None and name in _OPTIONAL:
                values[name] = _NONE.get(name)
                continue
            try:
                values[name] = _RULES[name](raw)
                explicit.add(name)
            except ValueError as error:
                shown = "" if name in _SECRETS else f" (it is {raw!r})"
                self.problems.append(f"{where}: {error}{shown}")
        self._required(require_secret=require_secret)
        self._hosts(values, explicit)
        needs_spid = "spid" in values["browser_sdk"] or values["id_mode"] == "spid"
        if needs_spid and not values["spid_client_id"]:
            self.problems.append(
                "spid_client_id: it is missing; browser_sdk or id_mode 'spid' need your client's ID"
            )
        if not values.get("spool") and not self.problems:
            values["spool"] = default_spool(values["token"], values["api_host"], self._environ)
        return values

    def _from_keys(self, source: Mapping[str, Any], kind: str, *, text: bool) -> None:
        for key, value in source.items():
            if not isinstance(key, str):
                continue
            name = _KEYS.get(key)
            if name is not None and not (text and name in _NO_TEXT):
                if not (text and value == ""):  # an empty variable is one that is not set
                    self._found[name] = (key, value)
            elif key.startswith(PREFIX):
                self._unknown(f"{key} (in the {kind})", key, list(_KEYS))

    def _account(self, source: Mapping[str, Any], kind: str) -> None:
        parts = {part: source.get(key) for part, key in _ACCOUNT_KEYS.items()}
        if parts["username"] or parts["secret"]:
            missing = [_ACCOUNT_KEYS[part] for part, value in parts.items() if not value]
            if missing:
                self.problems.append(
                    f"service account (in the {kind}): {' and '.join(missing)} missing; "
                    "a service account needs user name, secret and project ID"
                )
            else:
                self._found["service_account"] = (_ACCOUNT_KEYS["username"], parts)

    def _framework_secret(self, mapping: Mapping[str, Any]) -> None:
        if "secret_key" not in self._found and mapping.get("SECRET_KEY"):
            keys = [*(mapping.get("SECRET_KEY_FALLBACKS") or ()), mapping["SECRET_KEY"]]
            self._found["secret_key"] = ("SECRET_KEY", keys)

    def _unknown(self, where: str, name: str, known: list[str]) -> None:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else "see mixpanel_visitor.Settings for all of them"
        self.problems.append(f"{where}: there is no such setting; {hint}")

    def _required(self, *, require_secret: bool) -> None:
        if "token" not in self._found:
            wrong = self._environ.get("MIXPANEL_API_TOKEN")
            hint = "; MIXPANEL_API_TOKEN is set, did you mean MIXPANEL_TOKEN?" if wrong else ""
            self.problems.append(
                "token: it is missing; give token=... or set MIXPANEL_TOKEN to the project token "
                f"(Mixpanel: Project settings, Access keys){hint}"
            )
        if require_secret and "secret_key" not in self._found:
            self.problems.append(
                "secret_key: it is missing; give secret_key=... or set MIXPANEL_VISITOR_SECRET_KEY to a long "
                "random string (python -c 'import secrets; print(secrets.token_hex())')"
            )

    def _hosts(self, values: dict[str, Any], explicit: set[str]) -> None:
        host = values["api_host"]
        region_of = {url: region for region, url in API_HOSTS.items()}
        if not host:
            values["api_host"] = API_HOSTS.get(values["region"], "")
        elif host in region_of and "region" not in explicit:
            values["region"] = region_of[host]
        elif region_of.get(host, values["region"]) != values["region"]:
            self.problems.append(
                f"api_host: {host} is the host of region {region_of[host]!r}, but region is "
                f"{values['region']!r}; events sent to the wrong region are lost. Give region alone."
            )


_NONE: dict[str, Any] = {"api_host": "", "spool": "", "trusted_proxies": (), "browser_sdk": ()}
