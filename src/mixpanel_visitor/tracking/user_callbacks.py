"""UserCallbacks: the application's own callables, called so that their mistakes cost an answer at most."""

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
    """Asks `consent` and `request_filter`; what fails is logged, and tracks nobody."""

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
        """Ask whether this person may be tracked; in a job, where the answer may need the request, it did."""
        if self._consent is None:
            return "granted"
        answer: Any = None
        try:
            answer = self._consent(facts)
        except NoRequestError:
            return "granted"  # else nothing would have been exported there
        except Exception:
            self._failed("consent", "Nothing is tracked for this request.")
        else:
            if answer in ("granted", "denied", "unknown"):
                answered: Consent = answer
                return answered
            self._log(
                logging.ERROR,
                "consent",
                "consent returned %r; it must return 'granted', 'denied' or 'unknown'. Nothing is tracked.",
                answer,
            )
        return "unknown"

    def is_excluded(self, facts: RequestFacts) -> bool:
        """Ask whether to leave this request alone."""
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
