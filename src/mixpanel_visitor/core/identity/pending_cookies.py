"""Pending cookies: IDs that a response could not store in our cookie, stored beside it for the next request.

A request without cookies does not mean that the browser has none. There are two such responses:

- One to a request of a page that came without any ID. It may be one of several that were sent at once, or
  one with `credentials: "omit"`. So its events have no visitor, and each response stores a new ID in a cookie
  of its own. Browsers send the oldest cookie first (RFC 6265bis, 5.8.3), so that all later requests agree on
  the first one that arrived, however the responses race.
- One to a request from another site, with which the browser withholds our cookie. If a user has logged in
  there (sign-in by `form_post`, SAML), a pending cookie stores the user ID, and the next request that brings
  our cookie logs the user in on its device.

On https these cookies have the `__Host-` prefix, as ours has: no other host can plant one.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .visitor_cookie import VisitorCookie, VisitorCookieCodec

DEVICE_MAX_AGE_S = 86_400
"""No event has a pending ID, so no event is lost with it."""

USER_MAX_AGE_S = 600
"""The next page is on its way already; an older log-in may be another person's."""

MAX_TRIED = 16
"""How many pending cookies are verified in one request; a page sends few tracking requests at once."""

MAX_LOOKED_AT = 100
"""How many occurrences of the name are read: more is an attack, not a browser."""

_BLANKS = " \t"
_SUFFIX_CHARS = 8


class Pending(NamedTuple):
    """The cookie of a pending device ID, and the user ID of a pending log-in."""

    cookie: VisitorCookie | None = None
    user_id: str | None = None


NOTHING = Pending()


class PendingCookies:
    """Reads and builds the pending cookies of one site."""

    def __init__(self, codec: VisitorCookieCodec) -> None:
        self._codec = codec
        self._prefixes = {secure: f"{codec.name(secure=secure)}." for secure in (True, False)}

    def any_in(self, cookies: str, *, secure: bool) -> bool:
        """Return whether a Cookie header may have a pending cookie; nearly always it has none."""
        return self._prefixes[secure] in cookies

    def find(self, cookies: str, *, secure: bool, now_s: float) -> Pending:
        """Find the oldest pending device, and the user of a log-in."""
        if self._prefixes[secure] not in cookies:
            return NOTHING
        device = user_id = None
        for _, value in islice(self._cookies(cookies, secure=secure), MAX_TRIED):
            cookie = self._codec.decode(value, now_s=now_s)
            if cookie is None:
                continue
            age_s = now_s - cookie.issued_at_s
            if cookie.user_id is not None:
                user_id = cookie.user_id if age_s <= USER_MAX_AGE_S else user_id
            elif device is None and age_s <= DEVICE_MAX_AGE_S:
                device = cookie
        return Pending(device, user_id)

    def store(self, cookie: VisitorCookie, *, secure: bool) -> str:
        """Build the value of a Set-Cookie header that keeps our cookie for the next request."""
        if cookie.user_id is None:
            max_age_s, suffix = DEVICE_MAX_AGE_S, f".{cookie.device_id[-_SUFFIX_CHARS:]}"
        else:
            max_age_s, suffix = USER_MAX_AGE_S, ".user"  # of two log-ins the last one counts
        return self._codec.set_cookie(cookie, secure=secure, suffix=suffix, max_age_s=max_age_s)

    def expire(self, cookies: str, *, secure: bool) -> list[str]:
        """Build the values of Set-Cookie headers that remove the pending cookies of a Cookie header."""
        if self._prefixes[secure] not in cookies:
            return []
        length = len(self._prefixes[secure]) - 1
        names = dict.fromkeys(name for name, _ in self._cookies(cookies, secure=secure))
        return [
            self._codec.expire_cookie(secure=secure, suffix=name[length:]) for name in list(names)[:MAX_TRIED]
        ]

    def _cookies(self, cookies: str, *, secure: bool) -> Iterator[tuple[str, str]]:
        """Yield the first few pairs of a Cookie header that have a pending cookie's name."""
        prefix = self._prefixes[secure]
        position = cookies.find(prefix)
        for _ in range(MAX_LOOKED_AT):
            if position < 0:
                return
            start = cookies.rfind(";", 0, position) + 1
            end = cookies.find(";", position)
            end = len(cookies) if end < 0 else end
            name, _, value = cookies[position:end].partition("=")
            if not cookies[start:position].strip(_BLANKS) and is_suffix(name[len(prefix) :]):
                yield name, value.strip(_BLANKS)
            position = cookies.find(prefix, end)


def is_suffix(text: str) -> bool:
    """Return whether a name may end like this: only names that we have made are repeated in a header."""
    return 0 < len(text) <= _SUFFIX_CHARS and text.isascii() and text.replace("-", "").isalnum()
