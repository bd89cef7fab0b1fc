"""Flags: Mixpanel's feature flags for visitors: each decided once in a request, and exposed once a day."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from mixpanel_visitor.core.events.encoding import properties_of
from mixpanel_visitor.core.flags.definitions import NO_DEFINITIONS, read_answer, read_entries
from mixpanel_visitor.core.flags.evaluator import DEVICE_ID, DISTINCT_ID, FlagContext, select
from mixpanel_visitor.core.flags.exposures import ExposureMemory, exposure_properties
from mixpanel_visitor.core.identity.identity import distinct_id
from mixpanel_visitor.quoting import several

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol

    from mixpanel_visitor.core.enrichment.request_properties import EmptyRequestProperties, RequestProperties
    from mixpanel_visitor.core.flags.definitions import SelectedVariant
    from mixpanel_visitor.core.identity.identity import Identity, IdMode
    from mixpanel_visitor.observability.counters import EventCounters
    from mixpanel_visitor.observability.rate_limited_log import RateLimitedLog

    class FlagScope(Protocol):
        """A visitor's exchange, or the detached exchange outside of any request."""

        flag_decisions: dict[str, DecidedFlag] | None

        @property
        def identity(self) -> Identity:
            """The visitor's identity at this moment."""
            ...

        @property
        def registered(self) -> Mapping[str, Any] | None:
            """The super properties."""
            ...

        @property
        def request_properties(self) -> RequestProperties | EmptyRequestProperties:
            """The properties that the request adds to the visitor's events."""
            ...

        @property
        def refusal(self) -> str | None:
            """The reason why nothing is tracked here; None: events are tracked."""
            ...

        @property
        def is_bot(self) -> bool:
            """Whether it is no person."""
            ...

        @property
        def has_lasting_id(self) -> bool:
            """Whether the device ID is more than this request's."""
            ...

    Expose = Callable[[FlagScope, Mapping[str, Any]], None]
    """Writes the exposure event of a scope's visitor, with these properties."""


class DecidedFlag:
    """What a flag is for the rest of the request: a variant, or None where no rule has selected one.

    `exposed`: no exposure is due any more.
    """

    __slots__ = ("exposed", "latency_ms", "variant")

    def __init__(
        self, variant: SelectedVariant | None, *, exposed: bool = False, latency_ms: float = 0.0
    ) -> None:
        self.variant = variant
        self.exposed = exposed
        self.latency_ms = latency_ms


class FlagValues(dict[str, Any]):
    """The values of all flags that a rule has decided, for templates.

    To look one up is to show it: that is an exposure, as `visitor.flag` is. To list them, or to write them
    into a page as JSON, is none.
    """

    __slots__ = ("_look_up",)

    def __init__(self, values: Mapping[str, Any], look_up: Callable[[str, Any], Any]) -> None:
        super().__init__(values)
        self._look_up = look_up

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        return self._look_up(key, value)

    def get(self, key: str, default: Any = None, /) -> Any:
        """Return the value of a flag, or the default where no rule has decided it."""
        try:
            return self[key]
        except KeyError:
            return default


class VisitorFlags:
    """Decides flags for the visitors of one tracker, by Mixpanel's definitions, and writes exposures."""

    def __init__(
        self,
        *,
        token: str,
        id_mode: IdMode,
        counters: EventCounters,
        log: RateLimitedLog,
        clock: Callable[[], float],
    ) -> None:
        self.definitions = NO_DEFINITIONS
        self.malformed = 0
        self._token = token
        self._id_mode: IdMode = id_mode
        self._counters = counters
        self._log = log
        self._clock = clock
        self._exposures = ExposureMemory()

    # --- definitions: what the refresher calls --------------------------------------------------

    def read_answer(self, body: bytes) -> bytes:
        """Take Mixpanel's answer; return the definitions as they are to be shared."""
        before = self.definitions
        self.definitions = definitions = read_answer(body, before)
        if definitions.malformed:
            self.malformed += 1
            if definitions.malformed != before.malformed:
                self._log(
                    logging.WARNING,
                    "flags malformed",
                    "%s of feature flags cannot be read, and the last one that could counts on, or the "
                    "default: %s",
                    several(len(definitions.malformed), "definition"),
                    "; ".join(definitions.malformed[:5]),
                )
        return definitions.encoded()

    def read_shared(self, entries: bytes) -> None:
        """Take definitions that another process has fetched."""
        self.definitions = read_entries(entries)

    # --- for visitors: none of these raises -----------------------------------------------------

    def value(self, scope: FlagScope, expose: Expose, key: str, default: Any) -> Any:
        """Return the value of a flag for this visitor, and write the exposure where one is due."""
        try:
            decided = self._decided(scope, key)
            if not decided.exposed:
                decided.exposed = True
                if decided.variant is not None:
                    self._expose(scope, expose, key, decided.variant, decided.latency_ms)
            return default if decided.variant is None else decided.variant.own_value()
        except Exception:
            self._failed(key)
            return default

    def values(self, scope: FlagScope, expose: Expose) -> FlagValues:
        """Return the values of all flags that a rule decides for this visitor."""
        values: dict[str, Any] = {}
        for key in self.definitions.flags:
            try:
                variant = self._decided(scope, key).variant
                if variant is not None:
                    values[key] = variant.own_value()
            except Exception:
                self._failed(key)
        for key, decided in (scope.flag_decisions or {}).items():
            if decided.variant is not None and key not in values:
                values[key] = decided.variant.own_value()
        return FlagValues(values, lambda key, value: self.value(scope, expose, key, value))

    # --- for jobs -------------------------------------------------------------------------------

    def restore(self, scope: FlagScope, variants: Mapping[str, str | None]) -> None:
        """Decide flags as they were decided where the visitor was exported."""
        for key, variant_key in variants.items():
            flag = self.definitions.flags.get(key)
            variant = None if flag is None or variant_key is None else flag.variant_of(variant_key)
            _remember(scope, key, DecidedFlag(variant, exposed=True))

    # --- inside ---------------------------------------------------------------------------------

    def _decided(self, scope: FlagScope, key: str) -> DecidedFlag:
        decisions = scope.flag_decisions
        decided = None if decisions is None else decisions.get(key)
        if decided is not None:
            return decided
        flag = self.definitions.flags.get(key)
        if flag is None:
            self._report_unknown(key)
            return _remember(scope, key, DecidedFlag(None, exposed=True))
        start_s = time.perf_counter()
        variant = select(flag, _context(scope, self._id_mode))
        return _remember(
            scope, key, DecidedFlag(variant, latency_ms=round((time.perf_counter() - start_s) * 1000, 4))
        )

    def _expose(
        self,
        scope: FlagScope,
        expose: Expose,
        key: str,
        variant: SelectedVariant,
        latency_ms: float,
    ) -> None:
        identity = scope.identity
        if scope.refusal is not None or scope.is_bot:
            return
        if not scope.has_lasting_id and identity.user_id is None:
            return  # Mixpanel could not recognise this visitor again
        visitor_id = identity.uid or identity.device_id or identity.user_id or ""
        insert_id = self._exposures.first_of_day(self._token, visitor_id, key, variant.key, self._clock())
        if insert_id:
            properties = {**exposure_properties(key, variant, latency_ms), "$insert_id": insert_id}
            expose(scope, properties)

    def _report_unknown(self, key: str) -> None:
        if self.definitions is NO_DEFINITIONS:
            self._counters.note("flags_not_ready")
            self._log(
                logging.WARNING,
                "flags not ready",
                "Feature flags are asked for before their definitions are here: each has its default.",
            )
            return
        self._counters.note("flag_unknown")
        self._log(
            logging.WARNING,
            f"flag {key!r:.80}",
            "There is no feature flag %r among the %s of this project that are evaluated here: its default "
            "counts. See that its key is right, and that it is enabled.",
            key,
            len(self.definitions.flags),
        )

    def _failed(self, key: str) -> None:
        self._counters.note("flag_error")
        self._log(
            logging.ERROR,
            "flag error",
            "Feature flag %r: its default counts, for an error.",
            key,
            exc_info=True,
        )


def _remember(scope: FlagScope, key: str, decided: DecidedFlag) -> DecidedFlag:
    decisions = scope.flag_decisions
    if decisions is None:
        scope.flag_decisions = decisions = {}
    return decisions.setdefault(key, decided)  # another thread of the request may have been faster


def _context(scope: FlagScope, id_mode: IdMode) -> FlagContext:
    identity, registered = scope.identity, scope.registered or {}
    ids = {name: _single(value) for name, value in registered.items()}
    ids |= {DISTINCT_ID: distinct_id(id_mode, identity), DEVICE_ID: identity.device_id}
    passing: set[str] = set()
    if not scope.has_lasting_id:
        passing.add(DEVICE_ID)
        if identity.user_id is None and identity.uid is None:
            passing.add(DISTINCT_ID)

    def context_properties() -> dict[str, Any]:
        properties = properties_of(scope.request_properties.parts)
        properties.pop("ip", None)
        return {**properties, **registered}

    return FlagContext(ids, context_properties, passing=frozenset(passing))


def _single(value: Any) -> Any:
    """Return a group's ID, which is in a list; of several groups, None."""
    if isinstance(value, (list, tuple)):
        return value[0] if len(value) == 1 else None
    return value
