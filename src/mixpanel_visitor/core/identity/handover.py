"""Hand-over: the browser posts its visitor ID to the server, where no cookie carries it.

Neither SPiD SDK leaves a cookie by default, and mixpanel-browser may keep its ID in localStorage. So a script
posts it to one path of the site itself: a JSON object with `device_id`, with `uid` and where there is one its
`sig`, or with all of them; or with `opted_out`.

Whatever page can make a visitor's browser post here decides who the visitor is. So only the site's own pages
may (Fetch Metadata, else Origin), and only with a content type that no cross-site form or beacon can send
without asking first.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import orjson

from mixpanel_visitor.core.policy import is_same_origin
from mixpanel_visitor.core.request import content_length

from .identity import id_refusal
from .mixpanel_browser import BrowserClaim
from .visitor_cookie import is_device_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from mixpanel_visitor.core.request import RequestFacts

    from .resolver import IdentityResolver, ResolvedIdentity

MAX_BODY_BYTES = 2048
"""No ID needs a longer body; a `sig` is under 1 KB."""

KINDS = ("opted_out", "device_id", "uid", "sig")
"""What can be handed over. With `opted_out` the IDs beside it are ignored."""

_TAG = re.compile(r"[0-9A-Za-z_-]{8}")


class HandoverError(ValueError):
    """A refused hand-over, with the HTTP `status` of the response and the note it is counted under."""

    def __init__(self, status: int, note: str, message: str) -> None:
        self.status = status
        self.note = note
        super().__init__(message)


def _malformed() -> HandoverError:
    message = (
        "the body must be a JSON object with device_id, with uid and its sig, or with opted_out, which is "
        "true or false"
    )
    return HandoverError(400, "handover_malformed", message)


def _too_large() -> HandoverError:
    return HandoverError(413, "handover_too_large", f"the body may have {MAX_BODY_BYTES} bytes")


class HandoverClaim(NamedTuple):
    """What a page has posted: the browser's IDs, or whether the visitor has opted out. None: not posted."""

    device_id: object = None
    uid: object = None
    sig: object = None
    opted_out: bool | None = None

    @property
    def tag(self) -> str:
        """The beginning of the `sig`, by which the script recognizes a session that it has handed over."""
        match = _TAG.match(self.sig) if isinstance(self.sig, str) else None
        return match[0] if match else ""


_EMPTY_CLAIM = HandoverClaim()


def check(facts: RequestFacts) -> None:
    """Check a hand-over's head before its body is read; raise `HandoverError`."""
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
    try:
        length_bytes = content_length(facts)
    except ValueError:
        raise _malformed() from None
    if length_bytes is not None and length_bytes > MAX_BODY_BYTES:
        raise _too_large()


def read_claim(body: bytes) -> HandoverClaim:
    """Return the claim in a body; raise `HandoverError`."""
    if len(body) > MAX_BODY_BYTES:
        raise _too_large()
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise _malformed() from None
    fields = {kind: parsed[kind] for kind in KINDS if kind in parsed} if isinstance(parsed, dict) else {}
    if not fields or not isinstance(fields.get("opted_out"), (bool, type(None))):
        raise _malformed()
    claim = HandoverClaim(**fields)
    if claim == _EMPTY_CLAIM:
        raise _malformed()
    return claim


def resolve_handover(
    resolver: IdentityResolver,
    claim: HandoverClaim,
    before: ResolvedIdentity | None,
    *,
    now_s: float,
    fresh_id: Callable[[], str],
) -> ResolvedIdentity:
    """Resolve the visitor anew with a posted claim; raise `HandoverError` if no ID in it is usable."""
    sdk_claim = visitor = None
    if resolver.mixpanel is not None and claim.device_id is not None:
        sdk_claim = _browser_claim(claim.device_id)
    if resolver.spid is not None:
        if claim.sig is not None:
            visitor = resolver.spid.claimed(claim.sig, claim.uid, now_s=now_s)
        elif claim.uid is not None:
            visitor = resolver.spid.unsigned(claim.uid)
    if sdk_claim is None and visitor is None:
        raise _unusable(resolver, claim)
    after = resolver.merge_claims(before, sdk_claim, visitor, posted=True, now_s=now_s, fresh_id=fresh_id)
    assert after is not None
    return after


def _browser_claim(device_id: object) -> BrowserClaim | None:
    if not (isinstance(device_id, str) and is_device_id(device_id)) or id_refusal(device_id) is not None:
        return None
    return BrowserClaim(device_id=device_id)


def _unusable(resolver: IdentityResolver, claim: HandoverClaim) -> HandoverError:
    sdks = {"device_id": resolver.mixpanel, "uid": resolver.spid, "sig": resolver.spid}
    names = [name for name in sdks if getattr(claim, name) is not None]
    if any(sdks[name] is not None for name in names):
        message = f"this {' or '.join(names)} is not to be believed"
        return HandoverError(400, "handover_refused", message)
    sdk = "mixpanel" if resolver.mixpanel is None and claim.device_id is not None else "spid"
    message = f"{' or '.join(names)} is not expected here: the setting browser_sdk does not name {sdk!r}"
    return HandoverError(400, "handover_not_expected", message)
