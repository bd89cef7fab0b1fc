"""Visitor: what a handler holds. Every method returns at once, does no I/O and never raises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mixpanel_visitor.core.identity.identity import DEVICE_PREFIX, alias_properties, distinct_id, read_id
from mixpanel_visitor.process.imports import importing

from . import forced_flags
from .automatic_events import track_merge

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Protocol

    from mixpanel_visitor.core.identity.identity import AnyId, Login, MergeEvent, Source
    from mixpanel_visitor.core.policy import Consent
    from mixpanel_visitor.plan import Declared
    from mixpanel_visitor.sdk import Mixpanel

    from .event_builder import EventBuilder, Sink
    from .flags import DecidedFlag, FlagScope, FlagValues

    class TrackingScope(Sink, Protocol):
        """The exchange behind a visitor, or the detached exchange outside of a request."""

        flag_decisions: dict[str, DecidedFlag] | None
        """The decided feature flags of this request by key; None: none yet."""

        @property
        def consent(self) -> Consent:
            """Whether this person may be tracked."""
            ...

        @property
        def is_bot(self) -> bool:
            """Whether it is no person."""
            ...

        @property
        def has_lasting_id(self) -> bool:
            """Whether the device ID is more than this request's."""
            ...

        @property
        def spid_user_id(self) -> int | None:
            """SPiD's ID of the user who is logged in there."""
            ...

        def identify(self, user_id: str, fresh_id: Callable[[], str]) -> Login:
            """Log a user in."""
            ...

        def schedule_merge(self, merge: MergeEvent | None) -> MergeEvent | None:
            """Schedule the event that merges device and user. Return it where it is due at once."""
            ...

        def register(self, properties: Mapping[str, Any]) -> None:
            """Add super properties."""
            ...

        def reset(self, fresh_id: Callable[[], str]) -> None:
            """Log out."""
            ...

        def opt_out(self) -> None:
            """Stop tracking this person; drop and count what is queued."""
            ...

        def opt_in(self, fresh_id: Callable[[], str]) -> None:
            """Take an opt-out back."""
            ...


class Visitor:
    """One visitor, in one request or in one job.

    The methods for profiles and groups have the names and meaning of the official library's, without the
    leading distinct ID. Where Mixpanel would refuse what is given, the call is logged once a minute with
    its place, counted by reason and otherwise without effect (`on_error="raise"` makes it raise).

    >>> from mixpanel_visitor import Tracker
    >>> from mixpanel_visitor.testing import capture_events
    >>> with capture_events() as events, Tracker().visitor(device_id="phone-1") as visitor:
    ...     visitor.track("Viewed", page="prices")
    ...     visitor.identify("user-42")
    ...     visitor.track("Signed up", plan="pro")
    >>> [(event.name, event.distinct_id) for event in events]
    [('Viewed', '$device:phone-1'), ('Signed up', 'user-42')]
    """

    __slots__ = ("_event_builder", "_fresh_id", "_scope")

    def __init__(
        self, scope: TrackingScope, event_builder: EventBuilder, fresh_id: Callable[[], str]
    ) -> None:
        self._scope = scope
        self._event_builder = event_builder
        self._fresh_id = fresh_id

    # --- identity -------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The visitor ID: SPiD's uid, or the browser SDK's own `$device_id`; without them, the user's ID."""
        identity = self._scope.identity
        return identity.uid or identity.device_id or identity.user_id or ""

    @property
    def device_id(self) -> str | None:
        """The random ID of this browser; None in a job that only knows a user."""
        return self._scope.identity.device_id

    @property
    def user_id(self) -> str | None:
        """The application's own ID of the user who is logged in; None: no user is."""
        return self._scope.identity.user_id

    @property
    def spid_user_id(self) -> int | None:
        """SPiD's own ID of its user, from a session that SPiD has signed, while that lasts; no log-in."""
        return self._scope.spid_user_id

    @property
    def distinct_id(self) -> str:
        """Exactly what Mixpanel will count by: the user ID, else `$device:<device ID>`; SPiD's uid first."""
        return distinct_id(self._event_builder.id_mode, self._scope.identity)

    @property
    def source(self) -> Source:
        """Where the ID comes from, such as `"cookie"` or `"generated"`; `"none"`: for this request only."""
        return self._scope.identity.source

    @property
    def vouched(self) -> bool:
        """Whether the ID is of our own making or signed by SPiD; False: only the browser says so."""
        return self._scope.identity.vouched

    @property
    def is_new(self) -> bool:
        """Whether the device ID was made in this request."""
        return self._scope.identity.is_new

    @property
    def consent(self) -> Consent:
        """`"granted"`, `"denied"` or `"unknown"`; nothing is tracked unless it is granted."""
        return self._scope.consent

    @property
    def is_bot(self) -> bool:
        """Whether the user agent is one for which mixpanel-browser stays silent."""
        return self._scope.is_bot

    def __repr__(self) -> str:
        return f"<Visitor {self.source} is_new={self.is_new} identified={self.user_id is not None}>"

    def identify(self, user_id: AnyId, /) -> None:
        """Log in: from here on events carry the user, in this request and in the visitor's later ones.

        `user_id` is the application's own ID: a str, an int or a UUID. Somebody else who logs in on the same
        device gets a new device ID first, so that the two are never merged.
        """
        user, reason = read_id(user_id)
        if reason is None and user.startswith(DEVICE_PREFIX):
            reason = "this is a device's ID; identify takes the application's own ID of the user"
        if reason is not None:
            self._event_builder.refuse("banned_id", "identify", reason)
            return
        login = self._scope.identify(user, self._fresh_id)
        for merge in login.merge_events:
            track_merge(self._event_builder, self._scope, merge)
        due = self._scope.schedule_merge(login.merge)
        if due is not None:
            track_merge(self._event_builder, self._scope, due)

    def alias(self, alias_id: AnyId, /) -> None:
        """Send the alias of a user to a project on the legacy ID system, once, at registration.

        Later events under `alias_id`, which `identify` at a log-in brings, count for the visitor then. Give
        Mixpanel a second or so before them. Projects on a newer ID Merge do not need it.
        """
        alias, reason = read_id(alias_id)
        if reason is not None:
            self._event_builder.refuse("banned_id", "alias", reason)
            return
        identity = alias_properties(self._event_builder.id_mode, self._scope.identity, alias)
        self._event_builder.event(self._scope, "$create_alias", None, identity=identity)

    def reset(self) -> None:
        """Log out: forget the user, start a new device ID, drop what was registered."""
        self._scope.reset(self._fresh_id)

    def opt_out(self) -> None:
        """Stop tracking this person: their waiting events are not sent, and the browser stores the choice.

        The response sets the opt-out cookie of mixpanel-browser, which reads it with
        `opt_out_tracking_persistence_type: 'cookie'`, and removes ours and the SDK's. What Mixpanel has
        already is deleted there (its GDPR API), not here.
        """
        identity = self._scope.identity
        self._scope.opt_out()
        self._event_builder.withdraw(identity)

    def opt_in(self) -> None:
        """Take an opt-out back: from here on this person is tracked, as a new one.

        A `consent` callable that says no, DNT and GPC still count with the next request.
        """
        self._scope.opt_in(self._fresh_id)

    def export(self) -> str:
        """Return this visitor as a signed text, for a job or another service that tracks on their behalf.

        `tracker.resume(text)` takes it. It has less than 1 KiB and holds the IDs, what events of this request
        say of browser and page, super properties and groups. It is empty for visitors who may not be tracked:
        no consent, DNT, GPC, opted out, a bot.
        """
        return self._event_builder.export(self._scope)

    # --- events ---------------------------------------------------------------------------------

    def track(
        self, event: str | Declared, properties: Mapping[str, Any] | None = None, /, **more_properties: Any
    ) -> None:
        """Enqueue an event; its time, ID and identity are those of this moment.

        `event` is its name, or an instance of a class of the tracking plan (setting `plan`).
        `time` (seconds, milliseconds or a datetime) and `$insert_id` may be given as properties.
        """
        if more_properties:
            properties = merged(properties, more_properties)
        self._event_builder.event(self._scope, event, properties, None, self._scope.registered)

    def register(self, properties: Mapping[str, Any] | None = None, /, **more_properties: Any) -> None:
        """Add super properties: they go with every further event of this request."""
        properties = merged(properties, more_properties)
        prepared = self._event_builder.prepared("register", {} if properties is None else properties)
        if prepared is not None:
            self._scope.register(prepared)

    def set_group(self, group_key: str, group_id: Any, /) -> None:
        """Put the visitor into a group: on every further event of this request, and on the profile."""
        if not isinstance(group_key, str) or not group_key or group_id is None:
            self._event_builder.refuse(
                "bad_update", "set_group", "it takes a key and an ID: 'company', 'Acme'"
            )
            return
        groups = list(group_id) if isinstance(group_id, (list, tuple, set)) else [group_id]
        self.register({group_key: groups})
        self.people_set({group_key: groups})

    @property
    def mixpanel(self) -> Mixpanel:
        """A real `mixpanel.Mixpanel` of the official package, whose consumer is our spool.

        Its methods take a distinct ID as ever: pass `visitor.distinct_id`.
        """
        # The official package takes 0.2 s to import, and needs urllib3, as the sender's thread does.
        with importing:
            from mixpanel_visitor.sdk import bound_mixpanel  # noqa: PLC0415

        return bound_mixpanel(self._event_builder, self._scope)

    # --- feature flags --------------------------------------------------------------------------

    def flag(self, key: str, default: Any = False) -> Any:
        """Return what a feature flag is for this visitor: its variant's value, else `default`.

        It is evaluated here (setting `flags`), once in a request: a log-in in between changes nothing. The
        first time in a day that a visitor is shown a variant is an event, `$experiment_started`. `default` is
        returned where no rule selects a variant, where the flag is not known, and until its definition is
        here. People who are not tracked, and bots, only get variants that all visitors get.
        """
        decisions = self._scope.flag_decisions
        try:
            decided = None if decisions is None else decisions.get(key)
        except TypeError:
            decided = None  # a key that cannot be hashed, such as a list
        if decided is None or not decided.exposed:
            return self._decide(key, default)
        return default if decided.variant is None else decided.variant.own_value()

    def flags(self) -> FlagValues:
        """Return the values of all flags that a rule decides for this visitor, by key, for templates.

        To look one up is to show it, as `flag` does; to list them is not.
        """
        from .flags import FlagValues  # noqa: PLC0415  # late: for flags only

        forced, flags = forced_flags.active(), self._event_builder.flags
        if forced is not None or flags is None:
            return FlagValues(forced or {}, lambda _key, value: value)
        return flags.values(self._scope, self._expose)

    def _decide(self, key: str, default: Any) -> Any:
        forced, flags = forced_flags.active(), self._event_builder.flags
        if not isinstance(key, str):
            self._event_builder.diagnostics.bad_flag_key(key)
            return default
        if forced is not None:
            return forced.get(key, default)
        if flags is None:
            self._event_builder.diagnostics.flags_off(key)
            return default
        return flags.value(self._scope, self._expose, key, default)

    def _expose(self, scope: FlagScope, properties: Mapping[str, Any]) -> None:
        from mixpanel_visitor.core.flags.exposures import EVENT  # noqa: PLC0415  # as above

        self._event_builder.event(self._scope, EVENT, properties, None, scope.registered)

    # --- people ---------------------------------------------------------------------------------

    def people_set(self, properties: Mapping[str, Any], meta: Mapping[str, Any] | None = None) -> None:
        """Set properties of the visitor's profile."""
        self.people_update({"$set": properties}, meta)

    def people_set_once(self, properties: Mapping[str, Any], meta: Mapping[str, Any] | None = None) -> None:
        """Set properties of the profile where they are not set yet."""
        self.people_update({"$set_once": properties}, meta)

    def people_increment(self, properties: Mapping[str, Any], meta: Mapping[str, Any] | None = None) -> None:
        """Add to numerical properties of the profile; negative numbers subtract."""
        self.people_update({"$add": properties}, meta)

    def people_append(self, properties: Mapping[str, Any], meta: Mapping[str, Any] | None = None) -> None:
        """Append a value to list properties of the profile."""
        self.people_update({"$append": properties}, meta)

    def people_union(self, properties: Mapping[str, Any], meta: Mapping[str, Any] | None = None) -> None:
        """Add the values of lists to list properties of the profile, without repeating any."""
        self.people_update({"$union": properties}, meta)

    def people_remove(self, properties: Mapping[str, Any], meta: Mapping[str, Any] | None = None) -> None:
        """Remove a value from list properties of the profile."""
        self.people_update({"$remove": properties}, meta)

    def people_unset(self, properties: Sequence[str], meta: Mapping[str, Any] | None = None) -> None:
        """Remove properties from the profile, by name."""
        self.people_update({"$unset": properties}, meta)

    def people_delete(self, meta: Mapping[str, Any] | None = None) -> None:
        """Delete the profile."""
        self.people_update({"$delete": ""}, meta)

    def people_track_charge(
        self,
        amount: float,
        properties: Mapping[str, Any] | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        """Append a charge to the profile's `$transactions`; `amount` is in the project's currency."""
        charge = merged(properties, {"$amount": amount})
        if not isinstance(charge, dict) or not hasattr(amount, "__float__"):
            self._event_builder.refuse("bad_update", "people_track_charge", "it takes a number, and a dict")
            return
        self.people_append({"$transactions": charge}, meta)

    def people_clear_charges(self, meta: Mapping[str, Any] | None = None) -> None:
        """Remove all charges from the profile."""
        self.people_unset(["$transactions"], meta)

    def people_update(self, message: Mapping[str, Any], meta: Mapping[str, Any] | None = None) -> None:
        """Send any profile update, such as `{"$set": {...}}`; `meta` overrides Mixpanel's own fields."""
        self._event_builder.profile(self._scope, "engage", {"$distinct_id": self.distinct_id}, message, meta)

    # --- groups ---------------------------------------------------------------------------------

    def group_set(
        self,
        group_key: str,
        group_id: str,
        properties: Mapping[str, Any],
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        """Set properties of a group's profile."""
        self._group(group_key, group_id, {"$set": properties}, meta)

    def group_set_once(
        self,
        group_key: str,
        group_id: str,
        properties: Mapping[str, Any],
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        """Set properties of a group's profile where they are not set yet."""
        self._group(group_key, group_id, {"$set_once": properties}, meta)

    def group_union(
        self,
        group_key: str,
        group_id: str,
        properties: Mapping[str, Any],
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        """Add the values of lists to list properties of a group's profile."""
        self._group(group_key, group_id, {"$union": properties}, meta)

    def group_unset(
        self,
        group_key: str,
        group_id: str,
        properties: Sequence[str],
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        """Remove properties from a group's profile, by name."""
        self._group(group_key, group_id, {"$unset": properties}, meta)

    def group_remove(
        self,
        group_key: str,
        group_id: str,
        properties: Mapping[str, Any],
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        """Remove a value from list properties of a group's profile."""
        self._group(group_key, group_id, {"$remove": properties}, meta)

    def group_delete(self, group_key: str, group_id: str, meta: Mapping[str, Any] | None = None) -> None:
        """Delete a group's profile."""
        self._group(group_key, group_id, {"$delete": ""}, meta)

    def group_update(self, message: Mapping[str, Any], meta: Mapping[str, Any] | None = None) -> None:
        """Send any group update; `message` names `$group_key`, `$group_id` and one operation."""
        self._event_builder.profile(self._scope, "groups", message, meta)

    def _group(
        self, group_key: str, group_id: str, operation: Mapping[str, Any], meta: Mapping[str, Any] | None
    ) -> None:
        self.group_update({"$group_key": group_key, "$group_id": group_id, **operation}, meta)


def merged(properties: Any, keywords: Mapping[str, Any]) -> Any:
    """Add keywords to properties; return what is no mapping as it is, for the event builder to refuse."""
    if not keywords:
        return properties
    try:
        return {**(properties or {}), **keywords}
    except Exception:  # no mapping, or one whose own code raises
        return properties
