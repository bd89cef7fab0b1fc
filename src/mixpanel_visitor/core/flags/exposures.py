"""Exposures: the event that reports who was shown which variant, once a day for each."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .definitions import SelectedVariant

EVENT = "$experiment_started"
DAY_S = 86_400
REMEMBERED = 16_384


def exposure_properties(flag_key: str, variant: SelectedVariant, latency_ms: float) -> dict[str, Any]:
    """Return the official library's properties of an exposure; the latency is that of the evaluation."""
    return {
        "Experiment name": flag_key,
        "Variant name": variant.key,
        "$experiment_type": "feature_flag",
        "Flag evaluation mode": "local",
        "$experiment_id": variant.experiment_id,
        "$is_experiment_active": variant.is_experiment_active,
        "$is_qa_tester": variant.is_qa_tester,
        "Variant fetch latency (ms)": latency_ms,
    }


class ExposureMemory:
    """The exposures that were sent today; of more than `most` the oldest are forgotten.

    Each process has its own. The `$insert_id` of an exposure is the same in all processes, so that Mixpanel
    drops a second one of the same day.
    """

    def __init__(self, most: int = REMEMBERED) -> None:
        self._most = most
        self._sent: dict[str, None] = {}

    def first_of_day(self, project: str, visitor_id: str, flag_key: str, variant: str, now_s: float) -> str:
        """Return the exposure's `$insert_id`, or an empty text if it was sent today."""
        day = int(now_s // DAY_S)
        words = "\0".join((project, visitor_id, flag_key, variant, str(day)))
        insert_id = sha256(words.encode("utf-8", "surrogatepass")).hexdigest()[:32]
        if insert_id in self._sent:
            return ""
        while len(self._sent) >= self._most:
            self._sent.pop(next(iter(self._sent)), None)
        self._sent[insert_id] = None
        return insert_id
