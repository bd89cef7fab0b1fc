"""Settings: the table of everything that can be configured, with its defaults."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, Self

from mixpanel_visitor.errors import SettingsError

from . import parsers
from .api_host import api_host
from .parsers import boolean, hook, one_of, optional
from .proxy import ENVIRONMENT, proxy
from .service_account import PART_KEYS, ServiceAccount, service_account
from .sources import PREFIX, RawValue, Sources, Spec
from .spool import spool
from .validation import MAKE_A_KEY, SHORT_KEY_CHARS, check, fill_in, is_switched_off, missing_problems

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from ipaddress import IPv4Network, IPv6Network
    from typing import Unpack

    from .event_plan import EventPlan
    from .keywords import SettingsKeywords

logger = logging.getLogger("mixpanel_visitor")


def _setting(parse: Callable[[Any], Any], *keys: str, **options: bool) -> dict[str, Any]:
    """Return a field's metadata for its `Spec`; without `keys` its key is MIXPANEL_VISITOR_ and its name."""
    return {"parse": parse, "keys": keys, **options}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one tracker, checked and in normal form; made by `resolve` and its two short forms.

    In the environment and in a mapping (Flask's config) a setting is called MIXPANEL_VISITOR_ and its name
    in capitals, but for those with a name in brackets. A mapping may also hold the callables and the plan.

    | setting | meaning |
    |---|---|
    | `token` | project token (MIXPANEL_TOKEN, or MIXPANEL_PROJECT_TOKEN); required |
    | `secret_key` | signs the visitor cookie; one key or several, oldest first, the last one signs; |
    | | of at least 16 characters; as text several are a JSON list; in a mapping SECRET_KEY and its |
    | | FALLBACKS do too; required |
    | `region` | `"us"`, `"eu"` or `"in"`, where the project's data is kept (MIXPANEL_REGION) |
    | `api_host` | host or URL, for a proxy or the local Mixpanel (MIXPANEL_API_HOST); default: the region's |
    | `proxy` | the HTTP proxy on the way to it, `http://user:password@proxy:3128`; by default what |
    | | HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY say, as `requests` has it; None: no proxy |
    | `service_account` | username, secret and project ID for `/import` in place of the token |
    | | (MIXPANEL_SERVICE_ACCOUNT_USERNAME, MIXPANEL_SERVICE_ACCOUNT_SECRET, MIXPANEL_PROJECT_ID) |
    | `spool` | where accepted events wait: a directory, `redis://...`, or `memory:`; default: a |
    | | directory under the user's state directory, one for each token and host |
    | `durability` | `"after-response"`: written to the spool right after the response; |
    | | `"before-response"`: before its last byte leaves, and to Redis itself where that is the spool; |
    | | `"delivered"`: acknowledged by Mixpanel before that, for processes that are frozen after the |
    | | response (AWS Lambda, Cloud Run) |
    | `delivery_timeout_s` | how long a response waits for `"delivered"`, in seconds, up to 60; what is left |
    | | then waits in the spool |
    | `deliver` | False: this process only spools, another one that shares the spool sends |
    | `id_mode` | how the project merges IDs: `"simplified"`, `"original"`, `"legacy"`, `"spid"` |
    | `browser_sdk` | whose ID to match: `"mixpanel"`, `"spid"`, both (the first that has one counts), None |
    | `persistence_name`, `cross_subdomain_cookie` | as in the `mixpanel.init` of the site's pages |
    | `spid_client_id`, `spid_sign_secret`, `spid_production` | the client at SPiD, for `"spid"` |
    | `handover_path` | where the browser posts its ID; None turns it off |
    | `collector_path` | a path under which mixpanel-browser sends its events through the application: |
    | | `"/m"`, or `"auto"` for one of this project's own; None: it sends them to Mixpanel |
    | `collector_trust` | events there under an ID that is not the signed visitor's: `"keep"` (marked and |
    | | counted) or `"refuse"` them |
    | `cookie_name` | sent with `__Host-` before it on https without a `cookie_domain`; default: `mpv_` |
    | | and eight hex digits of the token's hash, so that each project on a host has its own |
    | `cookie_domain`, `cookie_max_age_s` | the cookie's domain, also for the browser SDK's cookie; its life |
    | | in seconds, up to 400 days |
    | `consent` | `(request facts) -> "granted" / "denied" / "unknown"`; None: who did not opt out |
    | `respect_dnt`, `respect_gpc` | take `DNT: 1`, `Sec-GPC: 1` for an opt-out |
    | `trusted_proxies` | CIDRs that may speak through `X-Forwarded-For`, `-Proto`, `Forwarded` |
    | `visitor_header_hosts` | other services of yours that are told for whom a request is made; |
    | | `.example.com`: all hosts below |
    | `visitor_header_networks` | CIDRs of your services that may say so here |
    | `client_ip` | `"send"` the address, from which Mixpanel takes the place; `"truncate"` it to its |
    | | network (/24, /48); `"off"` |
    | `bots` | `"drop"` their events, `"tag"` (tracked, never given a cookie) or `"keep"` them |
    | `bot_detector` | `(User-Agent) -> bool`, asked besides our own lists; or `"crawlerdetect"`, for |
    | | which there is the extra `bots` |
    | `scrub` | names of properties and query parameters whose values are replaced: "default" stands for |
    | | ours (passwords, tokens, keys, card numbers); None or empty: no name |
    | `page_views` | True: the server tracks a page view for each HTML page; or patterns of paths, such as |
    | | `["/shop/*", "!/shop/admin/*"]`. Then `track_pageview` has to be off in `mixpanel.init` |
    | `before_send` | `(event) -> event or None`, the last word on every event |
    | `extra_properties` | mapping, or callable `(request facts)` or `()`, added to every event |
    | `request_filter` | `(request facts) -> bool`: True for requests to leave alone |
    | `identify_users` | where the framework tells of log-ins (Django, Flask-Login): True: they are the |
    | | visitor's; or `(user, request) -> str or None`, or its dotted name, says which ID, None: not this |
    | | one; False: off |
    | `flags` | Mixpanel's feature flags, for `visitor.flag`: `"off"`, or `"local"`: evaluated here, from |
    | | definitions that the process that delivers fetches |
    | `plan` | a `mixpanel_visitor.plan.Plan`, with which every event is compared |
    | `enabled`, `dry_run` | False: track nothing; True: check and log, but send nothing |
    | `on_ambiguous` | `$add`, `$append`, `$remove` that Mixpanel may have applied, for the answer was lost: |
    | | `"dead-letter"`, or `"retry"`, which may apply them twice |
    | `on_error` | bad input to `track`: `"log"`, or `"raise"` for tests |
    """

    token: str = field(metadata=_setting(parsers.identifier, "MIXPANEL_TOKEN", "MIXPANEL_PROJECT_TOKEN"))
    secret_key: tuple[str, ...] = field(repr=False, metadata=_setting(parsers.secret_keys, secret=True))
    region: Literal["us", "eu", "in"] = field(
        default="us", metadata=_setting(one_of("us", "eu", "in"), "MIXPANEL_REGION")
    )
    api_host: str = field(default="", metadata=_setting(api_host, "MIXPANEL_API_HOST"))
    service_account: ServiceAccount | None = field(
        default=None, metadata=_setting(service_account, *PART_KEYS.values(), secret=True, allows_none=True)
    )
    proxy: str | None = field(  # a password may be in it, as in the spool
        default=ENVIRONMENT, repr=False, metadata=_setting(optional(proxy), allows_none=True)
    )
    spool: str = field(default="", repr=False, metadata=_setting(spool))
    durability: Literal["after-response", "before-response", "delivered"] = field(
        default="after-response",
        metadata=_setting(one_of("after-response", "before-response", "delivered")),
    )
    delivery_timeout_s: float = field(default=1.0, metadata=_setting(parsers.delivery_timeout))
    deliver: bool = field(default=True, metadata=_setting(boolean))
    id_mode: Literal["simplified", "original", "legacy", "spid"] = field(
        default="simplified", metadata=_setting(one_of("simplified", "original", "legacy", "spid"))
    )
    browser_sdk: tuple[str, ...] = field(
        default=("mixpanel",), metadata=_setting(parsers.browser_sdks, allows_none=True)
    )
    persistence_name: str | None = field(
        default=None, metadata=_setting(optional(parsers.persistence_name), allows_none=True)
    )
    cross_subdomain_cookie: bool = field(default=True, metadata=_setting(boolean))
    spid_client_id: str | None = field(
        default=None, metadata=_setting(optional(parsers.identifier), allows_none=True)
    )
    spid_sign_secret: str | None = field(
        default=None, repr=False, metadata=_setting(optional(parsers.secret), secret=True, allows_none=True)
    )
    spid_production: bool = field(default=True, metadata=_setting(boolean))
    handover_path: str | None = field(
        default="/_visitor", metadata=_setting(optional(parsers.handover_path), allows_none=True)
    )
    collector_path: str | None = field(
        default=None, metadata=_setting(optional(parsers.collector_path), allows_none=True)
    )
    collector_trust: Literal["keep", "refuse"] = field(
        default="keep", metadata=_setting(one_of("keep", "refuse"))
    )
    cookie_name: str = field(default="", metadata=_setting(parsers.cookie_name))
    cookie_domain: str | None = field(
        default=None, metadata=_setting(optional(parsers.cookie_domain), allows_none=True)
    )
    cookie_max_age_s: int = field(default=365 * 86_400, metadata=_setting(parsers.cookie_age))
    consent: Callable[[Any], Any] | None = field(
        default=None, metadata=_setting(hook, allows_none=True, code_only=True)
    )
    respect_dnt: bool = field(default=True, metadata=_setting(boolean))
    respect_gpc: bool = field(default=True, metadata=_setting(boolean))
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = field(
        default=(), metadata=_setting(parsers.networks, allows_none=True)
    )
    visitor_header_hosts: tuple[str, ...] = field(
        default=(), metadata=_setting(parsers.host_names, allows_none=True)
    )
    visitor_header_networks: tuple[IPv4Network | IPv6Network, ...] = field(
        default=(), metadata=_setting(parsers.networks, allows_none=True)
    )
    client_ip: Literal["send", "truncate", "off"] = field(
        default="send", metadata=_setting(one_of("send", "truncate", "off"))
    )
    bots: Literal["drop", "tag", "keep"] = field(
        default="drop", metadata=_setting(one_of("drop", "tag", "keep"))
    )
    bot_detector: Callable[[str], bool] | Literal["crawlerdetect"] | None = field(
        default=None, metadata=_setting(parsers.bot_detector, allows_none=True)
    )
    scrub: tuple[str, ...] = field(default=("default",), metadata=_setting(parsers.names, allows_none=True))
    page_views: tuple[str, ...] = field(default=(), metadata=_setting(parsers.page_views, allows_none=True))
    before_send: Callable[[dict[str, Any]], dict[str, Any] | None] | None = field(
        default=None, metadata=_setting(hook, allows_none=True, code_only=True)
    )
    extra_properties: Mapping[str, Any] | Callable[..., Mapping[str, Any]] | None = field(
        default=None, metadata=_setting(parsers.properties, allows_none=True, code_only=True)
    )
    request_filter: Callable[[Any], Any] | None = field(
        default=None, metadata=_setting(hook, allows_none=True, code_only=True)
    )
    identify_users: bool | str | Callable[..., Any] = field(
        default=True, metadata=_setting(parsers.identify_users)
    )
    flags: Literal["off", "local"] = field(default="off", metadata=_setting(one_of("off", "local")))
    plan: EventPlan | None = field(
        default=None, metadata=_setting(parsers.plan, allows_none=True, code_only=True)
    )
    enabled: bool = field(default=True, metadata=_setting(boolean))
    dry_run: bool = field(default=False, metadata=_setting(boolean))
    on_ambiguous: Literal["dead-letter", "retry"] = field(
        default="dead-letter", metadata=_setting(one_of("dead-letter", "retry"))
    )
    on_error: Literal["log", "raise"] = field(default="log", metadata=_setting(one_of("log", "raise")))

    def __post_init__(self) -> None:
        """Check and normalise: `Settings(...)` and `dataclasses.replace` are as strict as `resolve`."""
        keywords = {name: getattr(self, name) for name in _SPECS}
        for derived in ("api_host", "spool", "cookie_name"):
            if keywords[derived] == "":
                del keywords[derived]
        raw = {name: RawValue(value, "keyword") for name, value in keywords.items()}
        values, problems = check(_SPECS, raw, os.environ)
        if problems:
            raise SettingsError(problems)
        for name, value in values.items():
            object.__setattr__(self, name, value)
        if any(len(key) < SHORT_KEY_CHARS for key in self.secret_key):
            logger.warning(
                "SECRET_KEY has fewer than %d characters: anyone who guesses it can forge visitor cookies, "
                "and your own. In development that is all right. %s",
                SHORT_KEY_CHARS,
                MAKE_A_KEY,
            )

    @classmethod
    def from_env(cls, **keywords: Unpack[SettingsKeywords]) -> Self:
        """Read the environment; keywords win.

        >>> settings = Settings.from_env(token="0123abcd", secret_key="a-key-of-some-length", region="eu")
        >>> settings.api_host
        'https://api-eu.mixpanel.com'
        """
        return cls.resolve(keywords)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], /, **keywords: Unpack[SettingsKeywords]) -> Self:
        """Read a mapping, such as Flask's config, then the environment; keywords win.

        >>> config = {"MIXPANEL_TOKEN": "0123abcd", "SECRET_KEY": "a-key-of-some-length"}
        >>> Settings.from_mapping(config, bots="tag").bots
        'tag'
        """
        return cls.resolve(keywords, mapping=mapping)

    @classmethod
    def resolve(
        cls,
        keywords: Mapping[str, Any],
        *,
        mapping: Mapping[str, Any] | None = None,
        environ: Mapping[str, str] | None = None,
        require_secret: bool = True,
        is_captured: bool = False,
    ) -> Self:
        """Join the sources: keyword beats mapping beats environment (default: this process's) beats default.

        None in a keyword or the mapping means "not given" unless it is a value of the setting; empty text in
        the mapping or the environment always does. `require_secret=False` is for processes without requests.
        With `enabled=False`, and while a test captures events (`is_captured`), `token` and `secret_key` are
        optional. Raise `SettingsError` with all mistakes.
        """
        environ = os.environ if environ is None else environ
        sources = Sources(_SPECS, keywords, {} if mapping is None else mapping, environ)
        if is_captured or is_switched_off(sources):
            fill_in(sources)
        for line in sources.near_misses():
            logger.warning(line)
        values, problems = check(_SPECS, sources.raw, environ)
        problems += missing_problems(sources, values, require_secret=require_secret)
        problems += sources.problems
        if problems:
            raise SettingsError(problems)
        return cls(**{"secret_key": (), **values})


_SPECS = {
    item.name: Spec(
        **{**item.metadata, "name": item.name, "keys": item.metadata["keys"] or (PREFIX + item.name.upper(),)}
    )
    for item in fields(Settings)
}


def near_misses(environ: Mapping[str, str], mapping: Mapping[str, Any]) -> list[str]:
    """Return a line for each name in these two that is no setting, but looks like a misspelt one."""
    return list(Sources(_SPECS, {}, mapping, environ).near_misses())
