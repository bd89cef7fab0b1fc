"""IdentityResolver: who the visitor is, from our own cookie and from the claims of the browser's SDKs.

Our cookie is signed and lives longest. A browser's claim is neither, but its events carry the claimed ID, and
ours must agree with them. So we follow the browser when its ID changes, within limits. A user is never taken
from a claim. A new device ID that the browser has made drops the user of the old one, because that is what
the SDK's `reset()` at a log-out does.

A device ID is joined to a user at a log-in and never without one: else an attacker who plants the SDK's
cookie in the browser of a logged-in user would have his own history joined to that user's. And it is joined
only after it came in our signed cookie, so that nobody joins a stranger's history to his own by sending the
stranger's ID once. There is no stronger protection: we also sign an unsigned ID that a browser keeps sending.
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
    """The visitor's identity, the cookie that should store it, and the events that this makes necessary."""

    cookie: VisitorCookie
    identity: Identity
    merge_events: tuple[MergeEvent, ...] = ()


class IdentityResolver:
    """Resolves visitors by the rules of one ID mode and the browser SDKs of one site.

    `mixpanel` and `spid` are None where the site does not use them. Where both are used and the project
    does not count by SPiD's uid, the first of `order` that has a claim counts.
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
        # In a legacy project pages with SPiD as their first SDK call `mixpanel.identify(uid)`, too.
        self._by_uid = id_mode == "spid" or (id_mode == "legacy" and self._spid_first)
        self._count = count

    def resolve(
        self, cookie: VisitorCookie | None, cookies: str, *, now_s: float, fresh_id: Callable[[], str]
    ) -> ResolvedIdentity:
        """Resolve a request with these cookies; without any ID in them the visitor is new."""
        claim = visitor = None
        if cookies:
            if self.mixpanel is not None:
                known_device_id = None if cookie is None else cookie.device_id
                claim = self.mixpanel.claim(cookies, known_device_id=known_device_id)
            if self.spid is not None:
                visitor = self.spid.find(cookies, now_s=now_s)
        resolved = None if cookie is None else self._from_cookie(cookie)
        if claim is not None or visitor is not None:
            resolved = self.merge_claims(
                resolved, claim, visitor, posted=False, now_s=now_s, fresh_id=fresh_id
            )
        return resolved or _new_visitor(fresh_id(), now_s)

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
        """Merge the SDKs' claims: mixpanel-browser's device ID, SPiD's visitor, or both.

        `posted`: a page of this very origin has posted them just now; else they come from cookies.
        """
        after = before
        if claim is not None and not (visitor is not None and self._spid_first and not self._by_uid):
            after = self._merge_browser_claim(before, claim, "mixpanel", now_s=now_s)
            if not self._by_uid:
                return after
        if visitor is None:
            return after
        return self._merge_spid_visitor(after, visitor, posted=posted, now_s=now_s, fresh_id=fresh_id)

    def _merge_spid_visitor(
        self,
        before: ResolvedIdentity | None,
        visitor: SpidVisitor,
        *,
        posted: bool,
        now_s: float,
        fresh_id: Callable[[], str],
    ) -> ResolvedIdentity:
        """Merge the visitor of SPiD's session: as the uid, or as the device ID."""
        cookie_before = None if before is None else before.cookie
        if cookie_before is not None and not posted and not self._may_replace_uid(cookie_before, visitor):
            self._count("spid_uid_not_followed")
            assert before is not None
            return before
        source: Source = "spid-signed" if visitor.signed else "spid"
        if not self._by_uid:
            claim = BrowserClaim(device_id=visitor.uid)
            after = self._merge_browser_claim(before, claim, source, now_s=now_s, vouched=visitor.signed)
            return after._replace(cookie=_with_session(after.cookie, visitor, signed=visitor.signed))
        if before is None:
            before = _new_visitor(fresh_id(), now_s)
        cookie, identity = before.cookie, before.identity
        merge_events = before.merge_events
        if cookie_before is not None and cookie.uid is None and self._id_mode == "spid":
            # For the events of this device from before SPiD's session was known.
            merge_events = (
                *merge_events,
                *merge_events_between("spid", visitor.uid, cookie.device_id, unprefixed=cookie.unprefixed),
            )
        is_same_uid = cookie.uid == visitor.uid
        signed = visitor.signed or (is_same_uid and cookie.uid_signed)
        if cookie.uid is not None and not is_same_uid and (cookie.uid_signed or visitor.logged_in):
            # Another user has logged in at SPiD, or the former one has logged out. Anonymous uids change by
            # themselves where browsers block SPiD's own cookie: that is the same person.
            cookie = cookie._replace(user_id=None, user_hash=None, merge_pending=False, unjoined=False)
            identity = identity._replace(user_id=None)
        return ResolvedIdentity(
            cookie=_with_session(cookie, visitor, signed=signed),
            identity=identity._replace(uid=visitor.uid, source=source, vouched=signed),
            merge_events=merge_events,
        )

    def lacks_uid(self, resolved: ResolvedIdentity) -> bool:
        """Return whether a new visitor of a legacy project that counts by uid has none yet.

        Nothing could join events that are tracked now to the uid: such a project has only aliases, for later
        events, and only for IDs that have never been used.
        """
        return (
            self._by_uid
            and self._id_mode == "legacy"
            and resolved.identity.is_new
            and resolved.cookie.uid is None
        )

    def _may_replace_uid(self, cookie: VisitorCookie, visitor: SpidVisitor) -> bool:
        """Return whether a session that came in a cookie may replace the uid in our cookie.

        A sibling host can plant such a cookie. A signature can be replayed from any browser while it lasts,
        and an anonymous uid is not signed at all. So a signed one replaces another only if it was signed
        after our cookie was, and an unsigned one never replaces one that SPiD had signed.
        """
        if cookie.uid is None or cookie.uid == visitor.uid:
            return True
        if not visitor.signed:
            return not cookie.uid_signed
        return visitor.issued_at_s is not None and visitor.issued_at_s >= cookie.issued_at_s

    def _merge_browser_claim(
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
        # The browser never had this ID of ours: it is the same visit, without a log-out in between.
        is_same_visit = known.vouched and not known.sdk_confirmed and is_uuid(known.device_id)
        keeps_user = is_same_visit or (claim.user_id is not None and known.belongs_to(claim.user_id))
        cookie = known._replace(
            device_id=claim.device_id,
            user_id=known.user_id if keeps_user else None,
            user_hash=known.user_hash if keeps_user else None,
            vouched=vouched,
            unprefixed=claim.unprefixed,
            sdk_confirmed=claim.settled,
            earlier_id=known.device_id if is_same_visit and not known.has_user else None,
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
    """Return our cookie with SPiD's visitor; the same object if it has that already."""
    after = cookie._replace(
        uid=visitor.uid,
        uid_signed=signed,
        spid_user_id=visitor.user_id,
        spid_until_s=visitor.until_s if visitor.user_id is not None else 0,
    )
    return cookie if after == cookie else after


def _new_visitor(device_id: str, now_s: float) -> ResolvedIdentity:
    return ResolvedIdentity(
        VisitorCookie(device_id, int(now_s)),
        # By position: by keyword it takes half as long again, for each new visitor.
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
