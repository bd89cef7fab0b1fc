"""SettingsKeywords: the settings as type checkers and editors see them, wherever they are given by keyword.

The types are those of `Settings`, wider where a setting has short forms. None means "not given", so that
`token=os.environ.get("TOKEN")` is right, unless None is a value of the setting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import timedelta
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
    from os import PathLike

    from .event_plan import EventPlan
    from .service_account import ServiceAccount

    Network = IPv4Network | IPv6Network | IPv4Address | IPv6Address


class SettingsKeywords(TypedDict, total=False):
    """The keywords of `Tracker`, of every middleware and of Flask's extension; `Settings` explains each."""

    token: str | None
    secret_key: str | bytes | Sequence[str | bytes] | None
    region: Literal["us", "eu", "in"] | None
    api_host: str | None
    service_account: ServiceAccount | Mapping[str, str | int] | tuple[str, str, str | int] | None
    proxy: str | None
    spool: str | PathLike[str] | None
    durability: Literal["after-response", "before-response", "delivered"] | None
    delivery_timeout_s: float | None
    deliver: bool | None
    id_mode: Literal["simplified", "original", "legacy", "spid"] | None
    browser_sdk: Literal["mixpanel", "spid"] | Sequence[Literal["mixpanel", "spid"]] | None
    persistence_name: str | None
    cross_subdomain_cookie: bool | None
    spid_client_id: str | None
    spid_sign_secret: str | None
    spid_production: bool | None
    handover_path: str | None
    collector_path: str | None
    collector_trust: Literal["keep", "refuse"] | None
    cookie_name: str | None
    cookie_domain: str | None
    cookie_max_age_s: int | timedelta | None
    consent: Callable[[Any], Any] | None
    respect_dnt: bool | None
    respect_gpc: bool | None
    trusted_proxies: str | Network | Sequence[str | Network] | None
    visitor_header_hosts: str | Sequence[str] | None
    visitor_header_networks: str | Network | Sequence[str | Network] | None
    client_ip: Literal["send", "truncate", "off"] | None
    bots: Literal["drop", "tag", "keep"] | None
    bot_detector: Callable[[str], bool] | Literal["crawlerdetect"] | None
    scrub: str | Sequence[str] | None
    page_views: bool | str | Sequence[str] | None
    before_send: Callable[[dict[str, Any]], dict[str, Any] | None] | None
    extra_properties: Mapping[str, Any] | Callable[..., Mapping[str, Any]] | None
    request_filter: Callable[[Any], Any] | None
    identify_users: bool | str | Callable[..., Any] | None
    flags: Literal["off", "local"] | None
    plan: EventPlan | None
    enabled: bool | None
    dry_run: bool | None
    on_ambiguous: Literal["dead-letter", "retry"] | None
    on_error: Literal["log", "raise"] | None
