"""ExportedVisitor: the visitor of a request as a signed text, for a job or another service.

The text is `1.<content>.<signature>`: the version of the format, base64url of JSON (compressed if it is
long), and HMAC-SHA256 by the site's secret key with a salt of its own, for one project. All its characters
are safe in a header. The JSON is a list:

`[exported at, device ID, user ID, uid, marks, source, request properties, super properties, flags]`

The time is in unix milliseconds. A visitor who may not be tracked is exported as the empty text.
"""

from __future__ import annotations

import base64
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import orjson

from .events.encoding import encode_part
from .identity.identity import Identity
from .identity.signing import SIGNATURE_CHARS, make_signer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .identity.identity import Source

MAX_CHARS = 1023
"""The longest text, so that it fits into the headers of any message queue."""

CLOCK_SKEW_S = 300
"""A text may come from a host whose clock is ahead by this much."""

MAX_PROPERTY_BYTES = 4096
"""Larger properties are not compressed: some are left out first."""

_MAX_CONTENT_BYTES = 4 * MAX_PROPERTY_BYTES
_CONTENT_CHARS = MAX_CHARS - len("1..") - SIGNATURE_CHARS
_CONTENT_BYTES = _CONTENT_CHARS * 3 // 4
_SALT = b"mixpanel-visitor.export:"
_VERSION = "1"
_FLAGS = "feature flags"
_LEAST_WANTED = ("$referrer", "$initial_referrer", "$current_url")


class ExportError(ValueError):
    """A text from which no visitor is resumed: `reason` is the counter name, the message says the fix."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class ExportedVisitor(NamedTuple):
    """One visitor at the moment of the export, which was at `exported_at_ms` (unix milliseconds).

    `event_properties` are those of the request, `registered` the super properties with the groups; `flags`
    are the decided feature flags, each with its variant's key (None: no rule has selected one).
    """

    identity: Identity
    exported_at_ms: int
    event_properties: Mapping[str, Any]
    registered: Mapping[str, Any] | None = None
    flags: Mapping[str, str | None] | None = None


class VisitorExportCodec:
    """Signs and verifies exported visitors of one project; of several keys the last one signs."""

    def __init__(self, secret_keys: Sequence[str], *, token: str) -> None:
        self._signer = make_signer(secret_keys, _SALT + token.encode())

    def encode(self, visitor: ExportedVisitor) -> tuple[str, Sequence[str]]:
        """Return a visitor as text, and the names of properties for which there was no room.

        The request's properties are left out first, then super properties; the identity never is. Raise
        `ExportError` if the identity alone does not fit.
        """
        content = _pack(visitor)
        left_out: Sequence[str] = ()
        if len(content) > _CONTENT_BYTES:
            content, left_out = _pack_shortened(visitor)
        text = base64.urlsafe_b64encode(content).rstrip(b"=").decode()
        return self._signer.sign(f"{_VERSION}.{text}").decode("ascii"), left_out

    def decode(self, text: object, *, now_s: float, max_age_s: float) -> ExportedVisitor:
        """Return the visitor that was exported as this text; raise `ExportError`."""
        if not isinstance(text, str):
            raise ExportError(
                "resume_malformed", f"it takes what export() returned, not {type(text).__name__}"
            )
        if not text:
            raise ExportError("resume_empty", "this visitor may not be tracked")
        version, _, rest = text.partition(".")
        if len(text) > MAX_CHARS or not text.isascii() or not rest:
            raise ExportError("resume_malformed", "it is not what export() returned")
        if version != _VERSION:
            is_newer = version.isdecimal() and len(version) < 4
            raise ExportError(
                "resume_newer" if is_newer else "resume_malformed",
                "a later version of mixpanel-visitor has exported it; update this one"
                if is_newer
                else "it is not what export() returned",
            )
        if not self._signer.validate(text):
            raise ExportError(
                "resume_bad_signature",
                "this secret_key has not signed it for this project: give web processes, workers and "
                "services the same token and secret_key (while it changes: ['old one', 'new one'])",
            )
        visitor = _unpack(rest.partition(".")[0])
        if not now_s - max_age_s <= visitor.exported_at_ms / 1000 <= now_s + CLOCK_SKEW_S:
            raise ExportError(
                "resume_expired",
                f"it was exported more than {max_age_s:,.0f} s ago, or by a clock that is ahead; resume(..., "
                "max_age_s=...) takes older ones",
            )
        return visitor


def _pack(visitor: ExportedVisitor) -> bytes:
    identity = visitor.identity
    marks = (
        f"{'b' if identity.unprefixed else ''}{'v' if identity.vouched else ''}"
        f"{'u' if identity.device_unverified else ''}"
    )
    head = orjson.dumps(
        [
            visitor.exported_at_ms,
            identity.device_id,
            identity.user_id,
            identity.uid,
            marks,
            identity.source,
        ]
    )
    properties, registered = encode_part(visitor.event_properties), encode_part(visitor.registered or {})
    content = b"%b,{%b},{%b},%b]" % (head[:-1], properties, registered, orjson.dumps(visitor.flags or {}))
    return content if len(content) <= _CONTENT_BYTES else zlib.compress(content)


def _pack_shortened(visitor: ExportedVisitor) -> tuple[bytes, Sequence[str]]:
    """Leave properties out, one by one, until there is room. Return the content, and their names."""
    properties, registered = dict(visitor.event_properties), dict(visitor.registered or {})
    sizes = {name: len(encode_part({name: value})) for name, value in (properties | registered).items()}
    removable = sorted(sizes, key=lambda name: (name in registered, name not in _LEAST_WANTED, -sizes[name]))
    flags = visitor.flags
    if flags:  # before the super properties
        removable.insert(sum(name not in registered for name in removable), _FLAGS)
        sizes[_FLAGS] = len(orjson.dumps(flags))
    size = sum(sizes.values())
    for removed_count, name in enumerate(removable, 1):
        properties.pop(name, None)
        registered.pop(name, None)
        flags = None if name == _FLAGS else flags
        size -= sizes[name]
        if size > MAX_PROPERTY_BYTES:
            continue  # too large to be worth compressing
        content = _pack(visitor._replace(event_properties=properties, registered=registered, flags=flags))
        if len(content) <= _CONTENT_BYTES:
            return content, removable[:removed_count]
    raise ExportError("export_too_large", "the IDs alone do not fit; use shorter user IDs")


def _unpack(text: str) -> ExportedVisitor:
    """Return the visitor in a text with a valid signature; only a mistake of ours makes it unreadable."""
    try:
        content = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        if content[:1] != b"[":
            content = zlib.decompressobj().decompress(content, _MAX_CONTENT_BYTES)
        exported_at_ms, device_id, user_id, uid, marks, source, properties, registered, flags = orjson.loads(
            content
        )
        identity = Identity(
            device_id=device_id,
            user_id=user_id,
            uid=uid,
            unprefixed="b" in marks,
            source=cast("Source", source),
            vouched="v" in marks,
            device_unverified="u" in marks,
        )
        return ExportedVisitor(identity, int(exported_at_ms), properties, registered or None, flags or None)
    except (TypeError, ValueError, zlib.error) as error:
        raise ExportError("resume_malformed", "it is signed, but cannot be read") from error
