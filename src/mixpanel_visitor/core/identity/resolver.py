"""IdentityResolver: who the visitor is, from our own cookie and from what the browser's SDKs say.

Our cookie is signed and lives longest; a browser's own word is neither, but it is what the browser's events
carry, and to agree with them is the point. So the browser is followed when it changes, within limits. A user
is never taken from it. A new device ID that the browser has made drops the user of the old one, because that
is what its `reset()` at a log-out does.

A device ID is joined to a user at a log-in and never without one: whoever can plant the SDK's cookie in the
browser of somebody who is logged in would have his own history joined to that user's. And it is joined once
it came in our signed cookie, so that nobody joins a stranger's history to his own by sending the stranger's
ID once. More is not to be had: an unsigned ID that a browser keeps sending is signed by us, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .identity import Identity, is_uuid, merge_events_between
from .mixpanel_browser import BrowserClaim
from .visitor_cookie import VisitorCookie

if TYPE_CHECKING:
    from collections.abc import Callable

    from .identity import IdMode, MergeEvent, Source
    from .mixpanel_browser import MixpanelBrowser
    from .spid_browser import SpidBrowser, SpidVisitor


class ResolvedIdentity(NamedTuple):
    """Who it is, and what our cookie should say about it; `merge_events` are events that this calls for."""

    cookie: VisitorCookie
    identity: Identity
    merge_events: tuple[MergeEvent, ...] = ()


class IdentityResolver:
    """Resolves visitors by the rules of one ID mode and the browser SDKs of one site.

    `mixpanel` and `spid` are None where the site does not use them. Where both are used and the project
    does not count by SPiD's uid, the first of `order` that says something counts.
    """

    def __init__(
        self,
        *,
        id_mode: IdMode,
        order: tuple[str, ...] = ("mixpanel",),
        mixpanel: MixpanelBrowser | None = None,
        spid: SpidBrowser | None = None,
        count: Callable[[str], None],
    ) -> None:
        self.mixpanel = mixpanel
        self.spid = spid
        self._id_mode: IdMode = id_mode
        self._spid_first = order[:1] == ("spid",)
        # In a legacy project pages that ask SPiD first call `mixpanel.identify(uid)`, too.
        self._by_uid = id_mode == "spid" or (id_mode == "legacy" and self._spid_first)
        self._count = count

    def resolve(
        self, cookie: VisitorCookie | None, cookies: str, *, now_s: float, fresh_id: Callable[[], str]
    ) -> ResolvedIdentity:
        """Resolve a request with these cookies; without any ID in them the visitor is new."""
        claim = visitor = None
        if cookies:
            if self.mixpanel is not None:
                known = None if cookie is None else cookie.device_id
                claim = self.mixpanel.claim(cookies, known_device_id=known)
            if self.spid is not None:
                visitor = self.spid.find(cookies, now_s=now_s)
        resolved = None if cookie is None else self._from_cookie(cookie)
        if claim is not None or visitor is not None:
            resolved = self.merge_claims(
                resolved, claim, visitor, posted=False, now_s=now_s, fresh_id=fresh_id
            )
        return resolved or _new(fresh_id(), now_s)

    def merge_claims(
        self,
        before: ResolvedIdentity | None,
        claim: BrowserClaim | None,
        visitor: SpidVisitor | None,
        *,
        posted: bool,
        now_s: float,
        fresh_id: Callable[[], str],
    ) -> ResolvedIdentity | None:
        """Take what the SDKs say: mixpanel-browser's device ID, SPiD's visitor, or both.

        `posted`: a page of this very origin has said it just now, and it is not only what a cookie holds.
        """
        after = before
        if claim is not None and not (visitor is not None and self._spid_first and not self._by_uid):
            after = self._merged_browser_claim(before, claim, "mixpanel", now_s=now_s)
            if not self._by_uid:
                return after
        if visitor is None:
            return after
        return self._hear(after, visitor, posted=posted, now_s=now_s, fresh_id=fresh_id)

    def _hear(
        self,
        before: ResolvedIdentity | None,
        visitor: SpidVisitor,
        *,
        posted: bool,
        now_s: float,
        fresh_id: Callable[[], str],
    ) -> ResolvedIdentity:
        """Take the visitor that SPiD's session names: as the uid, or as the device ID."""
        known = None if before is None else before.cookie
        if known is not None and not posted and not self._may_replace_uid(known, visitor):
            self._count("spid_uid_not_followed")
            assert before is not None
            return before
        source: Source = "spid-signed" if visitor.signed else "spid"
        if not self._by_uid:
            claim = BrowserClaim(device_id=visitor.uid)
            after = self._merged_browser_claim(before, claim, source, now_s=now_s, vouched=visitor.signed)
            return after._replace(cookie=_with_session(after.cookie, visitor, signed=visitor.signed))
        if before is None:
            before = _new(fresh_id(), now_s)
        cookie, identity = before.cookie, before.identity
        merge_events = before.merge_events
        if known is not None and cookie.uid is None and self._id_mode == "spid":
            # What was tracked on this device before SPiD's answer was known.
            merge_events = (
                *merge_events,
                *merge_events_between("spid", visitor.uid, cookie.device_id, unprefixed=cookie.unprefixed),
            )
        same = cookie.uid == visitor.uid
        signed = visitor.signed or (same and cookie.uid_signed)
        if cookie.uid is not None and not same and (cookie.uid_signed or visitor.logged_in):
            # Somebody else has signed in at SPiD, or the one before has gone. Anonymous uids change by
            # themselves where browsers block SPiD's own cookie: that is no other person.
            cookie = cookie._replace(user_id=None, user_hash=None, merge_pending=False, unjoined=False)
            identity = identity._replace(user_id=None)
        return ResolvedIdentity(
            cookie=_with_session(cookie, visitor, signed=signed),
            identity=identity._replace(uid=visitor.uid, source=source, vouched=signed),
            merge_events=merge_events,
        )

    def lacks_uid(self, resolved: ResolvedIdentity) -> bool:
        """Return whether a new visitor of a legacy project that counts by uid has none yet.

        What is tracked now could be joined to the uid by nothing: such a project knows aliases only, for what
        comes later, and only for IDs that have never been used.
        """
        return (
            self._by_uid
            and self._id_mode == "legacy"
            and resolved.identity.is_new
            and resolved.cookie.uid is None
        )

    def _may_replace_uid(self, cookie: VisitorCookie, visitor: SpidVisitor) -> bool:
        """Return whether a session that only a cookie holds may replace the uid that our cookie holds.

        A sibling host can plant such a cookie. A signature can be replayed from any browser while it lasts,
        and an anonymous uid is not signed at all. So a signed one replaces another only if it was signed
        after our cookie was, and an unsigned one never replaces one that SPiD had signed.
        """
        if cookie.uid is None or cookie.uid == visitor.uid:
            return True
        if not visitor.signed:
            return not cookie.uid_signed
        return visitor.issued_at_s is not None and visitor.issued_at_s >= cookie.issued_at_s

    def _merged_browser_claim(
        self,
        before: ResolvedIdentity | None,
        claim: BrowserClaim,
        source: Source,
        *,
        now_s: float,
        vouched: bool = False,
    ) -> ResolvedIdentity:
        if before is None:
            cookie = VisitorCookie(
                device_id=claim.device_id,
                issued_at_s=int(now_s),
                vouched=vouched,
                unprefixed=claim.unprefixed,
                sdk_confirmed=claim.settled,
            )
            return ResolvedIdentity(
                cookie=cookie, identity=_identity(cookie, self._by_uid, source, device_unverified=True)
            )
        known = before.cookie
        if known.device_id == claim.device_id:
            if not claim.settled or known.sdk_confirmed:
                return before
            return before._replace(cookie=known._replace(sdk_confirmed=True))
        # An ID of ours that the browser never had: it is the same visit, and no log-out in between.
        first_meeting = known.vouched and not known.sdk_confirmed and is_uuid(known.device_id)
        keeps_user = first_meeting or (claim.user_id is not None and known.belongs_to(claim.user_id))
        cookie = known._replace(
            device_id=claim.device_id,
            user_id=known.user_id if keeps_user else None,
            user_hash=known.user_hash if keeps_user else None,
            vouched=vouched,
            unprefixed=claim.unprefixed,
            sdk_confirmed=claim.settled,
            earlier_id=known.device_id if first_meeting and not known.has_user else None,
            merge_pending=False,
            unjoined=keeps_user and known.has_user,
        )
        return ResolvedIdentity(
            cookie=cookie, identity=_identity(cookie, self._by_uid, source, device_unverified=True)
        )

    def _from_cookie(self, cookie: VisitorCookie) -> ResolvedIdentity:
        identity = _identity(cookie, self._by_uid, "cookie", device_unverified=cookie.unjoined)
        if not cookie.merge_pending or cookie.user_id is None or self._id_mode in ("legacy", "spid"):
            return ResolvedIdentity(cookie=cookie, identity=identity)
        merge_events = merge_events_between(
            self._id_mode, cookie.user_id, cookie.device_id, unprefixed=cookie.unprefixed
        )
        return ResolvedIdentity(
            cookie=cookie._replace(merge_pending=False), identity=identity, merge_events=merge_events
        )


def _with_session(cookie: VisitorCookie, visitor: SpidVisitor, *, signed: bool) -> VisitorCookie:
    """Return our cookie with SPiD's visitor; the same object where that says nothing new."""
    after = cookie._replace(
        uid=visitor.uid,
        uid_signed=signed,
        spid_user_id=visitor.user_id,
        spid_until_s=visitor.until_s if visitor.user_id is not None else 0,
    )
    return cookie if after == cookie else after


def _new(device_id: str, now_s: float) -> ResolvedIdentity:
    return ResolvedIdentity(
        VisitorCookie(device_id, int(now_s)),
        # By position: by keyword it takes half as long again, which each new visitor waits for.
        Identity(device_id, None, None, False, "generated", True, True),
    )


def _identity(
    cookie: VisitorCookie, by_uid: bool, source: Source, *, device_unverified: bool = False
) -> Identity:
    uid = cookie.uid if by_uid else None
    return Identity(
        device_id=cookie.device_id,
        user_id=cookie.user_id,
        uid=uid,
        unprefixed=cookie.unprefixed,
        source=source,
        vouched=cookie.vouched if uid is None else cookie.uid_signed,
        device_unverified=device_unverified,
    )
