"""Validation: what holds between settings; which are required, which follow from others, which contradict."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, NamedTuple

from .api_host import HOSTS, region_of
from .parsers import FrameworkKey, boolean
from .project import default_cookie_name
from .sources import RawValue
from .spool import MEMORY, default_spool

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .sources import Sources, Spec

NO_TOKEN = "no-token"  # noqa: S105
"""Stands for the project token where nothing is sent and none was given."""

SHORT_KEY_CHARS = 16
"""A signing key below this is refused; one that is the framework's gives a warning."""

MAKE_A_KEY = "Make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"


def check(
    specs: Mapping[str, Spec], raw: Mapping[str, RawValue], environ: Mapping[str, str]
) -> tuple[dict[str, Any], list[str]]:
    """Parse what was found, derive what follows from it; give the values in normal form, and the problems.

    A setting that does not parse is left out of the values, and no rule complains about it once more.
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
    if "cookie_name" not in raw and "token" in values:
        values["cookie_name"] = default_cookie_name(values["token"])
    if "spool" not in raw and "token" in values and "api_host" in values:
        try:
            values["spool"] = default_spool(values["token"], values["api_host"], environ)
        except ValueError as error:
            problems.append(f"spool: {error}")
    return values, problems


class _ParsedSettings(NamedTuple):
    """What was given, by the names of the settings, and the values that could be parsed."""

    specs: Mapping[str, Spec]
    raw: Mapping[str, RawValue]
    values: dict[str, Any]

    def described(self, name: str) -> str:
        """Return the name of a setting with the place that it comes from."""
        return self.raw[name].describe(self.specs[name])


def _check_hosts(settings: _ParsedSettings) -> Iterator[str]:
    """Derive `api_host` and `region` from each other; yield where they contradict."""
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
    """Yield which setting needs the client's ID, where that is missing."""
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
    """Yield what is wrong with the signing keys."""
    keys = settings.values.get("secret_key", ())
    if any(len(key) < SHORT_KEY_CHARS and not isinstance(key, FrameworkKey) for key in keys):
        yield (
            f"{settings.described('secret_key')}: has a key of fewer than {SHORT_KEY_CHARS} characters, and "
            f"who guesses it can forge visitor cookies. {MAKE_A_KEY}"
        )
    if settings.values.get("token") in keys:
        yield (
            f"{settings.described('secret_key')}: is the project token, which every browser can read. "
            f"{MAKE_A_KEY}"
        )


def _check_durability(settings: _ParsedSettings) -> Iterator[str]:
    """Yield where a response would wait for what this process does not do."""
    values = settings.values
    if values.get("durability") == "delivered" and values.get("deliver") is False:
        yield (
            f"{settings.described('durability')}: 'delivered' waits for Mixpanel's acknowledgement, and with "
            f"{settings.described('deliver')} this process sends nothing; take 'before-response', or leave "
            "deliver out"
        )


def is_switched_off(sources: Sources) -> bool:
    """Return whether `enabled` says that nothing is tracked."""
    try:
        return "enabled" in sources.raw and not boolean(sources.raw["enabled"].value)
    except ValueError:
        return False  # `check` reports it


def stand_in(sources: Sources) -> None:
    """Add what nobody needs to give where nothing is sent: a token that is none, and a key of this moment.

    Without a token there is no project to keep a spool for.
    """
    if "token" not in sources.raw:
        sources.raw["token"] = RawValue(NO_TOKEN, "default")
        sources.raw.setdefault("spool", RawValue(MEMORY, "default"))
    sources.raw.setdefault("secret_key", RawValue(secrets.token_urlsafe(32), "default"))


def missing_problems(sources: Sources, values: Mapping[str, Any], *, require_secret: bool) -> list[str]:
    """Return a problem for each required setting that nobody gave."""
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
