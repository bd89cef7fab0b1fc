"""Settings that are valid and may still be wrong: token, secrets, switches, proxies."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mixpanel_visitor.delivery.sending.local_notice import is_local
from mixpanel_visitor.settings.validation import MAKE_A_KEY, SHORT_KEY_CHARS

from .findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mixpanel_visitor.settings import Settings

_FAMOUS_KEYS = ("changeme", "secretkey", "yoursecret", "djangoinsecure", "example", "password")
_FEW_CHARACTERS = 6


def check_settings(settings: Settings) -> Iterator[Finding]:
    """Check the values of the settings."""
    yield from _secrets(settings)
    yield from _token(settings.token)
    yield from _secret_key(settings.secret_key)
    yield from _switches(settings)
    if "spid" in settings.browser_sdk and not settings.spid_sign_secret:
        yield Finding(
            "W028",
            "browser_sdk names 'spid', and MIXPANEL_VISITOR_SPID_SIGN_SECRET is not set",
            "no SPiD session can be verified: its visitor IDs are claims of the browser, and "
            "visitor.spid_user_id is always None",
            "set it to the sign secret of your SPiD client",
        )
    if any(network.prefixlen == 0 for network in settings.trusted_proxies):
        yield Finding(
            "W020",
            "trusted_proxies trusts everybody",
            "a client that reaches this server without the proxy can choose its own address and scheme",
            "name the networks of your proxies; keep it only if nothing else can reach this server",
        )
    if settings.api_host.startswith("http://") and not is_local(settings.api_host):
        yield Finding(
            "W021",
            f"events go to {settings.api_host} without TLS",
            "anyone on the network path can read them, with the project token and people's IDs",
            "write https:// in MIXPANEL_API_HOST",
        )


def _secrets(settings: Settings) -> Iterator[Finding]:
    account = settings.service_account
    secrets = {
        "MIXPANEL_SERVICE_ACCOUNT_SECRET": account.secret if account else None,
        "MIXPANEL_VISITOR_SPID_SIGN_SECRET": settings.spid_sign_secret,
    }
    for name in (name for name, secret in secrets.items() if secret == settings.token):
        yield Finding(
            "E022",
            f"MIXPANEL_TOKEN and {name} are the same",
            "one of them is wrong, and every browser gets the value of MIXPANEL_TOKEN",
            "give each its own value; make a new secret if this one was in a page",
        )


def _token(token: str) -> Iterator[Finding]:
    if re.fullmatch(r"[0-9a-f]{32}", token):
        yield Finding("ok", "the token looks like a project token")
        return
    yield Finding(
        "W023",
        "MIXPANEL_TOKEN does not look like a project token (32 hexadecimal digits)",
        "Mixpanel refuses a service account's secret or an API secret with 401",
        "copy it from Mixpanel: Project Settings, Access Keys",
    )


def _secret_key(keys: tuple[str, ...]) -> Iterator[Finding]:
    if any(_is_guessable(key) for key in keys):
        yield Finding(
            "E024",
            "MIXPANEL_VISITOR_SECRET_KEY is easy to guess",
            "anyone who guesses it can forge visitor cookies",
            MAKE_A_KEY,
        )
    elif any(len(key) < SHORT_KEY_CHARS for key in keys):
        yield Finding(
            "W025",
            f"the framework's SECRET_KEY, which signs the visitor cookie, has fewer than {SHORT_KEY_CHARS} "
            "characters",
            "anyone who guesses it can forge visitor cookies",
            MAKE_A_KEY,
        )


def _switches(settings: Settings) -> Iterator[Finding]:
    for name, expected in (("enabled", True), ("dry_run", False)):
        if getattr(settings, name) is not expected:
            yield Finding(
                "W026",
                f"{name} is {not expected}",
                "nothing reaches Mixpanel",
                f"set MIXPANEL_VISITOR_{name.upper()}={expected} where events are wanted",
            )
    if settings.on_error == "raise":
        yield Finding(
            "W027",
            "on_error is 'raise'",
            "bad input to track raises into the application, which is for tests",
            "set MIXPANEL_VISITOR_ON_ERROR=log in production",
        )


def _is_guessable(key: str) -> bool:
    lower_case = re.sub(r"[^a-z]", "", key.lower())
    return len(set(key)) < _FEW_CHARACTERS or lower_case.startswith(_FAMOUS_KEYS)
