"""Exchanges for tests: the rules of a site with everything that they need, and the browser's side."""

from collections import Counter
from itertools import count

from mixpanel_visitor.core.enrichment.bots import BotDetector
from mixpanel_visitor.core.enrichment.client_address import ClientAddresses
from mixpanel_visitor.core.enrichment.enricher import Enricher
from mixpanel_visitor.core.events.redaction import Redactor
from mixpanel_visitor.core.exchange_opener import ExchangeOpener
from mixpanel_visitor.core.identity.mixpanel_browser import MixpanelBrowser, quoted_identity
from mixpanel_visitor.core.identity.resolver import IdentityResolver
from mixpanel_visitor.core.identity.visitor_cookie import VisitorCookie, VisitorCookieCodec
from mixpanel_visitor.core.response_cookies import ResponseCookies
from mixpanel_visitor.core.site_rules import SiteRules
from mixpanel_visitor.records import Record

from .facts import facts

NOW_S = 1_763_900_000
OK = (200, lambda: [("content-type", "text/html")])
RECORD = Record("import", b"{}")
TOKEN = "0123456789abcdef0123456789abcdef"
DEVICE = "6f1c2a3b-4d5e-4f60-8a7b-9c0d1e2f3a4b"


class House:
    """Rules with everything they need, and what they counted."""

    def __init__(self, *, sdk=True, id_mode="simplified", **more):
        self.notes = Counter()
        self.refused = Counter()
        self.ids = (f"fresh-{number}" for number in count(1))
        self.codec = VisitorCookieCodec(
            ["a-key-of-some-length"],
            token=TOKEN,
            name="mpv",
            domain=None,
            max_age_s=31_536_000,
            count=self.note,
        )
        self.mixpanel = None
        if sdk:
            self.mixpanel = MixpanelBrowser(
                TOKEN,
                persistence_name=None,
                cross_subdomain=True,
                cookie_domain=None,
                max_age_s=31_536_000,
                count=self.note,
            )
        self.rules = SiteRules(
            **{
                "codec": self.codec,
                "resolver": IdentityResolver(id_mode=id_mode, mixpanel=self.mixpanel, count=self.note),
                "set_cookies": ResponseCookies(self.codec, self.mixpanel, seen_name="mpv_js"),
                "token": TOKEN,
                "id_mode": id_mode,
                "bots": "drop",
                "detector": BotDetector(),
                "enricher": Enricher(
                    addresses=ClientAddresses((), mode="send"), redactor=Redactor(), mixpanel=self.mixpanel
                ),
                "respect_dnt": True,
                "respect_gpc": True,
                "consent": lambda _facts: "granted",
                "is_excluded": lambda _facts: False,
                "refusal": lambda: None,
                "count": self.note,
                "refuse": self.refuse,
                **more,
            }
        )
        self.opener = ExchangeOpener(self.rules, self.fresh)

    def refuse(self, reason, number):
        self.refused[reason] += number

    def note(self, name):
        self.notes[name] += 1

    def fresh(self):
        return next(self.ids)

    def open(self, headers=None, now_s=NOW_S, **more):
        return self.opener.open(facts(headers, **more), now_s=now_s)

    def cookie(self, *, secure=False, **more):
        """The Cookie header of a visitor whom the browser's SDK knows as well."""
        visitor_cookie = VisitorCookie(
            **{"device_id": "known", "issued_at_s": NOW_S - 10, "sdk_cookie_sent": True, **more}
        )
        return {"cookie": f"{self.codec.name(secure=secure)}={self.codec.encode(visitor_cookie)}"}

    def read(self, added):
        """What the Set-Cookie among the added headers says."""
        (ours,) = [value for value in cookies(added) if value.startswith("mpv=")]
        return self.codec.decode(ours.partition(";")[0].partition("=")[2], now_s=NOW_S)


def cookies(added):
    """The Set-Cookie headers among those added."""
    return [value for name, value in added if name == "set-cookie"]


def sdk_cookie(house, device_id):
    """The Cookie header of a browser whose SDK has settled on an ID of its own."""
    value = quoted_identity(device_id).removesuffix("%7D") + "%2C%22__mps%22%3A%7B%7D%7D"
    return f"{house.mixpanel.name}={value}"
