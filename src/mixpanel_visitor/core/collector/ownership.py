"""Ownership: the IDs in an event of the browser, compared with the signed visitor of its request.

No ID is changed here. The browser SDK and this server agree on who the visitor is in nearly every request.
If they do not, a page has a mistake (it gives the SDK an ID that the server does not know), a batch has
waited in the browser over a log-out, or somebody sends forged IDs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from mixpanel_visitor.core.identity.identity import DEVICE_PREFIX, read_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mixpanel_visitor.core.identity.identity import Identity
    from mixpanel_visitor.core.identity.visitor_cookie import VisitorCookie

_DEVICE_IDS = ("$device_id",)
_USER_IDS = ("$user_id", "$identified_id", "alias")
_DISTINCT_IDS = ("distinct_id", "$anon_distinct_id", "$anon_id")
_PLAIN_IDS = frozenset((str, type(None)))

Mismatch = Literal["", "device", "user", "unknown-user"]
"""Which ID is not the signed visitor's; `unknown-user`: no user has logged in here. `""`: none."""


class Ownership(NamedTuple):
    """The result of a comparison.

    `is_earlier`: a device ID is one that the visitor had before. `is_signed`: there was a signed visitor
    to compare with.
    """

    mismatch: Mismatch
    is_earlier: bool
    is_signed: bool


class KnownVisitor:
    """The visitor of a request: `cookie` is the one that came with it, signed by us; None: there was none."""

    def __init__(self, identity: Identity, cookie: VisitorCookie | None) -> None:
        self._identity = identity
        self._cookie = cookie
        earlier = () if cookie is None else (cookie.device_id, cookie.earlier_id)
        self._compared_ids: dict[tuple[Any, ...], Ownership] = {}
        self._devices = {device_id for device_id in (identity.device_id, *earlier) if device_id is not None}

    @property
    def is_signed(self) -> bool:
        """Whether a cookie of ours came with the request."""
        return self._cookie is not None

    def of_event(self, properties: Mapping[str, Any]) -> Ownership:
        """Compare the IDs in an event's properties."""
        ids = tuple(map(properties.get, (*_DEVICE_IDS, *_USER_IDS, *_DISTINCT_IDS)))
        if not _PLAIN_IDS.issuperset(map(type, ids)):
            return self._of_event(properties)
        # The events of a batch mostly have the same IDs.
        ownership = self._compared_ids.get(ids)
        if ownership is None:
            ownership = self._compared_ids[ids] = self._of_event(properties)
        return ownership

    def _of_event(self, properties: Mapping[str, Any]) -> Ownership:
        devices, users = set(_texts(properties, _DEVICE_IDS)), set(_texts(properties, _USER_IDS))
        return self._compared(devices, users, _texts(properties, _DISTINCT_IDS))

    def of_profile(self, update: Mapping[str, Any]) -> Ownership:
        """Compare the IDs in a profile update."""
        devices, users = set(_texts(update, ("$device_id",))), set(_texts(update, ("$user_id",)))
        return self._compared(devices, users, _texts(update, ("$distinct_id",)))

    def owns_profile(self, update: Mapping[str, Any]) -> bool:
        """Return whether a profile is that of the user who has logged in, or of this signed device."""
        return self.is_signed and self.of_profile(update).mismatch == ""

    @property
    def is_logged_in(self) -> bool:
        """Whether our signed cookie says that a user has logged in."""
        return self._cookie is not None and self._cookie.has_user

    def _compared(self, devices: set[str], users: set[str], distinct_ids: Iterator[str]) -> Ownership:
        for any_id in distinct_ids:
            if any_id.startswith(DEVICE_PREFIX):
                devices.add(any_id.removeprefix(DEVICE_PREFIX))
            elif any_id not in devices and any_id not in self._devices:
                users.add(any_id)
        strange_users = [user for user in users if not self._is_user(user)]
        strange_devices = devices - self._devices
        mismatch: Mismatch = ""
        if strange_users:
            mismatch = "user" if self._has_other_user else "unknown-user"
        if strange_devices and self.is_signed:
            mismatch = "device"
        is_earlier = not mismatch and any(any_id != self._identity.device_id for any_id in devices)
        return Ownership(mismatch, is_earlier=is_earlier and self.is_signed, is_signed=self.is_signed)

    @property
    def _has_other_user(self) -> bool:
        return self._identity.user_id is not None or self.is_logged_in

    def _is_user(self, user: str) -> bool:
        cookie, identity = self._cookie, self._identity
        return user in (identity.user_id, identity.uid) or (
            cookie is not None and (cookie.belongs_to(user) or cookie.uid == user)
        )


def _texts(values: Mapping[str, Any], names: tuple[str, ...]) -> Iterator[str]:
    """Yield the IDs under these names; a number is compared by its digits."""
    for name in names:
        value = values.get(name)
        if value is not None:
            text, _ = read_id(value)
            yield text
