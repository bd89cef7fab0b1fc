"""Handover: the browser gives its visitor ID to the server, where no cookie does.

Neither SPiD SDK leaves a cookie by default, and mixpanel-browser may keep its ID in localStorage. So a script
posts it to one path of the site itself: JSON with `sig`, `uid` or `device_id`, or with `opted_out`.

Whatever page can make a visitor's browser post here decides who the visitor is. So only the site's own pages
may (Fetch Metadata, else Origin), and only with a content type that no cross-site form or beacon can send
without asking first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import orjson

from .anchor import is_device_id
from .browser_sdks.mixpanel import BrowserClaim
from .identity import refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from .request import RequestFacts
    from .resolution import Resolution, Resolver

MAX_BODY_BYTES = 2048
"""A longer body is no ID; a `sig` is under 1 KB."""

Kind = Literal["sig", "uid", "device_id", "opted_out"]
KINDS: tuple[Kind, ...] = ("sig", "uid", "device_id", "opted_out")
"""What can be handed over; of several in one body the first one counts."""


class HandoverError(ValueError):
    """A hand-over that is refused, with the HTTP `status` of the answer and the name it is counted under."""

    def __init__(self, status: int, note: str, message: str) -> None:
        self.status = status
        self.note = note
        super().__init__(message)


def _malformed() -> HandoverError:
    message = f"the body must be a JSON object with one of {', '.join(KINDS)}"
    return HandoverError(400, "handover_malformed", message)


def _too_large() -> HandoverError:
    return HandoverError(413, "handover_too_large", f"the body may have {MAX_BODY_BYTES} bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """What the browser says: one of its IDs, or whether the visitor has opted out there."""

    kind: Kind
    value: Any


def check(facts: RequestFacts) -> None:
    """Check a request to the path before its body is read; raises `HandoverError`."""
    if facts.method != "POST":
        raise HandoverError(405, "handover_method", "a visitor ID is handed over with POST")
    if not is_same_origin(facts):
        raise HandoverError(
            403, "handover_cross_site", "only this site's own pages may hand a visitor ID over"
        )
    if facts.header("content-type").partition(";")[0].strip().lower() != "application/json":
        raise HandoverError(
            415, "handover_content_type", "the body must be JSON, and the Content-Type application/json"
        )
    length = facts.header("content-length").strip()
    if length and not (length.isascii() and length.isdigit() and len(length) < 16):
        raise _malformed()
    if length and int(length) > MAX_BODY_BYTES:
        raise _too_large()


def is_same_origin(facts: RequestFacts) -> bool:
    """Tell whether a page of this very origin has sent an unsafe request.

    `Sec-Fetch-Site` decides where it is sent; else `Origin` has to be ours; neither of them: no.
    """
    site = facts.header("sec-fetch-site")
    if site:
        return site == "same-origin"
    scheme, separator, host = facts.header("origin").lower().partition("://")
    return bool(separator and facts.host) and (scheme, host) == (facts.scheme, facts.host.lower())


def read_word(body: bytes) -> Word:
    """Read the body; raises `HandoverError`."""
    if len(body) > MAX_BODY_BYTES:
        raise _too_large()
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise _malformed() from None
    if isinstance(said, dict):
        for kind in KINDS:
            if kind in said:
                return Word(kind=kind, value=said[kind])
    raise _malformed()


def heard(
    resolver: Resolver,
    word: Word,
    before: Resolution | None,
    *,
    now_s: float,
    fresh_id: Callable[[], str],
) -> Resolution:
    """Resolve the visitor anew with an ID that was handed over; raises `HandoverError`."""
    if word.kind == "device_id":
        if resolver.mixpanel is None:
            raise _not_expected(word, "mixpanel")
        if refusal(word.value) is not None or not is_device_id(word.value):
            raise _refused(word)
        return resolver.follow(before, BrowserClaim(device_id=word.value), now_s=now_s)
    if resolver.spid is None:
        raise _not_expected(word, "spid")
    if word.kind == "sig":
        visitor = resolver.spid.verified(word.value, now_s=now_s)
    else:
        visitor = resolver.spid.unsigned(word.value)
    if visitor is None:
        raise _refused(word)
    return resolver.hear(before, visitor, now_s=now_s, fresh_id=fresh_id)


def _not_expected(word: Word, sdk: str) -> HandoverError:
    message = f"{word.kind} is not expected here: the setting browser_sdk does not name {sdk!r}"
    return HandoverError(400, "handover_not_expected", message)


def _refused(word: Word) -> HandoverError:
    return HandoverError(400, "handover_refused", f"this {word.kind} is not to be believed")
