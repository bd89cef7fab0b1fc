"""Requests from other services of ours, which name their visitor in a header."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .enrichment.request_properties import CarriedRequestProperties
from .exchange import Exchange
from .exchange_opener import ExchangeOpener
from .identity.identity import Identity, Login, log_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from .enrichment.client_address import ClientAddresses
    from .exported_visitor import ExportedVisitor
    from .identity.identity import MergeEvent
    from .policy import Consent
    from .request import RequestFacts
    from .site_rules import SiteRules

HEADER = "x-visitor"
"""The header's name; its value is an exported visitor."""

NOT_TRACKED = "-"
"""The value for a visitor who may not be tracked: not all proxies pass on an empty one."""

MAX_AGE_S = 300.0
"""A header is made for one request; transport and a difference of clocks may take this long."""

_BROWSERS_SEND = ("sec-fetch-site", "sec-fetch-mode", "origin")


class CarriedExchange(Exchange):
    """A request that another service makes for a visitor: it sets no cookie and merges no IDs."""

    def __init__(
        self,
        rules: SiteRules,
        facts: RequestFacts,
        visitor: ExportedVisitor | None,
        *,
        consent: Consent,
        now_s: float,
        in_background: bool,
    ) -> None:
        super().__init__(
            rules,
            facts,
            Identity(device_id=None) if visitor is None else visitor.identity,
            consent,
            now_s,
            in_background=in_background,
            request_properties=CarriedRequestProperties({} if visitor is None else visitor.event_properties),
        )
        if visitor is not None:
            self.registered = visitor.registered
            self.exported_at_ms = visitor.exported_at_ms

    @property
    def needs_set_cookie(self) -> bool:
        """Whether the response may have to carry a cookie: never, because services store none."""
        return False

    @property
    def may_be_page_view(self) -> bool:
        """Whether the response may be a page that the server tracks as viewed: never."""
        return False

    def identify(self, user_id: str, fresh_id: Callable[[], str]) -> Login:  # noqa: ARG002  # as in Exchange
        """Continue with this user; only the service that has the browser knows whose the device is."""
        linked = self.identity.user_id == user_id
        before = self.identity if linked else self.identity._replace(device_unverified=True)
        login = log_in(self._rules.id_mode, before, user_id, linked=linked, fresh_device_id=None)
        self.identity = login.identity
        return login

    def schedule_merge(self, merge: MergeEvent | None) -> MergeEvent | None:  # noqa: ARG002  # as in Exchange
        """Schedule nothing: the service that has the browser merges IDs."""
        return None

    def opt_out(self) -> None:
        """Stop tracking this person here; the service that has the browser has to store the opt-out."""
        super().opt_out()
        self._opt_out_cookies = ()

    def opt_in(self, fresh_id: Callable[[], str]) -> None:
        """Do nothing: the service that has the browser takes an opt-out back."""


class CarriedExchangeOpener(ExchangeOpener):
    """Opens exchanges on a site where other services may name the visitor.

    `services` knows their networks. `read` returns the visitor in a header's text and why they may not be
    tracked, or None and the reason why the text is not believed.
    """

    def __init__(
        self,
        rules: SiteRules,
        fresh_id: Callable[[], str],
        *,
        services: ClientAddresses,
        read: Callable[[str], tuple[ExportedVisitor | None, str | None]],
    ) -> None:
        super().__init__(rules, fresh_id)
        self._services = services
        self._read = read

    def open(self, facts: RequestFacts, now_s: float, in_background: bool = False) -> Exchange:
        """Begin an exchange, with the visitor in the header if it is believed."""
        text = facts.header(HEADER)
        if text and self._is_believed(facts):
            visitor, refusal = (None, "consent_denied") if text == NOT_TRACKED else self._read(text)
            if visitor is not None or text == NOT_TRACKED:
                consent: Consent = "granted"
                if refusal is not None:
                    consent = "unknown" if refusal == "consent_unknown" else "denied"
                return CarriedExchange(
                    self._rules, facts, visitor, consent=consent, now_s=now_s, in_background=in_background
                )
        return super().open(facts, now_s, in_background)

    def _is_believed(self, facts: RequestFacts) -> bool:
        if not self._services.knows(facts.client):
            self._rules.count("visitor_header_stranger")
            return False
        if any(facts.header(name) for name in _BROWSERS_SEND):
            self._rules.count("visitor_header_browser")
            return False
        return True
