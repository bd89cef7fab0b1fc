"""Resolution: who the visitor is, from our cookie and from what the browser says."""

from collections import Counter
from itertools import count

import pytest
from support.facts import VECTORS

from mixpanel_visitor.core.identity.identity import identity_properties, merge_events_between
from mixpanel_visitor.core.identity.mixpanel_browser import MixpanelBrowser, quoted_identity
from mixpanel_visitor.core.identity.resolver import IdentityResolver
from mixpanel_visitor.core.identity.spid_browser import SpidBrowser, SpidVisitor
from mixpanel_visitor.core.identity.visitor_cookie import VisitorCookie

TOKEN = "0123456789abcdef0123456789abcdef"
OURS = "11111111-2222-4333-8444-555555555555"
THEIRS = "6f1c2a3b-4d5e-4f60-8a7b-9c0d1e2f3a4b"
UID = "1ab2c3Xt3n8cgX0zk9m4"
OTHER_UID = "XXab12Xt3n8cgXXXXXX7"
SPID = VECTORS["spid_cookies"][0]
SERVER_TIME_S = 1_760_000_000
NOW_S = SERVER_TIME_S + 100


class Site:
    """A resolver with everything it needs."""

    def __init__(self, *, id_mode="simplified", order=("mixpanel",), sign_secret=SPID["sig_secret"]):
        self.notes = Counter()
        ids = count(1)
        self.fresh_id = lambda: f"fresh-{next(ids)}"
        self.resolver = IdentityResolver(
            id_mode=id_mode,
            order=order,
            mixpanel=self._mixpanel() if "mixpanel" in order else None,
            spid=self._spid(sign_secret) if "spid" in order else None,
            count=self.note,
        )

    def _mixpanel(self):
        return MixpanelBrowser(
            TOKEN,
            persistence_name=None,
            cross_subdomain=True,
            cookie_domain=None,
            max_age_s=31_536_000,
            count=self.note,
        )

    def _spid(self, sign_secret):
        return SpidBrowser(SPID["client_id"], sign_secret=sign_secret, production=True, count=self.note)

    def note(self, name):
        self.notes[name] += 1

    def resolve(self, visitor_cookie, *cookies):
        return self.resolver.resolve(visitor_cookie, "; ".join(cookies), now_s=NOW_S, fresh_id=self.fresh_id)

    def post(self, visitor_cookie, visitor):
        """Resolve what a page has posted."""
        before = self.resolver.resolve(visitor_cookie, "", now_s=NOW_S, fresh_id=self.fresh_id)
        return self.resolver.merge_claims(
            before, None, visitor, posted=True, now_s=NOW_S, fresh_id=self.fresh_id
        )


def ours(**more):
    """An anchor of our own making, that the browser has not been seen with."""
    return VisitorCookie(**{"device_id": OURS, "issued_at_s": NOW_S - 50, **more})


def sdk_cookie(device_id=THEIRS, *, settled=True):
    """The browser SDK's cookie of an anonymous visitor."""
    value = quoted_identity(device_id)
    if settled:
        value = value.removesuffix("%7D") + "%2C%22__mps%22%3A%7B%7D%7D"
    return f"mp_{TOKEN}_mixpanel={value}"


def sdk_cookie_of(user_id, device_id=THEIRS):
    """The browser SDK's cookie after `identify`."""
    value = (
        f"%7B%22distinct_id%22%3A%22{user_id}%22%2C%22%24device_id%22%3A%22{device_id}%22%2C"
        f"%22%24user_id%22%3A%22{user_id}%22%7D"
    )
    return f"mp_{TOKEN}_mixpanel={value}"


def spid_cookie(uid=UID):
    """An anonymous SPiD session, unsigned."""
    return f"spid_js_{SPID['client_id']}=%7B%22visitor%22%3A%7B%22uid%22%3A%22{uid}%22%7D%7D"


UNSIGNED = SpidVisitor(uid=UID, signed=False)
UNSIGNED_LOGGED_IN = SpidVisitor(uid=UID, signed=False, logged_in=True)
SIGNED_BEFORE = SpidVisitor(uid=UID, signed=True, logged_in=True, issued_at_s=SERVER_TIME_S - 3600)
"""Posted by the page; the last one was signed before our cookie was."""

SIGNED = f"{SPID['cookie_name']}={SPID['raw']}"
"""A SPiD session of somebody who is logged in, signed at SERVER_TIME_S."""


# --- mixpanel-browser -------------------------------------------------------------------------------


def test_without_any_id_the_visitor_is_new():
    """The ID is made here, so we vouch for it."""
    found = Site().resolve(None)
    assert found.cookie == VisitorCookie(device_id="fresh-1", issued_at_s=NOW_S)
    assert (found.identity.source, found.identity.vouched, found.identity.is_new) == ("generated", True, True)


def test_the_browser_was_first():
    """A page from a cache, whose SDK has made its own ID: that one is taken, and not vouched for."""
    found = Site().resolve(None, sdk_cookie())
    assert (found.identity.device_id, found.identity.source) == (THEIRS, "mixpanel")
    assert not found.identity.vouched
    assert not found.identity.is_new
    assert (found.cookie.vouched, found.cookie.sdk_confirmed) == (False, True)


def test_an_adopted_id_is_never_vouched_for():
    """A round trip through our cookie does not make it ours."""
    found = Site().resolve(Site().resolve(None, sdk_cookie()).cookie, sdk_cookie())
    assert (found.identity.source, found.identity.vouched) == ("cookie", False)


def test_agreement_changes_nothing():
    """The common case: the very anchor comes back, so that no cookie is set."""
    visitor_cookie = ours(sdk_confirmed=True)
    assert Site().resolve(visitor_cookie, sdk_cookie(OURS)).cookie is visitor_cookie


def test_the_first_agreement_is_remembered():
    """Once, when the SDK has written our ID itself; the seed that comes back unchanged proves nothing."""
    assert Site().resolve(ours(), sdk_cookie(OURS)).cookie == ours(sdk_confirmed=True)
    visitor_cookie = ours()
    assert Site().resolve(visitor_cookie, sdk_cookie(OURS, settled=False)).cookie is visitor_cookie


def test_a_missing_cookie_changes_nothing():
    """Scripts' cookies are short-lived in some browsers; ours knows."""
    visitor_cookie = ours(sdk_confirmed=True, user_id="anna")
    found = Site().resolve(visitor_cookie)
    assert found.cookie is visitor_cookie
    assert (found.identity.device_id, found.identity.user_id) == (OURS, "anna")


def test_the_browser_is_followed_when_it_changes():
    """Its events carry the new ID, so ours do; what was known of the old one is not joined to it."""
    found = Site().resolve(ours(sdk_confirmed=True), sdk_cookie())
    assert (found.identity.device_id, found.identity.source) == (THEIRS, "mixpanel")
    assert found.cookie.earlier_id is None


def test_a_reset_in_the_browser_logs_out():
    """The next person's events never carry the last one's user."""
    found = Site().resolve(ours(sdk_confirmed=True, user_id="anna"), sdk_cookie())
    assert found.identity.user_id is None
    assert not found.cookie.has_user


def test_a_new_device_of_the_same_user_keeps_the_user():
    """If the browser says the very user that we know, it is no log-out."""
    found = Site().resolve(ours(sdk_confirmed=True, user_id="anna"), sdk_cookie_of("anna"))
    assert (found.identity.device_id, found.identity.user_id) == (THEIRS, "anna")


def test_a_user_is_never_taken_from_the_browser():
    """Anybody can write that cookie."""
    found = Site().resolve(None, sdk_cookie_of("victim"))
    assert (found.identity.device_id, found.identity.user_id) == (THEIRS, None)
    assert (
        Site().resolve(ours(sdk_confirmed=True, user_id="anna"), sdk_cookie_of("bert")).identity.user_id
        is None
    )


def test_an_id_that_the_browser_never_had_waits_for_the_log_in():
    """Our first answer came before the browser's own ID was known: one visit under two IDs."""
    found = Site().resolve(ours(), sdk_cookie())
    assert (found.cookie.device_id, found.cookie.earlier_id) == (THEIRS, OURS)
    assert found.merge_events == ()


@pytest.mark.parametrize("mode", ["simplified", "original"])
def test_a_user_of_such_a_visit_is_kept_and_not_joined(mode):
    """The log-in came before the browser's ID: events carry the user, and the device waits for a log-in."""
    found = Site(id_mode=mode).resolve(ours(user_id="anna"), sdk_cookie())
    for _ in range(3):
        assert (found.identity.device_id, found.identity.user_id) == (THEIRS, "anna")
        assert found.merge_events == ()
        assert found.cookie.unjoined
        assert "$device_id" not in identity_properties(mode, found.identity)
        found = Site(id_mode=mode).resolve(found.cookie, sdk_cookie())


@pytest.mark.parametrize("mode", ["simplified", "original"])
def test_a_log_in_with_the_browsers_id_is_told_in_the_next_request(mode):
    """Then the device has come in our own cookie; and it is told once."""
    after = Site(id_mode=mode).resolve(
        ours(device_id=THEIRS, vouched=False, sdk_confirmed=True, user_id="anna", merge_pending=True),
        sdk_cookie(),
    )
    assert after.merge_events == merge_events_between(mode, "anna", THEIRS)
    assert identity_properties(mode, after.identity)["$device_id"] == THEIRS
    assert Site(id_mode=mode).resolve(after.cookie, sdk_cookie()).merge_events == ()


def test_only_ids_of_our_own_making_wait():
    """What the browser told us before and has given up was somebody's whom it has forgotten."""
    assert Site().resolve(ours(vouched=False), sdk_cookie()).cookie.earlier_id is None


def test_without_the_sdk_its_cookie_is_not_looked_at():
    """`browser_sdk=None`: the visitor ID is our own alone."""
    assert Site(order=()).resolve(None, sdk_cookie()).identity.source == "generated"


# --- Schibsted account ------------------------------------------------------------------------------


def test_the_uid_is_the_visitor_in_its_own_id_mode():
    """Events count by it, whoever is logged in."""
    found = Site(id_mode="spid", order=("spid",)).resolve(None, SIGNED)
    assert (found.identity.uid, found.identity.source, found.identity.vouched) == (UID, "spid-signed", True)
    assert (found.cookie.uid, found.cookie.uid_signed, found.cookie.device_id) == (UID, True, "fresh-1")


def test_an_anonymous_uid_is_not_vouched_for():
    """SPiD does not sign it."""
    found = Site(id_mode="spid", order=("spid",)).resolve(None, spid_cookie())
    assert (found.identity.uid, found.identity.source, found.identity.vouched) == (UID, "spid", False)


def test_the_uid_outlives_its_session():
    """SPiD's cookies last for minutes, ours remembers the uid."""
    found = Site(id_mode="spid", order=("spid",)).resolve(ours(uid=UID, uid_signed=True))
    assert (found.identity.uid, found.identity.source, found.identity.vouched) == (UID, "cookie", True)


def test_what_came_before_the_uid_is_joined_to_it():
    """Told when our cookie takes the uid along."""
    found = Site(id_mode="spid", order=("spid",)).resolve(ours(), spid_cookie())
    assert found.merge_events == merge_events_between("spid", UID, OURS)


def test_a_new_visitor_with_a_uid_has_nothing_to_join():
    """Nothing was tracked before."""
    assert Site(id_mode="spid", order=("spid",)).resolve(None, spid_cookie()).merge_events == ()


@pytest.mark.parametrize(
    ("known", "session", "followed"),
    [
        ({"uid": OTHER_UID}, spid_cookie(), True),
        ({"uid": OTHER_UID, "uid_signed": True}, spid_cookie(), False),
        ({"uid": OTHER_UID, "issued_at_s": SERVER_TIME_S - 1}, SIGNED, True),
        ({"uid": OTHER_UID, "uid_signed": True, "issued_at_s": SERVER_TIME_S - 1}, SIGNED, True),
        ({"uid": OTHER_UID, "issued_at_s": SERVER_TIME_S + 1}, SIGNED, False),
        ({"uid": UID, "issued_at_s": SERVER_TIME_S + 1}, SIGNED, True),
    ],
)
def test_which_session_replaces_a_uid(known, session, followed):
    """A signature older than our cookie may be a replay; an anonymous uid never beats a signed one."""
    site = Site(id_mode="spid", order=("spid",))
    found = site.resolve(ours(**known), session)
    assert found.identity.uid == (UID if followed else OTHER_UID)
    assert site.notes["spid_uid_not_followed"] == (not followed)
    assert found.merge_events == ()


@pytest.mark.parametrize("signed", [True, False])
def test_an_anonymous_answer_confirms_what_was_known(signed):
    """The same uid unsigned, as after a log-out: what SPiD has signed stays signed, and nothing else is."""
    found = Site(id_mode="spid", order=("spid",)).resolve(ours(uid=UID, uid_signed=signed), spid_cookie())
    assert (found.identity.vouched, found.cookie.uid_signed) == (signed, signed)


@pytest.mark.parametrize("visitor", [UNSIGNED, UNSIGNED_LOGGED_IN, SIGNED_BEFORE])
@pytest.mark.parametrize("uid_signed", [True, False])
def test_what_the_page_says_now_is_followed(visitor, uid_signed):
    """Signed or not, and whatever was signed before."""
    site = Site(id_mode="spid", order=("spid",))
    found = site.post(ours(uid=OTHER_UID, uid_signed=uid_signed), visitor)
    assert (found.identity.uid, found.identity.vouched) == (UID, visitor.signed)
    assert (found.cookie.uid, found.cookie.uid_signed) == (UID, visitor.signed)
    assert site.notes["spid_uid_not_followed"] == 0


@pytest.mark.parametrize(
    "cookie", [spid_cookie(), f"{SPID['cookie_name'].replace('spid', 'vgs')}={SPID['raw']}"]
)
@pytest.mark.parametrize("sign_secret", ["rotated", None])
def test_what_only_a_cookie_says_does_not_displace_a_signed_uid(cookie, sign_secret):
    """A sibling host can plant one: an anonymous session, or one whose signature is not to be believed."""
    site = Site(id_mode="spid", order=("spid",), sign_secret=sign_secret)
    found = site.resolve(ours(uid=OTHER_UID, uid_signed=True), cookie)
    assert (found.identity.uid, found.identity.vouched) == (OTHER_UID, True)
    assert site.notes["spid_uid_not_followed"] == 1


def test_a_cookie_that_says_what_is_known_changes_nothing():
    """The same object, so that the answer needs no new cookie."""
    site = Site(id_mode="spid", order=("spid",))
    known = site.resolve(None, SIGNED).cookie
    assert site.resolve(known, SIGNED).cookie is known


@pytest.mark.parametrize(
    ("known", "visitor", "kept"),
    [
        ({"uid": OTHER_UID}, UNSIGNED, True),
        ({"uid": None}, SIGNED_BEFORE, True),
        ({"uid": UID, "uid_signed": True}, UNSIGNED, True),
        ({"uid": OTHER_UID, "uid_signed": True}, UNSIGNED, False),
        ({"uid": OTHER_UID}, UNSIGNED_LOGGED_IN, False),
        ({"uid": OTHER_UID}, SIGNED_BEFORE, False),
    ],
)
def test_whether_the_services_own_user_is_kept(known, visitor, kept):
    """Not when somebody signs in at SPiD or has gone; anonymous uids change where cookies are blocked."""
    found = Site(id_mode="spid", order=("spid",)).post(ours(user_id="own-7", **known), visitor)
    assert found.identity.uid == UID
    assert found.identity.user_id == found.cookie.user_id == ("own-7" if kept else None)


def test_spids_own_user_is_remembered_while_the_session_lasts():
    """Only from a session that SPiD has signed, and until it ends."""
    site = Site(id_mode="spid", order=("spid",))
    visitor_cookie = site.resolve(None, SIGNED).cookie
    assert (visitor_cookie.spid_user_id, visitor_cookie.spid_until_s) == (270177, SERVER_TIME_S + 7111)
    assert site.resolve(visitor_cookie).cookie is visitor_cookie
    assert site.post(visitor_cookie, UNSIGNED).cookie.spid_user_id is None
    assert site.post(visitor_cookie, UNSIGNED_LOGGED_IN).cookie.spid_user_id is None


def test_another_uid_is_not_joined_to_the_last_one():
    """Two of them are two visitors."""
    found = Site(id_mode="spid", order=("spid",)).resolve(ours(uid=OTHER_UID), spid_cookie())
    assert found.merge_events == ()


@pytest.mark.parametrize("order", [("spid",), ("spid", "mixpanel")])
def test_a_legacy_project_that_asks_spid_first_counts_by_its_uid(order):
    """As its pages do, which call `mixpanel.identify(uid)`; nothing can join what came before it."""
    site = Site(id_mode="legacy", order=order)
    found = site.resolve(ours(), spid_cookie())
    assert (found.identity.uid, found.identity.device_id, found.merge_events) == (UID, OURS, ())
    assert identity_properties("legacy", found.identity) == {"distinct_id": UID}
    logged_in = found.identity._replace(user_id="anna")
    assert identity_properties("legacy", logged_in) == {"distinct_id": UID}


def test_in_other_id_modes_the_uid_is_the_device():
    """It is a browser's random ID there, and a user is who logs in."""
    found = Site(order=("spid",)).resolve(None, SIGNED)
    assert (found.identity.device_id, found.identity.uid) == (UID, None)
    assert (found.identity.source, found.identity.vouched) == ("spid-signed", True)
    assert Site(order=("spid",)).resolve(found.cookie, SIGNED).cookie == found.cookie


@pytest.mark.parametrize(
    ("order", "device_id"), [(("mixpanel", "spid"), THEIRS), (("spid", "mixpanel"), UID)]
)
def test_of_two_sdks_the_first_one_counts(order, device_id):
    """The setting's order is the precedence."""
    found = Site(order=order).resolve(None, sdk_cookie(), spid_cookie())
    assert found.identity.device_id == device_id


def test_in_its_own_mode_both_sdks_are_heard():
    """The uid for the events, the browser SDK's device ID for our cookie and the seed."""
    found = Site(id_mode="spid", order=("spid", "mixpanel")).resolve(None, sdk_cookie(), spid_cookie())
    assert (found.identity.uid, found.identity.device_id) == (UID, THEIRS)


# --- where two rules meet -----------------------------------------------------------------------------


def test_a_session_from_before_our_cookie_gives_the_first_uid():
    """It replaces none, so its age does not matter."""
    found = Site(id_mode="spid", order=("spid",)).resolve(ours(issued_at_s=SERVER_TIME_S + 1), SIGNED)
    assert found.identity.uid == UID


def test_a_session_of_the_very_second_replaces_a_uid():
    """A log-in and our answer to it may share one."""
    known = ours(uid=OTHER_UID, issued_at_s=SERVER_TIME_S)
    assert Site(id_mode="spid", order=("spid",)).resolve(known, SIGNED).identity.uid == UID


def test_the_second_sdk_is_heard_where_the_first_one_is_silent():
    """SPiD's cookies last for minutes."""
    assert Site(order=("spid", "mixpanel")).resolve(None, sdk_cookie()).identity.device_id == THEIRS


def test_a_uid_that_was_the_device_does_not_wait_for_a_log_in():
    """Only IDs that were made here do."""
    assert Site().resolve(ours(device_id=UID), sdk_cookie()).cookie.earlier_id is None


def test_a_long_user_id_goes_with_the_others():
    """Its hash is kept where a user is kept, and forgotten where one is forgotten."""
    tag = "0123456789abcdef0123456789abcdef"
    assert Site().resolve(ours(user_hash=tag), sdk_cookie()).cookie.user_hash == tag
    assert not Site().resolve(ours(user_hash=tag, sdk_confirmed=True), sdk_cookie()).cookie.has_user


def test_only_a_user_who_is_kept_is_still_to_be_joined():
    """Without a user, or with one who is forgotten, there is nothing that a log-in would have to tell."""
    assert Site().resolve(ours(user_id="anna"), sdk_cookie()).cookie.unjoined
    assert Site().resolve(ours(user_id="anna", sdk_confirmed=True), sdk_cookie_of("anna")).cookie.unjoined
    assert not Site().resolve(ours(), sdk_cookie()).cookie.unjoined
    assert not Site().resolve(ours(user_id="anna", sdk_confirmed=True), sdk_cookie()).cookie.unjoined


def test_an_earlier_device_of_somebody_known_does_not_wait():
    """It was joined at the log-in."""
    assert Site().resolve(ours(user_id="anna"), sdk_cookie()).cookie.earlier_id is None


@pytest.mark.parametrize("mode", ["legacy", "spid"])
def test_where_a_log_in_joins_nothing_nothing_is_told_later(mode):
    """Legacy knows aliases only, and in a project that counts by uid the user is not counted by."""
    assert Site(id_mode=mode, order=()).resolve(ours(user_id="anna", merge_pending=True)).merge_events == ()


def test_a_user_of_whom_only_the_hash_is_known_is_told_at_the_next_log_in():
    """A link needs the ID itself."""
    visitor_cookie = ours(user_hash="0123456789abcdef0123456789abcdef", merge_pending=True)
    found = Site().resolve(visitor_cookie)
    assert (found.merge_events, found.cookie) == ((), visitor_cookie)
