"""ResponseCookies: the Set-Cookie headers of a response, and whether it may have any."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .identity.pending_cookies import PendingCookies
from .identity.spid_browser import is_uid
from .identity.visitor_cookie import RENEW_AFTER_S, VisitorCookie, is_device_id
from .policy import is_document, shared_cacheable
from .request import all_cookie_values, cookie_values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .identity.handover import HandoverClaim
    from .identity.mixpanel_browser import MixpanelBrowser
    from .identity.visitor_cookie import VisitorCookieCodec
    from .request import RequestFacts

    Headers = Sequence[tuple[str, str]]

HEAL_AFTER_S = 6 * 86_400
"""Safari deletes a script's cookie after seven days without a visit; one that is gone sooner was removed.

An opt-out removes the SDK's cookie, so a missing one is only restored after an absence of this length.
"""

SEEN_SUFFIX = "_js"

OPTED_OUT = "0"
"""The value of the cookie for our script, in place of IDs, when the visitor has opted out.

The SDK's own opt-out cookie does not last: if the SDK uses localStorage for it, it removes the cookie.
"""

OPT_OUT_MAX_AGE_S = 365 * 86_400


class ResponseCookies:
    """Builds the cookies of one site: ours, the browser SDK's, and the one that our script reads."""

    def __init__(
        self,
        codec: VisitorCookieCodec,
        mixpanel: MixpanelBrowser | None,
        *,
        seen_name: str,
        former_seen_name: str | None = None,
    ) -> None:
        self._codec = codec
        self.pending = PendingCookies(codec)
        self._mixpanel = mixpanel
        self._seen_name = seen_name
        # Release 0.1's, whose opt-outs still count.
        self._seen_names = [seen_name] if former_seen_name is None else [seen_name, former_seen_name]

    def reason_not_to_set(
        self, status: int, headers: Headers, facts: RequestFacts, *, now_s: float
    ) -> str | None:
        """Return why this response may carry no cookie of ours at all; None: it may."""
        if status == 304:
            return "cookie_skipped_not_modified"  # caches merge its headers into the stored response
        prefix = f"{self._codec.name(secure=facts.scheme == 'https')}="
        if any(key.lower() == "set-cookie" and value.startswith(prefix) for key, value in headers):
            return "cookie_skipped_already_set"
        if shared_cacheable(headers, now_s=now_s):
            return "cookie_skipped_cacheable"
        return None

    # --- what the browser has -------------------------------------------------------------------

    def has_any(self, facts: RequestFacts) -> bool:
        """Return whether the browser has a cookie with an ID in it, believed or not: ours or the SDK's."""
        if not facts.cookies:
            return False
        secure = facts.scheme == "https"
        if self._codec.has_any(facts.cookies, secure=secure):
            return True
        return self.pending.any_in(facts.cookies, secure=secure) or (
            self._mixpanel is not None
            and bool(cookie_values(facts.cookies, self._mixpanel.name))
            and not self.has_opted_out(facts)
        )

    def has_opted_out(self, facts: RequestFacts) -> bool:
        """Return whether the browser has handed an opt-out over before."""
        for name in self._seen_names:
            if name in facts.cookies and OPTED_OUT in all_cookie_values(facts.cookies, name):
                return True
        return False

    def wants_more(self, facts: RequestFacts, cookie: VisitorCookie, *, now_s: float) -> bool:
        """Return whether to store a received cookie again, or to give the SDK its ID."""
        return now_s - cookie.issued_at_s > RENEW_AFTER_S or (
            # Issued today: an SDK that has the ID, or was given it, needs no more.
            not (cookie.sdk_confirmed or cookie.sdk_cookie_sent)
            and self.wants_seed(facts, cookie, cookie, now_s=now_s)
        )

    def wants_seed(
        self, facts: RequestFacts, cookie: VisitorCookie, received: VisitorCookie | None, *, now_s: float
    ) -> bool:
        """Return whether to give the SDK on this page the ID, because it has none yet or lost it.

        An ID that it has is never replaced, and only requests for a page that it may run on count.
        """
        if self._mixpanel is None:
            return False
        if (cookie.sdk_confirmed or cookie.sdk_cookie_sent) and (
            received is None or now_s - received.issued_at_s <= HEAL_AFTER_S
        ):
            return False
        return facts.method == "GET" and is_document(facts) and not self._mixpanel.occupied(facts.cookies)

    def is_seed_of_another(self, cookie: VisitorCookie, claim: HandoverClaim, facts: RequestFacts) -> bool:
        """Return whether the SDK's cookie names another device than the one that was handed over."""
        if self._mixpanel is None or claim.device_id != cookie.device_id:
            return False
        stored = self._mixpanel.claim(facts.cookies, known_device_id=None)
        return stored is not None and stored.device_id != cookie.device_id

    # --- what the response stores ---------------------------------------------------------------

    def store(self, cookie: VisitorCookie, facts: RequestFacts) -> list[str]:
        """Store our cookie, and expire the cookie for our script if that has another ID."""
        secure = facts.scheme == "https"
        cookies = [self._codec.set_cookie(cookie, secure=secure)]
        cookies += self._codec.expire_former(facts.cookies, secure=secure, succeeded=True)
        cookies += self.pending.expire(facts.cookies, secure=secure)
        if self._seen_name in facts.cookies:
            script_value = facts.cookie(self._seen_name)
            if script_value and not _is_current(script_value, cookie):
                cookies.append(_expire(self._seen_name))
        return cookies

    def values(
        self,
        cookie: VisitorCookie,
        facts: RequestFacts,
        received: VisitorCookie | None,
        status: int,
        *,
        replace_sdk: bool,
        now_s: float,
    ) -> list[str]:
        """Build the cookies that store an ID: ours, and the SDK's if it is to have the ID."""
        sdk_cookie_sent, seeds = cookie.sdk_cookie_sent, []
        if replace_sdk or (200 <= status < 400 and self.wants_seed(facts, cookie, received, now_s=now_s)):
            seeds = self.seed(cookie, facts, replace=replace_sdk)
            sdk_cookie_sent = bool(seeds)
        # By position: `_replace` takes four times as long, for each new visitor.
        cookie = VisitorCookie._make((cookie[0], int(now_s), *cookie[2:6], sdk_cookie_sent, *cookie[7:]))
        return [*self.store(cookie, facts), *seeds]

    def pending_cookie(self, cookie: VisitorCookie, facts: RequestFacts, *, now_s: float) -> list[str]:
        """Store the new ID for the next request beside our cookie, which must not be overwritten."""
        cookie = cookie._replace(issued_at_s=int(now_s))
        return [self.pending.store(cookie, secure=facts.scheme == "https")]

    def seed(self, cookie: VisitorCookie, facts: RequestFacts, *, replace: bool) -> list[str]:
        """Return the cookie that gives the SDK this device ID; `replace`: in place of any other."""
        if self._mixpanel is None:
            return []
        return self._mixpanel.seed(
            cookie.device_id,
            unprefixed=cookie.unprefixed,
            host=facts.host,
            secure=facts.scheme == "https",
            replace=replace,
        )

    def forget(self, facts: RequestFacts) -> list[str]:
        """Expire every cookie with an ID."""
        secure = facts.scheme == "https"
        cookies = [self._codec.expire_cookie(secure=secure)]
        cookies += self._codec.expire_former(facts.cookies, secure=secure)
        cookies += self.pending.expire(facts.cookies, secure=secure)
        # After a handed-over opt-out the SDK has no cookie; a new one belongs to an opt-in on its way.
        if self._mixpanel is not None and not self.has_opted_out(facts):
            cookies += self._mixpanel.expire(host=facts.host)
        stale = [name for name in self._seen_names if facts.cookie(name) not in ("", OPTED_OUT)]
        return [*cookies, *map(_expire, stale)]

    def opt_out(self, facts: RequestFacts, *, out: bool) -> list[str]:
        """Store an opt-out in our cookie and in the SDK's; `out=False`: remove both."""
        secure = facts.scheme == "https"
        if not out:
            sdk = [] if self._mixpanel is None else self._mixpanel.opt_in(host=facts.host)
            former = [name for name in self._seen_names[1:] if name in facts.cookies]
            return [*map(_expire, [self._seen_name, *former]), *sdk]
        sdk = [] if self._mixpanel is None else self._mixpanel.opt_out(host=facts.host, secure=secure)
        return [f"{self._build_script_cookie(OPTED_OUT, secure=secure)}; Max-Age={OPT_OUT_MAX_AGE_S}", *sdk]

    def script_cookie(self, cookie: VisitorCookie, claim: HandoverClaim, facts: RequestFacts) -> str:
        """Return the cookie that tells our script which IDs it need not hand over again."""
        return self._build_script_cookie(seen_value(cookie, claim), secure=facts.scheme == "https")

    def _build_script_cookie(self, value: str, *, secure: bool) -> str:
        # Unlike our cookie, an opt-out is sent with requests from other sites, too: it is no ID.
        site = "None" if value == OPTED_OUT and secure else "Lax"
        return f"{self._seen_name}={value}; Path=/; SameSite={site}{'; Secure' if secure else ''}"


def _expire(name: str) -> str:
    return f"{name}=; Path=/; Max-Age=0"


def seen_value(cookie: VisitorCookie, claim: HandoverClaim) -> str:
    """Return the value that our script compares with the SDKs' IDs: `<device ID>~<uid>~<start of the sig>`.

    The signature is in it, believed or not, so that a later one is handed over. An ID that was handed over
    but does not count here (of two SDKs, the second one's) is at the end.
    """
    uid = cookie.uid or (claim.uid if is_uid(claim.uid) else None)
    value = cookie.device_id if uid is None else f"{cookie.device_id}~{uid}~{claim.tag}"
    other_id = claim.device_id
    if isinstance(other_id, str) and other_id != cookie.device_id and is_device_id(other_id):
        value += f"~{other_id}"
    return value


def _is_current(script_value: str, cookie: VisitorCookie) -> bool:
    """Return whether the value of the cookie for our script has the IDs of our cookie."""
    device_id, _, rest = script_value.partition("~")
    return device_id == cookie.device_id and (cookie.uid is None or rest.partition("~")[0] == cookie.uid)
