"""Tracker: what an application holds. One per application; several apps may share it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from mixpanel_visitor.core.identity.identity import (
    DEVICE_PREFIX,
    Identity,
    from_any_id,
    from_known_ids,
    read_id,
)
from mixpanel_visitor.process.imports import importing
from mixpanel_visitor.settings import Settings
from mixpanel_visitor.settings.masked import without_secrets

from . import recorder
from .dependencies import Dependencies
from .engine import Engine
from .visitor import merged
from .visitor_exports import MAX_AGE_S

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Unpack

    from mixpanel_visitor.core.identity.identity import AnyId
    from mixpanel_visitor.plan import Declared
    from mixpanel_visitor.sdk import SpoolConsumer
    from mixpanel_visitor.settings.keywords import SettingsKeywords

    from .offline_visitor import OfflineVisitor
    from .stats import Stats

_NOT_GIVEN: Any = object()


class Tracker:
    """Accepts events, keeps them safe, delivers them to Mixpanel.

    The keyword arguments are the fields of `Settings`; what is not given comes from the environment. Wrong
    settings raise `SettingsError` here, all at once. Nothing is opened or started before the first request
    or event.

    >>> from mixpanel_visitor.testing import capture_events
    >>> with capture_events() as events:  # while a test captures, neither token nor key is needed
    ...     tracker = Tracker()
    ...     tracker.track("user-42", "Invoice paid", amount=12)
    ...     with tracker.visitor("user-42") as visitor:
    ...         visitor.people_set({"plan": "pro"})
    >>> events.names
    ['Invoice paid']
    >>> tracker.close()
    True
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        dependencies: Dependencies | None = None,
        **keywords: Unpack[SettingsKeywords],
    ) -> None:
        if settings is None:
            settings = Settings.resolve(keywords, is_captured=recorder.active() is not None)
        self._engine = Engine(settings, dependencies or Dependencies())

    @classmethod
    def from_env(cls, **keywords: Unpack[SettingsKeywords]) -> Self:
        """Build a tracker from the environment; keywords win."""
        return cls(**keywords)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, object], **keywords: Unpack[SettingsKeywords]) -> Self:
        """Build a tracker from a mapping with keys such as `MIXPANEL_TOKEN`: Flask's config, a TOML table."""
        captured = recorder.active() is not None
        return cls(Settings.resolve(keywords, mapping=mapping, is_captured=captured))

    def __repr__(self) -> str:
        return f"<Tracker to {self.settings.api_host} over {without_secrets(self.settings.spool)}>"

    @property
    def settings(self) -> Settings:
        """All settings as they hold here, whichever way they came; its `repr` shows no secret."""
        return self._engine.settings

    # --- outside of a request -----------------------------------------------------------------------

    def visitor(
        self,
        any_id: AnyId | None = _NOT_GIVEN,
        *,
        user_id: AnyId | None = _NOT_GIVEN,
        device_id: AnyId | None = _NOT_GIVEN,
    ) -> OfflineVisitor:
        """Return a visitor for a job, a script or a test.

        `any_id` is a user's ID, or a visitor ID as `request.state.visitor_id` gives it: what begins with
        `$device:` or has the shape of a UUID is taken as a device ID. Where users' own IDs are UUIDs, say
        `user_id=` instead. An invalid ID is logged, and the visitor's events are refused and counted.
        """
        has_pair = user_id is not _NOT_GIVEN or device_id is not _NOT_GIVEN
        if (any_id is _NOT_GIVEN) != has_pair:
            raise TypeError("visitor() takes either one ID, or user_id= and device_id=")
        mode = self.settings.id_mode
        if device_id is not _NOT_GIVEN:
            self._engine.exports.advise_jobs()
        if any_id is not _NOT_GIVEN:
            text, reason = read_id(any_id)
            identity = from_any_id(mode, text)
        else:
            device, user, reason = _read_pair(device_id, user_id)
            identity = from_known_ids(mode, device_id=device, user_id=user)
        if reason is not None:
            self._engine.event_builder.refuse("banned_id", "tracker.visitor", reason)
            return self._engine.visitor(Identity(device_id=None), refusal="banned_id")
        return self._engine.visitor(identity)

    def resume(self, exported: str, *, max_age_s: float = MAX_AGE_S) -> OfflineVisitor:
        """Return the visitor that a request has exported (`visitor.export()`), for a job that they caused.

        With `with` it is the current visitor of the block. Its events are durable at once. Texts that are
        empty, forged, of another project or older than `max_age_s` (7 days at most), and visitors who have
        opted out since, give a visitor whose events are refused and counted by reason; nothing is raised.
        No device and user are joined by a job.

        >>> from mixpanel_visitor import current_visitor
        >>> from mixpanel_visitor.testing import capture_events
        >>> with capture_events() as events:
        ...     tracker = Tracker()
        ...     exported = tracker.visitor(device_id="phone-1", user_id="user-42").export()
        ...     with tracker.resume(exported):
        ...         current_visitor.track("Invoice paid", amount=12)
        ...     with tracker.resume(""):  # a visitor who may not be tracked
        ...         current_visitor.track("Invoice paid", amount=12)
        >>> [(event.name, event.distinct_id) for event in events]
        [('Invoice paid', 'user-42')]
        """
        return self._engine.resume(exported, max_age_s=max_age_s)

    def track(
        self,
        distinct_id: AnyId,
        event: str | Declared,
        properties: Mapping[str, Any] | None = None,
        /,
        **more_properties: Any,
    ) -> None:
        """Store one event under exactly this distinct ID; it is durable when this returns."""
        text, reason = read_id(distinct_id)
        identity: dict[str, Any] = {"distinct_id": distinct_id if reason else text}
        if text.startswith(DEVICE_PREFIX):
            identity["$device_id"] = text.removeprefix(DEVICE_PREFIX)
        properties = merged(properties, more_properties)
        self._engine.event_builder.event(self._engine.detached(), event, properties, identity=identity)

    def sign_traits(self, traits: Mapping[str, object]) -> str:
        """Return traits of SPiD's visitor as the signed text that `VGS.setTraits` takes.

        A trait is a str, bool, number, or a list of those. It needs `spid_sign_secret`. In templates it is
        `sign_traits` as well; the text needs no escaping.
        """
        return self._engine.sign_traits(traits)

    def consumer(self) -> SpoolConsumer:
        """Return a consumer for the official `mixpanel.Mixpanel(token, consumer=tracker.consumer())`."""
        # The official package takes 0.2 s to import, and needs urllib3, as the sender's thread does.
        with importing:
            from mixpanel_visitor.sdk import SpoolConsumer  # noqa: PLC0415

        return SpoolConsumer(self._engine.event_builder, self._engine.detached())

    # --- life ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to deliver, in this process; done by the first request or event, or by ASGI's lifespan."""
        self._engine.start()

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Wait until Mixpanel has acknowledged all that this process stored so far, in any spool.

        False: that is not known within `timeout_s`, as where another process delivers (`deliver=False`,
        Redis) and has not done it yet; `stats()` says where the events are. What was refused or
        dead-lettered is not waited for.
        """
        return self._engine.flush(timeout_s)

    def close(self, timeout_s: float = 5.0) -> bool:
        """Stop accepting, drain, free; also done at exit. Events that come later are refused and counted."""
        return self._engine.close(timeout_s)

    def stats(self) -> Stats:
        """Return the counters of this process.

        `accepted == delivered + pending + dead_lettered + sum(refused.values())`, always. `pending` counts
        what is in open requests (`buffered`) and what waits in the spool (`spooled`); `spool` counts
        the whole spool, with what earlier and other processes left there.
        """
        return self._engine.stats()


def _read_pair(device_id: Any, user_id: Any) -> tuple[str | None, str | None, str | None]:
    """Read two IDs of which one may be missing; return both, and the reason why one is not valid."""
    texts: list[str | None] = []
    reason = read_id(None)[1]
    for raw_id in (device_id, user_id):
        if raw_id is _NOT_GIVEN or raw_id is None:
            texts.append(None)
            continue
        text, reason = read_id(raw_id)
        if reason is not None:
            break
        texts.append(text)
    device, user = texts if len(texts) == 2 else (None, None)
    return device, user, reason


def engine_of(tracker: Tracker) -> Engine:
    """Return the engine of a tracker, for the adapters of this package and their tests."""
    return tracker._engine  # noqa: SLF001  # the one way in, so that users see what they may rely on


def tracker_or_new(tracker: Tracker | None, settings: SettingsKeywords) -> Tracker:
    """Return the tracker that a middleware gets, or a new one from its settings."""
    if tracker is None:
        return Tracker(**settings)
    if not isinstance(tracker, Tracker):
        raise TypeError(f"tracker= must be a mixpanel_visitor.Tracker, not {tracker!r}")
    if settings:
        raise TypeError(f"give either tracker= or settings, not both: {', '.join(sorted(settings))}")
    return tracker
