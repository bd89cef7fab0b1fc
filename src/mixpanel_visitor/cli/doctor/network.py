"""The way to Mixpanel: name, connection, certificate, clock, and credentials."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mixpanel_visitor.delivery.sending.egress import ProxyError, authorities, proxy_for
from mixpanel_visitor.delivery.sending.http_client import MixpanelAPI, Timeouts
from mixpanel_visitor.delivery.sending.responses import interpret, server_time_s
from mixpanel_visitor.settings.api_host import HOSTS, region_of

from .findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from mixpanel_visitor.delivery.sending.responses import Verdict
    from mixpanel_visitor.settings import Settings
    from mixpanel_visitor.settings.proxy import Proxy

CONNECT_S = 5.0
_ANSWER_BYTES = 4_096
CLOCK_WARNING_S = 5.0
CLOCK_PROBLEM_S = 3600.0

LOCAL_SERVER = "LocalMixpanel"
"""The Server header of our own local Mixpanel."""

# OpenSSL's X509_V_ERR_...: not yet valid and expired; another host or address.
_DATES, _NAMES = (9, 10), (62, 64)
_CERTIFICATE_FIXES = {
    **dict.fromkeys(
        _DATES, "check this host's clock and date; if they are right, the server's operator must renew it"
    ),
    **dict.fromkeys(
        _NAMES, "check MIXPANEL_API_HOST; something else answers at this address (a captive proxy?)"
    ),
}
_UNKNOWN_AUTHORITY = (
    "install the system's certificates (ca-certificates); behind a proxy that opens TLS, name its authority "
    "in REQUESTS_CA_BUNDLE or SSL_CERT_FILE"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseHead:
    """Status and headers of an answer; names of `headers` are in lower case. `body` is its beginning."""

    status: int
    headers: Mapping[str, str]
    set_cookies: tuple[str, ...] = ()
    body: bytes = b""


def check_network(settings: Settings) -> Iterator[Finding]:
    """Connect to Mixpanel's host, by a proxy if there is one, as delivery would; send no event."""
    host_url = settings.api_host
    path = urlsplit(host_url).path or "/"
    consequence = "events wait in the spool until it is"
    proxy: Proxy | None = None
    try:
        proxy = proxy_for(host_url, settings.proxy)
        if proxy is not None and proxy.scheme == "https" and host_url.startswith("https:"):
            # The standard library knows no TLS within TLS; delivery does.
            yield Finding("ok", f"{host_url} is asked through the proxy {proxy.url}")
            yield from _credentials(settings)
            return
        reply = ask(host_url, "HEAD", path, proxy=proxy)
        now_s = time.time()
    except ProxyError as error:
        fix = "give the address of an HTTP proxy in HTTPS_PROXY or MIXPANEL_VISITOR_PROXY"
        yield Finding("E050", f"{host_url}: it is not reached: {error}", consequence, fix)
        return
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        yield connection_finding(host_url, error, consequence, proxy=proxy)
        return
    yield Finding("ok", f"{host_url} is reached{f' through the proxy {proxy.url}' if proxy else ''}")
    theirs_s = server_time_s(reply.headers)
    if theirs_s is not None:
        yield _clock(theirs_s - now_s)
    if reply.headers.get("server") == LOCAL_SERVER:
        yield Finding("ok", "it is a local Mixpanel: what arrives there is not in any project")
    elif settings.enabled and not settings.dry_run:
        yield from _credentials(settings)


def ask(
    origin: str,
    method: str,
    path: str,
    headers: Mapping[str, str] | None = None,
    *,
    proxy: Proxy | None = None,
    body: bytes | None = None,
) -> ResponseHead:
    """Send one request; return the answer's head, and where a `body` was sent the beginning of its own.

    Raise OSError, HTTPException or UnicodeError (not a name for DNS) where no answer comes.
    """
    sent = dict(headers or {})
    connection = _connection(origin, proxy)
    if proxy is not None and not origin.startswith("https:"):
        path = f"{origin}{path}"
        sent |= _proxy_headers(proxy)
    with contextlib.closing(connection):
        connection.request(method, path, body, headers=sent)
        response = connection.getresponse()
        body_start = b"" if body is None else response.read(_ANSWER_BYTES)
        pairs = [(name.lower(), value) for name, value in response.getheaders()]
    cookies = tuple(value for name, value in pairs if name == "set-cookie")
    return ResponseHead(status=response.status, headers=_joined(pairs), set_cookies=cookies, body=body_start)


def _connection(origin: str, proxy: Proxy | None) -> http.client.HTTPConnection:
    url = urlsplit(origin)
    assert url.hostname
    secure = url.scheme == "https"
    if proxy is None:
        host, port, tls = url.hostname, url.port, secure
    else:
        host, port, tls = proxy.host, proxy.port, proxy.scheme == "https" or secure
    if not tls:
        return http.client.HTTPConnection(host, port, timeout=CONNECT_S)
    file, directory = authorities()
    context = ssl.create_default_context(cafile=file, capath=directory)
    connection = http.client.HTTPSConnection(host, port, timeout=CONNECT_S, context=context)
    if proxy is not None and secure:
        connection.set_tunnel(url.hostname, url.port, _proxy_headers(proxy))
    return connection


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return headers by name, those of several lines as one (RFC 9110, 5.3)."""
    joined: dict[str, str] = {}
    for name, value in pairs:
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return joined


def _proxy_headers(proxy: Proxy) -> dict[str, str]:
    return {"Proxy-Authorization": proxy.authorization} if proxy.authorization else {}


def connection_finding(
    url: str, error: Exception, consequence: str, *, proxy: Proxy | None = None
) -> Finding:
    """Return why no answer came, and what to check."""
    cause = f"{type(error).__name__}: {error}"
    if proxy is not None and not isinstance(error, ssl.SSLError):
        return Finding(
            "E051",
            f"{url}: it is not reached through the proxy {proxy.url} ({cause})",
            consequence,
            "check the proxy's address, user and password, and that it lets this host through; where none is "
            "needed, name the host in NO_PROXY or set MIXPANEL_VISITOR_PROXY=none",
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        fix = _CERTIFICATE_FIXES.get(error.verify_code, _UNKNOWN_AUTHORITY)
        return Finding(
            "E052", f"{url}: its certificate is not accepted ({error.verify_message})", consequence, fix
        )
    if isinstance(error, ssl.SSLError):
        fix = "check scheme and port: does it speak TLS there, and no older version than 1.2?"
        return Finding("E053", f"{url}: it is not reached by TLS ({cause})", consequence, fix)
    if isinstance(error, (socket.gaierror, UnicodeError)):
        fix = (
            "check the spelling, and that this host can look names up (/etc/resolv.conf, the container's DNS)"
        )
        return Finding("E054", f"{url}: it is not reached, its name is not found ({cause})", consequence, fix)
    fix = "check address, firewall and security groups"
    if proxy is None:
        fix += "; where a proxy is the only way out, name it in HTTPS_PROXY or MIXPANEL_VISITOR_PROXY"
    return Finding("E055", f"{url}: it is not reached ({cause})", consequence, fix)


def _clock(ahead_s: float) -> Finding:
    off_s = abs(ahead_s)
    if off_s <= CLOCK_WARNING_S:
        return Finding("ok", "this host's clock agrees with Mixpanel's")
    direction = "behind" if ahead_s > 0 else "ahead"
    return Finding(
        "E056" if off_s > CLOCK_PROBLEM_S else "W056",
        f"this host's clock differs from Mixpanel's by {off_s:.0f} s: it is {direction}",
        "times in the future are rewritten, and over an hour ahead they are refused",
        "synchronise the clock (NTP)",
    )


def _credentials(settings: Settings) -> Iterator[Finding]:
    account = settings.service_account
    subject = "the service account" if account else "the project token"
    verdict = _probe_credentials(settings, settings.api_host)
    if verdict.status_class == "config":
        credentials = "refused the credentials" in verdict.message
        yield Finding(
            "E057",
            f"{subject} is refused: {verdict.message}" if credentials else verdict.message,
            "nothing is delivered: delivery pauses, and events wait in the spool",
            _fix_of_refusal(settings)
            if credentials
            else "check MIXPANEL_API_HOST: is it Mixpanel's, or a proxy's?",
        )
        if credentials:
            yield from other_regions(settings, HOSTS)
    elif verdict.status_class == "garbage":
        yield Finding(
            "E058",
            f"{settings.api_host}: {verdict.message}",
            "nothing is delivered: only answers like Mixpanel's count",
            "check MIXPANEL_API_HOST, and the proxy behind it",
        )
    elif verdict.status_class in ("network", "server", "rate_limited"):
        yield Finding(
            "W059",
            f"{subject} could not be checked: {verdict.message}",
            "events wait in the spool until Mixpanel takes them",
            "try again later",
        )
    else:
        yield Finding("ok", f"Mixpanel accepts {subject}")


def _fix_of_refusal(settings: Settings) -> str:
    if settings.service_account:
        return (
            "check user name, secret and project ID (MIXPANEL_SERVICE_ACCOUNT_USERNAME, ..._SECRET, "
            "MIXPANEL_PROJECT_ID), that the account is in the project, and MIXPANEL_REGION; or leave it out"
        )
    return "copy the token from Mixpanel: Project Settings, Access Keys; and check MIXPANEL_REGION"


def other_regions(settings: Settings, hosts: Mapping[str, str]) -> Iterator[Finding]:
    """Find another region that accepts the same credentials; only Mixpanel's own hosts have regions."""
    if region_of(settings.api_host) is None and settings.api_host not in hosts.values():
        return
    for region, host in hosts.items():
        host_url = host if "://" in host else f"https://{host}"
        if host_url != settings.api_host and _probe_credentials(settings, host_url).status_class in (
            "ok",
            "invalid",
        ):
            yield Finding(
                "E060",
                f"Mixpanel accepts the same credentials at {host_url}",
                "the project's data is there, and no region forwards to another",
                f"set MIXPANEL_REGION={region}",
            )


def _probe_credentials(settings: Settings, host_url: str) -> Verdict:
    """Send a request without events, as delivery would: Mixpanel checks the credentials first."""
    account = settings.service_account
    api = MixpanelAPI(
        host_url,
        settings.token,
        (account.username, account.secret, account.project_id) if account else None,
        proxy=settings.proxy,
        timeouts=Timeouts(connect_s=CONNECT_S, read_s=2 * CONNECT_S, total_s=2 * CONNECT_S),
    )
    try:
        response = api.post("import", [])
    finally:
        api.close()
    return interpret("import", response, [], now_s=time.time())
