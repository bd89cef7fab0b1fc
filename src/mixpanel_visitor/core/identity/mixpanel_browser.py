"""mixpanel-browser: the `mp_` cookie in which it keeps the visitor's identity.

Source: mixpanel-browser 2.83.0 (`mixpanel-persistence.js`, `mixpanel-core.js`, `utils.js`, `gdpr-utils.js`)
and cookies captured from it in Chromium. The cookie holds `encodeURIComponent(JSON.stringify(properties))`.
The SDK takes a cookie over that the server wrote first, unless it is HttpOnly: then it can neither read nor
replace it, and the two never agree.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote_to_bytes

import orjson

from mixpanel_visitor.core.request import cookie_values

from .cookie_domain import CookieDomain
from .identity import DEVICE_PREFIX, id_refusal
from .visitor_cookie import is_device_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_COOKIE_CHARS = 4096
"""Browsers store no longer cookie (RFC 6265bis, 5.6), so a longer value is not decoded."""

MAX_TRIED = 4
"""How many cookies of the SDK's name are decoded in one request; a browser sends one or two."""

SDK_MAX_AGE_S = 365 * 86_400
"""How long the SDK keeps its cookie and its opt-out."""

# Before 2.62 (March 2025) the SDK's IDs were five dash-joined hexadecimal parts, 54 to 60 characters in all.
# A UUID, which may be an application's own user ID, has 36.
_OLD_DEVICE_ID = re.compile(r"(?=.{40,64}\Z)(?:[0-9a-fA-F]+-){4}[0-9a-fA-F]+")
_BROKEN_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")

# The pieces of the SDK's cookie, as encodeURIComponent writes them.
_DISTINCT_ID = "%7B%22distinct_id%22%3A%22"
_DEVICE_ID = "%22%2C%22%24device_id%22%3A%22"
_PREFIX = "%24device%3A"


class BrowserClaim(NamedTuple):
    """The device ID that a browser claims.

    `unprefixed`: its anonymous distinct ID lacks the `$device:`, as in cookies from before 2.46. `settled`:
    the SDK has written the cookie; it is not just a seed that came back (right after its `reset()` the SDK's
    own reads like one). `user_id`: the user who is logged in, as the browser says; compared, never believed.
    """

    device_id: str
    unprefixed: bool = False
    settled: bool = True
    user_id: str | None = None


class MixpanelBrowser:
    """Reads and seeds the `mp_` cookie of one project; `count` counts what was refused, by name."""

    def __init__(
        self,
        token: str,
        *,
        persistence_name: str | None,
        cross_subdomain: bool,
        cookie_domain: str | None,
        max_age_s: int,
        count: Callable[[str], None],
    ) -> None:
        self.name = f"mp_{persistence_name}" if persistence_name else f"mp_{token}_mixpanel"
        self.opt_out_name = f"__mp_opt_in_out_{token}"
        self._domain = CookieDomain(cookie_domain, cross_subdomain=cross_subdomain)
        self._max_age_s = min(max_age_s, SDK_MAX_AGE_S)
        self._count = count

    def claim(self, cookies: str, *, known_device_id: str | None) -> BrowserClaim | None:
        """Return the device ID that a Cookie header claims; None: it has no credible one.

        The SDK reads the first cookie of its name, and so do we, unless another one has the device ID that
        we know already.
        """
        values = cookie_values(cookies, self.name, count=self._count)
        if not values:
            return None
        if len(values) > MAX_TRIED:
            self._count("mixpanel_cookie_values_cut")
        claims = [read_claim(value) for value in values[:MAX_TRIED]]
        if len({claim.device_id for claim in claims if claim is not None}) > 1:
            self._count("mixpanel_cookie_conflict")
        for claim in claims:
            if claim is not None and claim.device_id == known_device_id:
                return claim
        if claims[0] is None:
            self._count("mixpanel_cookie_refused")
        return claims[0]

    def first_value(self, cookies: str) -> str:
        """Return the value of the SDK's cookie; `""`: there is none, or it is too long to be the SDK's."""
        before, _, after = cookies.partition(f"{self.name}=")
        value = after.partition(";")[0].rstrip(" \t")
        if before and not before.endswith("; "):
            value = next(iter(cookie_values(cookies, self.name)), "")
        return value if len(value) <= MAX_COOKIE_CHARS else ""

    def occupied(self, cookies: str) -> bool:
        """Return whether there is a cookie that the SDK would take over, and that a seed would destroy.

        This includes values that are too long to decode.
        """
        return self.name in cookies and any(
            len(value) > MAX_COOKIE_CHARS or _properties(value) is not None
            for value in cookie_values(cookies, self.name)[:MAX_TRIED]
        )

    def seed(
        self, device_id: str, *, unprefixed: bool = False, host: str, secure: bool, replace: bool = False
    ) -> list[str]:
        """Build the Set-Cookie values that give the SDK this device ID.

        They carry the SDK's own Domain, so that they take effect even on a page that is open. With
        `replace`, a cookie of this host alone is removed as well: it could shadow the new one.
        """
        value = quoted_identity(device_id, unprefixed=unprefixed)
        domain = self._domain.on(host)
        stored = _stored(self.name, value, domain, max_age_s=self._max_age_s, secure=secure)
        return [_removed(self.name), stored] if replace and domain else [stored]

    def expire(self, *, host: str) -> list[str]:
        """Build the Set-Cookie values that remove the SDK's cookie."""
        return self._removals(self.name, host)

    def opt_out(self, *, host: str, secure: bool) -> list[str]:
        """Build the Set-Cookie values that opt this browser out, and remove the SDK's identity.

        The SDK reads this cookie only if it is configured to; we always do. An opt-out cookie for this host
        alone is removed: it could shadow the new one.
        """
        domain = self._domain.on(host)
        shadow = [_removed(self.opt_out_name)] if domain else []
        stored = _stored(self.opt_out_name, "0", domain, max_age_s=SDK_MAX_AGE_S, secure=secure)
        return [*shadow, stored, *self.expire(host=host)]

    def opt_in(self, *, host: str) -> list[str]:
        """Build the Set-Cookie values that take an opt-out back."""
        return self._removals(self.opt_out_name, host)

    def _removals(self, name: str, host: str) -> list[str]:
        domain = self._domain.on(host)
        return [_removed(name), _removed(name, domain)] if domain else [_removed(name)]


def read_claim(raw: str) -> BrowserClaim | None:
    """Read a cookie's value as the SDK does; None if the SDK would ignore it, or we do not believe it.

    Only the device ID counts: users come from the server's session, never from a cookie that anybody can
    write. An ID that is, or once was, a distinct ID without `$device:` must have the shape of the old device
    IDs: else an attacker could write into the profile of a user whose ID he knows.
    """
    properties = _properties(raw)
    if properties is None:
        return None
    distinct_id = _as_text(properties.get("distinct_id"))
    if not distinct_id:
        return None  # the SDK makes a new identity then
    device_id = properties.get("$device_id") or distinct_id
    if not isinstance(device_id, str) or not is_device_id(device_id) or id_refusal(device_id) is not None:
        return None
    is_anonymous = distinct_id.startswith(DEVICE_PREFIX)
    if is_anonymous and distinct_id != DEVICE_PREFIX + device_id:
        return None
    unprefixed = distinct_id == device_id
    if (unprefixed or properties.get("$had_persisted_distinct_id")) and not _OLD_DEVICE_ID.fullmatch(
        device_id
    ):
        return None
    user_id = _as_text(properties.get("$user_id"))
    if user_id is None and not (is_anonymous or unprefixed):
        user_id = distinct_id
    return BrowserClaim(
        device_id=device_id,
        unprefixed=unprefixed,
        settled=raw != quoted_identity(device_id, unprefixed=unprefixed),
        user_id=user_id if user_id is not None and _is_usable(user_id) else None,
    )


def quoted_identity(device_id: str, *, unprefixed: bool = False) -> str:
    """Encode an anonymous visitor as the SDK's cookie does."""
    quoted = device_id.replace(":", "%3A")  # no other character of a device ID needs quoting
    return f"{_DISTINCT_ID}{'' if unprefixed else _PREFIX}{quoted}{_DEVICE_ID}{quoted}%22%7D"


def decode_uri_component(raw: str) -> str | None:
    """Decode as JavaScript's `decodeURIComponent`: UTF-8, `+` stays `+`; None if that throws."""
    if _BROKEN_PERCENT.search(raw):
        return None
    try:
        return unquote_to_bytes(raw.encode("latin-1")).decode()
    except UnicodeError:
        return None


def _properties(raw: str) -> dict[str, Any] | None:
    """Decode as `JSON.parse(decodeURIComponent(raw))`; None if that throws, or returns no object."""
    text = decode_uri_component(raw) if 0 < len(raw) <= MAX_COOKIE_CHARS else None
    if text is None:
        return None
    try:
        properties = orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            # JSON.parse takes lone surrogates, which orjson refuses.
            properties = json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            return None
    return properties if isinstance(properties, dict) else None


def persisted(raw: str, names: tuple[str, ...]) -> Mapping[str, str]:
    """Return the super properties of these names in a cookie's value, as far as they are texts."""
    if not any(name.removeprefix("$") in raw for name in names):
        return {}  # as right after a first visit
    properties = _properties(raw) or {}
    return {name: value for name in names if isinstance(value := properties.get(name), str) and value}


def _refuse_constant(name: str) -> None:
    raise ValueError(name)  # NaN and Infinity are no JSON


def _as_text(value: object) -> str | None:
    """Return an ID as text (`identify(42)` stores a number); None: it is no ID."""
    if isinstance(value, str):
        return value
    return str(value) if type(value) is int and value != 0 else None


def _is_usable(user_id: str) -> bool:
    return user_id.isprintable() and id_refusal(user_id) is None


def _stored(name: str, value: str, domain: str, *, max_age_s: int, secure: bool) -> str:
    scope = f"; Domain={domain}; Path=/" if domain else "; Path=/"
    return f"{name}={value}{scope}; Max-Age={max_age_s}; SameSite=Lax{'; Secure' if secure else ''}"


def _removed(name: str, domain: str = "") -> str:
    return f"{name}=; Domain={domain}; Path=/; Max-Age=0" if domain else f"{name}=; Path=/; Max-Age=0"
