"""ExchangeFactory: builds what all exchanges of one tracker share, from its settings."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from mixpanel_visitor.core.carried_exchange import CarriedExchangeOpener
from mixpanel_visitor.core.enrichment.bots import BotDetector
from mixpanel_visitor.core.enrichment.client_address import ClientAddresses
from mixpanel_visitor.core.enrichment.enricher import Enricher
from mixpanel_visitor.core.enrichment.page_views import PageViews
from mixpanel_visitor.core.exchange_opener import ExchangeOpener
from mixpanel_visitor.core.identity.mixpanel_browser import MixpanelBrowser
from mixpanel_visitor.core.identity.resolver import IdentityResolver
from mixpanel_visitor.core.identity.spid_browser import SpidBrowser
from mixpanel_visitor.core.identity.visitor_cookie import NAME_OF_0_1, VisitorCookieCodec
from mixpanel_visitor.core.response_cookies import SEEN_SUFFIX, ResponseCookies
from mixpanel_visitor.core.site_rules import SiteRules
from mixpanel_visitor.settings.project import default_cookie_name

from .handover_script import HandoverScript
from .user_callbacks import UserCallbacks, bot_detector
from .visitor_exports import VisitorExports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mixpanel_visitor.core.events.redaction import Redactor
    from mixpanel_visitor.core.request import RequestFacts
    from mixpanel_visitor.observability.counters import EventCounters
    from mixpanel_visitor.observability.rate_limited_log import RateLimitedLog
    from mixpanel_visitor.settings import Settings

    from .dependencies import Dependencies


class ExchangeFactory:
    """The rules of a site's exchanges, `exports`, in which its visitors travel, and its pages' script."""

    def __init__(
        self,
        settings: Settings,
        dependencies: Dependencies,
        *,
        counters: EventCounters,
        log: RateLimitedLog,
        refusal: Callable[[], str | None],
        opted_out_since: Callable[[Iterable[str], int], bool],
        redactor: Redactor,
    ) -> None:
        self.addresses = ClientAddresses(settings.trusted_proxies, mode=settings.client_ip)
        callbacks = UserCallbacks(consent=settings.consent, request_filter=settings.request_filter, log=log)
        mixpanel = _mixpanel(settings, counters) if "mixpanel" in settings.browser_sdk else None
        is_default = settings.cookie_name == default_cookie_name(settings.token)
        former_name = NAME_OF_0_1 if is_default else None
        codec = VisitorCookieCodec(
            settings.secret_key,
            token=settings.token,
            name=settings.cookie_name,
            former_name=former_name,
            domain=settings.cookie_domain,
            max_age_s=settings.cookie_max_age_s,
            count=counters.note,
            on_foreign=_ForeignCookie(settings.cookie_name, log),
        )
        seen_name = settings.cookie_name + SEEN_SUFFIX
        self.rules = SiteRules(
            codec=codec,
            resolver=IdentityResolver(
                id_mode=settings.id_mode,
                order=settings.browser_sdk,
                mixpanel=mixpanel,
                spid=_spid(settings, counters) if "spid" in settings.browser_sdk else None,
                count=counters.note,
            ),
            set_cookies=ResponseCookies(
                codec,
                mixpanel,
                seen_name=seen_name,
                former_seen_name=former_name and former_name + SEEN_SUFFIX,
            ),
            token=settings.token,
            id_mode=settings.id_mode,
            bots=settings.bots,
            detector=BotDetector(bot_detector(settings.bot_detector)),
            enricher=Enricher(addresses=self.addresses, redactor=redactor, mixpanel=mixpanel),
            respect_dnt=settings.respect_dnt,
            respect_gpc=settings.respect_gpc,
            consent=callbacks.consent if settings.consent else None,
            is_excluded=callbacks.is_excluded if settings.request_filter else None,
            refusal=refusal,
            count=counters.note,
            refuse=counters.refuse,
            page_views=PageViews(settings.page_views) if settings.page_views else None,
        )
        self.exports = VisitorExports(
            settings,
            clock=dependencies.clock,
            consent=self.rules.consent,
            opted_out_since=opted_out_since,
            counters=counters,
            log=log,
        )
        self.opener = ExchangeOpener(self.rules, dependencies.fresh_id)
        if settings.visitor_header_networks:
            self.opener = CarriedExchangeOpener(
                self.rules,
                dependencies.fresh_id,
                services=ClientAddresses(settings.visitor_header_networks, mode="off"),
                read=self.exports.read_header,
            )
        if "spid" in settings.browser_sdk and not settings.spid_sign_secret:
            log(
                logging.WARNING,
                "spid_sign_secret",
                "browser_sdk names 'spid', and spid_sign_secret is missing: no session of SPiD's can be "
                "verified, so all its visitor IDs are the browser's mere word. Set "
                "MIXPANEL_VISITOR_SPID_SIGN_SECRET.",
            )
        self.handover_script: HandoverScript | None = None
        if settings.handover_path is not None and settings.browser_sdk:
            self.handover_script = HandoverScript(
                handover_path=settings.handover_path,
                seen_cookie=seen_name,
                mixpanel=None if mixpanel is None else (mixpanel.name, mixpanel.opt_out_name),
                spid_client_id=settings.spid_client_id if "spid" in settings.browser_sdk else None,
                spid_production=settings.spid_production,
            )

    def is_excluded(self, facts: RequestFacts) -> bool:
        """Return whether `request_filter` excludes this request."""
        is_excluded = self.rules.is_excluded
        return is_excluded is not None and is_excluded(facts)


class _ForeignCookie:
    """Logs only the first visitor cookie with a foreign signature, because clients can send any number."""

    def __init__(self, name: str, log: RateLimitedLog) -> None:
        self._name = name
        self._log = log
        self._is_logged = False

    def __call__(self) -> None:
        if self._is_logged:
            return
        self._is_logged = True
        self._log(
            logging.WARNING,
            "foreign_cookie",
            "a visitor cookie %r was not signed with this secret_key for this project, and is not believed. "
            "If another application on this host has the same cookie_name, leave it out here or there: by "
            "default each project has its own. If secret_key was changed, give ['old one', 'new one']. More "
            "of them are counted only, as cookie_bad_signature.",
            self._name,
        )


def _mixpanel(settings: Settings, counters: EventCounters) -> MixpanelBrowser:
    return MixpanelBrowser(
        settings.token,
        persistence_name=settings.persistence_name,
        cross_subdomain=settings.cross_subdomain_cookie,
        cookie_domain=settings.cookie_domain,
        max_age_s=settings.cookie_max_age_s,
        count=counters.note,
    )


def _spid(settings: Settings, counters: EventCounters) -> SpidBrowser:
    assert settings.spid_client_id is not None  # the settings' own rule
    return SpidBrowser(
        settings.spid_client_id,
        sign_secret=settings.spid_sign_secret,
        production=settings.spid_production,
        count=counters.note,
    )
