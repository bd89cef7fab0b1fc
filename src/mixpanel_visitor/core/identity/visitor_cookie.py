"""The visitor cookie: our own signed cookie, which holds the device ID and, after log-in, the user.

The value is `1~<device id>~<issued at>~<user>~<marks>~<uid>~<earlier device id>~<SPiD user>.<signature>`:
a format version, device ID, time of issue (unix seconds in base 36), the user, one letter for each mark,
the SPiD uid, an earlier device ID, SPiD's user and the end of the session (both in base 36, with a dash
between), without empty fields at the end; then 43 characters of HMAC-SHA256 by itsdangerous. It is made of
cookie-safe characters only. The key is derived for one project, so that no other project on the host believes
the cookie. A signature does not stop an attacker from planting his own cookie; the `__Host-` prefix on
https does (RFC 6265bis, 4.1.3.2).

Release 0.1 derived the key without the project, and called the cookie `mpv`. Its cookies are still
believed, and written anew. That code may go when all of them have expired, after 400 days.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from mixpanel_visitor.core.request import cookie_values

from .signing import make_signer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAX_VALUE_CHARS = 2048
"""A longer value is not ours, and is refused without any computing.

A user ID of 255 characters of four bytes in UTF-8 fits, with three IDs of 64. A browser stores cookies of up
to 4096 bytes, name and value (RFC 6265bis, 5.6).
"""

MAX_TRIED = 4
"""How many signatures are verified in one request; a browser sends one, or two after a change."""

RENEW_AFTER_S = 86_400
"""A cookie is issued anew at most once a day, so that an active visitor's never expires."""

CLOCK_SKEW_S = 86_400
"""A cookie may come from a host whose clock is ahead by this much."""

NAME_OF_0_1 = "mpv"
"""The default name of the cookie in release 0.1."""

_SALT = b"mixpanel-visitor.anchor"
_VERSION = "1"
_DEVICE_ID = re.compile(r"[0-9A-Za-z_.:-]{1,64}")
# 43 characters of base64 hold two bits more than 32 bytes do. In the only form that is ours these are zero.
_SIGNED = re.compile(r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]+\.[0-9A-Za-z_-]{42}[AEIMQUYcgkosw048]")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_MARKS = frozenset("wbsavun")


class VisitorCookie(NamedTuple):
    """The content of the cookie. `issued_at_s` is in unix seconds.

    `user_hash`: a hash in place of a long user ID, in cookies that older versions have issued.

    `vouched`: the device ID was made by us, not claimed by the browser. `unprefixed`: its anonymous distinct
    ID lacks the `$device:`, as in old releases of the browser SDK. `sdk_cookie_sent`: we have sent the SDK's
    cookie with this ID. `sdk_confirmed`: the SDK has sent this ID. `uid` is the SPiD visitor's; `uid_signed`:
    SPiD has signed it. `earlier_id`: a device ID of ours from before the browser's own was known, to be
    joined at log-in. `merge_pending`: the user logged in while the device ID was an unverified claim of the
    browser, so the next request joins the two. `unjoined`: the user was known before the browser's device ID,
    and the two are not joined before a log-in with it. `spid_user_id` is SPiD's ID of the user who was
    logged in there, by a signed session that lasts until `spid_until_s` (unix seconds).
    """

    device_id: str
    issued_at_s: int
    user_id: str | None = None
    user_hash: str | None = None
    vouched: bool = True
    unprefixed: bool = False
    sdk_cookie_sent: bool = False
    sdk_confirmed: bool = False
    uid: str | None = None
    uid_signed: bool = False
    earlier_id: str | None = None
    merge_pending: bool = False
    unjoined: bool = False
    spid_user_id: int | None = None
    spid_until_s: int = 0

    def belongs_to(self, user_id: str) -> bool:
        """Return whether the visitor of this cookie has already been identified as `user_id`."""
        return self.user_id == user_id or (
            self.user_hash is not None and self.user_hash == user_hash(user_id)
        )

    @property
    def has_user(self) -> bool:
        """Whether a user has logged in on this device since its ID was made."""
        return self.user_id is not None or self.user_hash is not None


def _marks(cookie: VisitorCookie) -> str:
    return (
        f"{'' if cookie.vouched else 'w'}{'b' if cookie.unprefixed else ''}"
        f"{'s' if cookie.sdk_cookie_sent else ''}"
        f"{'a' if cookie.sdk_confirmed else ''}{'v' if cookie.uid_signed else ''}"
        f"{'u' if cookie.merge_pending else ''}"
        f"{'n' if cookie.unjoined else ''}"
    )


class VisitorCookieCodec:
    """Signs and verifies visitor cookies; knows several keys, oldest first, of which the last one signs."""

    def __init__(
        self,
        secret_keys: Sequence[str],
        *,
        token: str,
        name: str,
        domain: str | None,
        max_age_s: int,
        count: Callable[[str], None],
        former_name: str | None = None,
        on_foreign: Callable[[], None] | None = None,
    ) -> None:
        """Know the cookie `name`, and `former_name` of release 0.1 if that was another.

        `on_foreign` is called for each cookie that would be ours if its signature were valid.
        """
        own_salt = _SALT + b":" + token.encode()
        self._signers = (make_signer(secret_keys, own_salt), make_signer(secret_keys, _SALT))
        self._max_age_s = max_age_s
        self._count = count
        self._on_foreign = on_foreign
        host_only = domain is None
        scope = "; Path=/" if host_only else f"; Domain={domain}; Path=/"
        self._names = _names(name, host_only=host_only)
        self._former_names = None if former_name is None else _names(former_name, host_only=host_only)
        self._scopes = {
            True: f"{scope}; HttpOnly; Secure; SameSite=Lax",
            False: f"{scope}; HttpOnly; SameSite=Lax",
        }

    def name(self, *, secure: bool) -> str:
        """Return the cookie's name; on https without a domain it carries the `__Host-` prefix."""
        return self._names[secure]

    def set_cookie(
        self, cookie: VisitorCookie, *, secure: bool, suffix: str = "", max_age_s: int | None = None
    ) -> str:
        """Build the value of a Set-Cookie header that stores our cookie; `suffix` is one of the name."""
        max_age_s = self._max_age_s if max_age_s is None else max_age_s
        value = self.encode(cookie)
        return f"{self._names[secure]}{suffix}={value}; Max-Age={max_age_s}{self._scopes[secure]}"

    def expire_cookie(self, *, secure: bool, suffix: str = "") -> str:
        """Build the value of a Set-Cookie header that removes our cookie, or that with this suffix."""
        return f"{self._names[secure]}{suffix}=; Max-Age=0{self._scopes[secure]}"

    def has_any(self, cookies: str, *, secure: bool) -> bool:
        """Return whether a Cookie header has a cookie of ours in it, believed or not."""
        names = [self._names[secure]] + ([] if self._former_names is None else [self._former_names[secure]])
        return any(cookie_values(cookies, name) for name in names)

    def expire_former(self, cookies: str, *, secure: bool, succeeded: bool = False) -> list[str]:
        """Build the values that remove release 0.1's cookie; `succeeded`: only if today's has its device ID.

        Until then a process of the old release may need it, before a deployment is complete or after it was
        rolled back; and the cookie of another device is another application's.
        """
        if self._former_names is None:
            return []
        former = self._former_names[secure]
        old = cookie_values(cookies, former) if former in cookies else []
        if succeeded and old:
            new = cookie_values(cookies, self._names[secure])
            if not new or old[0].split("~")[1:2] != new[0].split("~")[1:2]:
                return []
        return [f"{former}=; Max-Age=0{self._scopes[secure]}"] if old else []

    def encode(self, cookie: VisitorCookie) -> str:
        """Return the signed value of a cookie."""
        user = ""
        if cookie.user_id is not None:
            user = "u" + base64.urlsafe_b64encode(cookie.user_id.encode()).decode().rstrip("=")
        elif cookie.user_hash is not None:
            user = "h" + cookie.user_hash
        head = f"{_VERSION}~{cookie.device_id}~{_base36(cookie.issued_at_s)}~{user}"
        spid = ""
        if cookie.spid_user_id is not None:
            spid = f"{_base36(cookie.spid_user_id)}-{_base36(cookie.spid_until_s)}"
        tail = f"~{_marks(cookie)}~{cookie.uid or ''}~{cookie.earlier_id or ''}~{spid}".rstrip("~")
        return self._signers[0].sign(head + tail).decode("ascii")

    def find(self, cookies: str, *, secure: bool, now_s: float) -> VisitorCookie | None:
        """Return our cookie in a Cookie header; None: there is none that we signed.

        Of two valid cookies with different device IDs an attacker has planted one: then neither is believed
        (`cookie_conflict`).
        """
        # On https a comma does not separate: a sibling host may not set our prefixed name, but it may set a
        # cookie of another name whose value holds ",__Host-mpv=...".
        values = cookie_values(cookies, self._names[secure], commas=not secure, count=self._count)
        if not values:
            return self._find_former(cookies, secure=secure, now_s=now_s)
        return self._newest(values, now_s=now_s)

    def _find_former(self, cookies: str, *, secure: bool, now_s: float) -> VisitorCookie | None:
        if self._former_names is None:
            return None
        values = cookie_values(cookies, self._former_names[secure], commas=not secure, count=self._count)
        newest = self._newest(values, now_s=now_s) if values else None
        if newest is None:
            return None
        # Make it old, so that it is issued anew, under today's name, at the next visit.
        return newest._replace(issued_at_s=min(newest.issued_at_s, int(now_s) - RENEW_AFTER_S - 1))

    def _newest(self, values: Sequence[str], *, now_s: float) -> VisitorCookie | None:
        if len(values) > 1:
            self._count("cookie_duplicate")
        if len(values) > MAX_TRIED:
            values = [each for each in values if len(each) <= MAX_VALUE_CHARS and _SIGNED.fullmatch(each)]
            if len(values) > MAX_TRIED:
                self._count("cookie_values_cut")
        newest: VisitorCookie | None = None
        for value in values[:MAX_TRIED]:
            cookie = self.decode(value, now_s=now_s)
            if cookie is None:
                continue
            if newest is not None and newest.device_id != cookie.device_id:
                self._count("cookie_conflict")
                return None
            if newest is None or cookie.issued_at_s > newest.issued_at_s:
                newest = cookie
        return newest

    def decode(self, value: str, *, now_s: float) -> VisitorCookie | None:
        """Return the cookie in one value; None, and a count of the reason: it is not ours, or too old."""
        cookie = self._verify(value)
        if cookie is None:
            return None
        since_s, until_s = self.validity_window(cookie)
        if not since_s <= now_s <= until_s:
            self._count("cookie_expired")
            return None
        return cookie

    def validity_window(self, cookie: VisitorCookie) -> tuple[float, float]:
        """Return the start and end of the time in which a cookie is valid, in unix seconds."""
        return cookie.issued_at_s - CLOCK_SKEW_S, cookie.issued_at_s + self._max_age_s

    def _verify(self, value: str) -> VisitorCookie | None:
        if not value:
            self._count("cookie_empty")
            return None
        if len(value) > MAX_VALUE_CHARS:
            self._count("cookie_oversized")
            return None
        cookie = _parse(value.rpartition(".")[0]) if _SIGNED.fullmatch(value) else None
        if cookie is None:
            self._count("cookie_malformed")
        elif not any(signer.validate(value) for signer in self._signers):
            self._count("cookie_bad_signature")
            if self._on_foreign is not None:
                self._on_foreign()
            return None
        return cookie


def _names(name: str, *, host_only: bool) -> dict[bool, str]:
    """Return the cookie's name on https, and without."""
    return {True: f"__Host-{name}" if host_only else name, False: name}


def is_device_id(value: str) -> bool:
    """Return whether a string may be a device ID: its alphabet is safe in logs and HTML."""
    return _DEVICE_ID.fullmatch(value) is not None


def user_hash(user_id: str) -> str:
    """Return the hash that older versions stored in the cookie in place of a long user ID."""
    return hashlib.sha256(b"mixpanel-visitor.user:" + user_id.encode()).hexdigest()[:32]


def _parse(payload: str) -> VisitorCookie | None:
    parts = payload.split("~")
    if not 4 <= len(parts) <= 8 or parts[0] != _VERSION or not is_device_id(parts[1]):
        return None
    _, device_id, issued_at, user, marks, uid, earlier_id, spid = (*parts, "", "", "", "")[:8]
    user_id = hashed_user = spid_user_id = None
    spid_until_s = 0
    kind, user = user[:1], user[1:]
    try:
        issued_at_s = int(issued_at, 36)
        if kind == "u":
            padded = user + "=" * (-len(user) % 4)
            user_id = base64.b64decode(padded, altchars=b"-_", validate=True).decode()
        elif kind == "h":
            hashed_user = user
        elif kind:
            return None
        if kind and not user:
            return None
        if spid:
            spid_user_id, spid_until_s = (int(each, 36) for each in spid.split("-"))
    except (ValueError, binascii.Error):
        return None
    if not (set(marks) <= _MARKS and all(is_device_id(each) for each in (uid, earlier_id) if each)):
        return None
    return VisitorCookie(
        device_id=device_id,
        issued_at_s=issued_at_s,
        user_id=user_id,
        user_hash=hashed_user,
        vouched="w" not in marks,
        unprefixed="b" in marks,
        sdk_cookie_sent="s" in marks,
        sdk_confirmed="a" in marks,
        uid=uid or None,
        uid_signed="v" in marks,
        earlier_id=earlier_id or None,
        merge_pending="u" in marks,
        unjoined="n" in marks,
        spid_user_id=spid_user_id,
        spid_until_s=spid_until_s,
    )


@lru_cache(4)  # most cookies are of the same second
def _base36(value: int) -> str:
    digits = ""
    value = max(0, value)
    while value:
        value, digit = divmod(value, 36)
        digits = _DIGITS[digit] + digits
    return digits or "0"
