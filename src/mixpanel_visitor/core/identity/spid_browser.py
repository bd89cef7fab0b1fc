"""Schibsted account (SPiD): the session that its JS SDKs keep, and the signature on it.

Sources: schibsted/sdk-js (v1.7.11 and v2.6.0) and its tech docs. The SDKs keep
`escape(JSON.stringify(session))` in `vgs_js_<client>` (v1) or `spid_js_<client>` (v2). The session of a
logged-in user carries `sig`, which signs a copy of the session inside of itself, not the object around it: so
the visitor is read from the verified copy only. An anonymous session is never signed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

from mixpanel_visitor.core.request import all_cookie_values, cookie_values

from .identity import id_refusal

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_CHARS = 4096
"""The longest cookie or `sig` that is read."""

MAX_AGE_S = 7200
"""A signed session is believed for this long at most, even if it says that it lasts longer."""

SKEW_S = 60
"""SPiD's clock and ours may differ by this much."""

ALGORITHM = "HMAC-SHA256"

_UID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{7,63}")
_SIG = re.compile(r"([0-9A-Za-z_-]{43})\.([0-9A-Za-z_-]+)")
_ESCAPE = re.compile(r"%u([0-9A-Fa-f]{4})|%([0-9A-Fa-f]{2})")
_SIGNATURE_FIELDS = ("algorithm", "t")
_MAX_TIME_S = 2**40
_MAX_USER_ID = 2**53


class SpidVisitor(NamedTuple):
    """The visitor in a session; `signed`: SPiD has signed it, at `issued_at_s` (unix seconds).

    `logged_in`: the session says that somebody is logged in at SPiD; its signature may not be believed.
    `user_id` is SPiD's ID of that user, from a signed session only, which lasts `until_s`; it is for
    information and never sets a user of ours.
    """

    uid: str
    signed: bool
    logged_in: bool = False
    issued_at_s: int | None = None
    until_s: int = 0
    user_id: int | None = None


class SignatureError(ValueError):
    """A `sig` that is not believed; the message is the counter name of the reason."""


class SpidBrowser:
    """Reads and verifies the sessions of one SPiD client; `count` counts what was refused, by name."""

    def __init__(
        self, client_id: str, *, sign_secret: str | None, production: bool, count: Callable[[str], None]
    ) -> None:
        self._v1_name = f"vgs_js_{client_id}" if production else f"vgs_js_test_{client_id}"
        self._v2_name = f"spid_js_{client_id}"
        self._secret = sign_secret or None  # anybody can sign with an empty one
        self._count = count

    def find(self, cookies: str, *, now_s: float) -> SpidVisitor | None:
        """Find the visitor in a Cookie header, as the SDKs find theirs.

        Of several v1 cookies the last one counts, of several v2 cookies none.
        """
        if "_js_" not in cookies:
            return None
        values = cookie_values(cookies, self._v2_name, count=self._count)
        if len(values) > 1:
            self._count("spid_cookie_duplicate")
        if len(values) != 1:
            values = all_cookie_values(cookies, self._v1_name)[-1:]
        return self._read(values[0], now_s=now_s) if values else None

    def verified(self, sig: object, *, now_s: float) -> SpidVisitor | None:
        """Return the visitor of a `sig`; None, and a count of the reason: it is not believed."""
        if self._secret is None:
            self._count("spid_no_sign_secret")
            return None
        try:
            return verify(sig, self._secret, now_s=now_s)
        except SignatureError as error:
            self._count(str(error))
            return None

    def unsigned(self, uid: object, *, logged_in: bool = False) -> SpidVisitor | None:
        """Return the visitor of an unsigned uid; None, and a count: it does not look like a uid."""
        if not is_uid(uid):
            self._count("spid_uid_refused")
            return None
        return SpidVisitor(uid=uid, signed=False, logged_in=logged_in)

    def claimed(self, sig: object, uid: object, *, now_s: float) -> SpidVisitor | None:
        """Return the visitor of a `sig`, or of the uid beside it where the `sig` is not to be believed.

        No secret, an old session, clocks that differ, a new secret: the browser still counts by the uid then,
        and an anonymous uid, which looks the same, is believed without any signature.
        """
        return self.verified(sig, now_s=now_s) or self.unsigned(uid, logged_in=True)

    def _read(self, raw: str, *, now_s: float) -> SpidVisitor | None:
        session = _session(raw)
        if session is None:
            self._count("spid_cookie_malformed")
            return None
        if "sig" in session:
            return self.claimed(session["sig"], _uid(session), now_s=now_s)
        return self.unsigned(_uid(session))


def verify(sig: object, secret: str, *, now_s: float, skew_s: float = SKEW_S) -> SpidVisitor:
    """Verify a `sig` and its time, and return the visitor in it; raise `SignatureError`.

    There is no nonce and no audience: within its time a `sig` can come from any browser. It is enough for
    an ID in analytics, never for a log-in.
    """
    session = signed_payload(sig, secret)
    if session.get("algorithm") != ALGORITHM:
        raise SignatureError("spid_sig_algorithm")
    if not is_fresh(session, now_s=now_s, skew_s=skew_s):
        raise SignatureError("spid_sig_stale")
    uid = _uid(session)
    if not is_uid(uid):
        raise SignatureError("spid_sig_without_visitor")
    user_id = session.get("userId")
    issued_at_s = int(session["serverTime"])
    return SpidVisitor(
        uid=uid,
        signed=True,
        logged_in=True,
        issued_at_s=issued_at_s,
        until_s=issued_at_s + int(_lifetime_s(session)),
        user_id=user_id if type(user_id) is int and 0 < user_id < _MAX_USER_ID else None,
    )


def signed_payload(sig: object, secret: str) -> dict[str, Any]:
    """Return the object that a `sig` signs; raise `SignatureError`. The caller checks time and algorithm.

    The signature is over the payload's text as received, so nothing is decoded before it is verified.
    """
    parts = _SIG.fullmatch(sig) if isinstance(sig, str) and len(sig) <= MAX_CHARS else None
    if parts is None:
        raise SignatureError("spid_sig_malformed")
    signature, payload = parts.groups()
    expected = _base64url(hmac.digest(secret.encode(), payload.encode(), hashlib.sha256))
    if not hmac.compare_digest(expected, signature):
        raise SignatureError("spid_sig_wrong")
    try:
        text = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)).decode()
    except ValueError:
        raise SignatureError("spid_sig_malformed") from None
    session = _object(text)
    if session is None:
        raise SignatureError("spid_sig_malformed")
    return session


def sign_traits(traits: Mapping[str, object], secret: str | None, *, now_s: float) -> str:
    """Return the text that `VGS.setTraits` takes; raise ValueError, with the reason, for what SPiD refuses.

    SPiD's article signs the JSON in words; its sample, and SPiD, sign the base64url text of it.
    """
    if not secret:
        raise ValueError("the setting spid_sign_secret is missing, with which SPiD verifies traits")
    if not isinstance(traits, Mapping) or not traits:
        raise ValueError("traits are a mapping of names to values, such as {'Account type': 'Personal'}")
    for name, value in traits.items():
        if not isinstance(name, str) or not name or name in _SIGNATURE_FIELDS:
            raise ValueError(f"{name!r:.80}: the name of a trait is a str, but not '', 't' or 'algorithm'")
        if not _is_trait(value) and not (isinstance(value, (list, tuple)) and all(map(_is_trait, value))):
            raise ValueError(f"{name!r:.80}: a trait is a str, bool, finite number, or a list of those")
    session = {**traits, "algorithm": ALGORITHM, "t": round(now_s, 2)}
    payload = _base64url(json.dumps(session, separators=(",", ":")).encode())
    return f"{_base64url(hmac.digest(secret.encode(), payload.encode(), hashlib.sha256))}.{payload}"


def is_fresh(session: dict[str, Any], *, now_s: float, skew_s: float = SKEW_S) -> bool:
    """Return whether a signed session was issued recently.

    `expiresIn` may be missing or null, and is never trusted beyond our own limit.
    """
    issued_at_s = _seconds(session.get("serverTime"))
    if issued_at_s is None:
        return False
    return issued_at_s - skew_s <= now_s <= issued_at_s + _lifetime_s(session) + skew_s


def is_uid(value: object) -> TypeGuard[str]:
    """Return whether this may be a uid: SPiD makes 20 characters, but does not say so anywhere."""
    return isinstance(value, str) and _UID.fullmatch(value) is not None and id_refusal(value) is None


def js_unescape(text: str) -> str:
    """Decode as JavaScript's `unescape`: `%C5` is U+00C5 and `%u0141` is U+0141, broken ones stay."""
    if "%" not in text:
        return text
    decoded = _ESCAPE.sub(lambda match: chr(int(match[1] or match[2], 16)), text)
    # Two halves of a character beyond U+FFFF come as two escapes.
    return decoded.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def _session(raw: str) -> dict[str, Any] | None:
    return _object(js_unescape(raw)) if 0 < len(raw) <= MAX_CHARS else None


def _object(text: str) -> dict[str, Any] | None:
    try:
        fields = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def _refuse_constant(name: str) -> None:
    raise ValueError(name)  # NaN and Infinity are no JSON


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _is_trait(value: object) -> bool:
    return isinstance(value, (str, int)) or (isinstance(value, float) and math.isfinite(value))


def _uid(session: dict[str, Any]) -> object:
    visitor = session.get("visitor")
    return visitor.get("uid") if isinstance(visitor, dict) else None


def _lifetime_s(session: dict[str, Any]) -> float:
    lifetime_s = _seconds(session.get("expiresIn"))
    return MAX_AGE_S if lifetime_s is None else min(lifetime_s, MAX_AGE_S)


def _seconds(value: object) -> float | None:
    """Return a number of seconds, cut to where arithmetic cannot overflow; None: it is no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(min(max(value, 0), _MAX_TIME_S))
