"""Validation: settings checked together: required ones, derived ones, contradictions."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, NamedTuple

from .api_host import HOSTS, region_of
from .parsers import OWN_COLLECTOR_PATH, FrameworkKey, boolean
from .project import default_cookie_name, own_word
from .sources import RawValue
from .spool import MEMORY, default_spool

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .sources import Sources, Spec

NO_TOKEN = "no-token"  # noqa: S105
"""Placeholder for the project token where nothing is sent and none was given."""

SHORT_KEY_CHARS = 16
"""A shorter signing key is refused; a framework's own key gives a warning instead."""

MAKE_A_KEY = "Make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"


def check(
    specs: Mapping[str, Spec], raw: Mapping[str, RawValue], environ: Mapping[str, str]
) -> tuple[dict[str, Any], list[str]]:
    """Parse raw values and derive others from them; return the values in normal form, and the problems.

    A setting that does not parse is left out of the values, so that it is reported once.
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    for name, raw_value in raw.items():
        try:
            values[name] = specs[name].parse(raw_value.value)
        except ValueError as error:
            problems.append(f"{raw_value.describe(specs[name])}: {error}")

    if "secret_key" in values and raw["secret_key"].of_framework:
        values["secret_key"] = tuple(map(FrameworkKey, values["secret_key"]))

    settings = _ParsedSettings(specs, raw, values)
    problems += [
        *_check_hosts(settings),
        *_check_spid(settings),
        *_check_keys(settings),
        *_check_durability(settings),
    ]
    if values.get("collector_path") == OWN_COLLECTOR_PATH and "token" in values:
        values["collector_path"] = f"/{own_word(values['token'], 'collector path')}"
    if "cookie_name" not in raw and "token" in values:
        values["cookie_name"] = default_cookie_name(values["token"])
    if "spool" not in raw and "token" in values and "api_host" in values:
        try:
            values["spool"] = default_spool(values["token"], values["api_host"], environ)
        except ValueError as error:
            problems.append(f"spool: {error}")
    return values, problems


class _ParsedSettings(NamedTuple):
    """Raw values by setting, and the parsed ones."""

    specs: Mapping[str, Spec]
    raw: Mapping[str, RawValue]
    values: dict[str, Any]

    def described(self, name: str) -> str:
        """Return a setting's name with the source of its value."""
        return self.raw[name].describe(self.specs[name])


def _check_hosts(settings: _ParsedSettings) -> Iterator[str]:
    """Derive `api_host` and `region` from each other; yield a problem where they contradict."""
    _, raw, values = settings
    if "api_host" not in raw:
        if "region" in values or "region" not in raw:
            values["api_host"] = f"https://{HOSTS[values.get('region', 'us')]}"
    elif region := region_of(values.get("api_host", "")):
        if "region" not in raw:
            values["region"] = region
        elif values.get("region", region) != region:
            yield (
                f"{settings.described('api_host')}: that is Mixpanel's host of region {region!r}, which "
                f"contradicts {settings.described('region')}, and no region forwards to another; give "
                f"region={region!r}, or leave api_host out"
            )


def _check_spid(settings: _ParsedSettings) -> Iterator[str]:
    """Yield a problem where a setting needs SPiD's client ID, and it is missing."""
    _, raw, values = settings
    for name, wants_spid in (
        ("browser_sdk", "spid" in values.get("browser_sdk", ())),
        ("id_mode", values.get("id_mode") == "spid"),
    ):
        if wants_spid and ("spid_client_id" not in raw or values.get("spid_client_id", "") is None):
            yield (
                f"spid_client_id: is missing, and {settings.described(name)} needs it; give your client's ID "
                "at SPiD (MIXPANEL_VISITOR_SPID_CLIENT_ID)"
            )
            break


def _check_keys(settings: _ParsedSettings) -> Iterator[str]:
    """Yield the problems of the signing keys."""
    keys = settings.values.get("secret_key", ())
    if any(len(key) < SHORT_KEY_CHARS and not isinstance(key, FrameworkKey) for key in keys):
        yield (
            f"{settings.described('secret_key')}: has a key of fewer than {SHORT_KEY_CHARS} characters, and "
            f"anyone who guesses it can forge visitor cookies. {MAKE_A_KEY}"
        )
    if settings.values.get("token") in keys:
        yield (
            f"{settings.described('secret_key')}: is the project token, which every browser can read. "
            f"{MAKE_A_KEY}"
        )


def _check_durability(settings: _ParsedSettings) -> Iterator[str]:
    """Yield a problem where responses would wait for a delivery that this process does not make."""
    values = settings.values
    if values.get("durability") == "delivered" and values.get("deliver") is False:
        yield (
            f"{settings.described('durability')}: 'delivered' waits for Mixpanel's acknowledgement, and with "
            f"{settings.described('deliver')} this process sends nothing; take 'before-response', or leave "
            "deliver out"
        )


def is_switched_off(sources: Sources) -> bool:
    """Return whether `enabled` turns tracking off."""
    try:
        return "enabled" in sources.raw and not boolean(sources.raw["enabled"].value)
    except ValueError:
        return False  # `check` reports it


def fill_in(sources: Sources) -> None:
    """Add a placeholder token and a random key, which need not be given where nothing is sent.

    Without a token there is no project, so the spool is in memory.
    """
    if "token" not in sources.raw:
        sources.raw["token"] = RawValue(NO_TOKEN, "default")
        sources.raw.setdefault("spool", RawValue(MEMORY, "default"))
    sources.raw.setdefault("secret_key", RawValue(secrets.token_urlsafe(32), "default"))


def missing_problems(sources: Sources, values: Mapping[str, Any], *, require_secret: bool) -> list[str]:
    """Return a problem for each required setting that is missing."""
    problems: list[str] = []
    if "token" not in sources.raw:
        hint = ""
        if sources.has_key("MIXPANEL_API_TOKEN"):
            hint = "; MIXPANEL_API_TOKEN is set, did you mean MIXPANEL_TOKEN?"
        problems.append(
            "token: is missing; give token='...' or set MIXPANEL_TOKEN to the project token (Mixpanel: "
            "Project settings; any word does for the local Mixpanel; none is needed with enabled=False)"
            f"{hint}"
        )
    if require_secret and "secret_key" not in sources.raw:
        problems.append(
            "secret_key: is missing; give secret_key='...' or set MIXPANEL_VISITOR_SECRET_KEY (in Flask's "
            f"config SECRET_KEY does as well). {MAKE_A_KEY}"
        )
    elif require_secret and values.get("secret_key") == ():
        problems.append(f"secret_key ({sources.raw['secret_key'].origin}): is empty. {MAKE_A_KEY}")
    return problems
