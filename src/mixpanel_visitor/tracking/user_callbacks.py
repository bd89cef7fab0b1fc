"""UserCallbacks: calls the application's own callables, and handles their exceptions."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast

from mixpanel_visitor.errors import MissingExtraError, NoRequestError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mixpanel_visitor.core.policy import Consent
    from mixpanel_visitor.core.request import RequestFacts
    from mixpanel_visitor.observability.rate_limited_log import RateLimitedLog


def bot_detector(setting: Callable[[str], Any] | str | None) -> Callable[[str], bool] | None:
    """Return what the setting `bot_detector` stands for; raises `MissingExtraError` without its package."""
    if setting != "crawlerdetect":
        return cast("Callable[[str], bool] | None", setting)
    try:
        from crawlerdetect import CrawlerDetect  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise MissingExtraError("crawlerdetect", "bots") from error
    is_crawler: Callable[[str], bool] = CrawlerDetect().isCrawler
    return is_crawler


class UserCallbacks:
    """Calls `consent` and `request_filter`, and logs failures; without consent nothing is tracked."""

    def __init__(
        self,
        *,
        consent: Callable[..., Any] | None,
        request_filter: Callable[..., Any] | None,
        log: RateLimitedLog,
    ) -> None:
        self._consent = consent
        self._request_filter = request_filter
        self._log = log

    def consent(self, facts: RequestFacts) -> Consent:
        """Return whether this person may be tracked; a `consent` that needs a request was called in one."""
        if self._consent is None:
            return "granted"
        try:
            consent: Consent = self._consent(facts)
        except NoRequestError:
            return "granted"  # else the visitor would not have been exported
        except Exception:
            self._failed("consent", "Nothing is tracked for this request.")
        else:
            if consent in ("granted", "denied", "unknown"):
                return consent
            self._log(
                logging.ERROR,
                "consent",
                "consent returned %r; it must return 'granted', 'denied' or 'unknown'. Nothing is tracked.",
                consent,
            )
        return "unknown"

    def is_excluded(self, facts: RequestFacts) -> bool:
        """Return whether `request_filter` excludes this request."""
        if self._request_filter is None:
            return False
        try:
            return bool(self._request_filter(facts))
        except Exception:
            self._failed("request_filter", "The request is treated as any other.")
            return False

    def _failed(self, name: str, consequence: str) -> None:
        self._log(
            logging.ERROR,
            f"host {name}",
            "the %s callable raised. %s Mend the callable.",
            name,
            consequence,
            exc_info=True,
        )
