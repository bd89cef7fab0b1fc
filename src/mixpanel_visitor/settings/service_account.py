"""ServiceAccount: the optional credentials for `/import`, in place of the project token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PART_KEYS = {
    "username": "MIXPANEL_SERVICE_ACCOUNT_USERNAME",
    "secret": "MIXPANEL_SERVICE_ACCOUNT_SECRET",
    "project_id": "MIXPANEL_PROJECT_ID",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccount:
    """A Mixpanel service account (Organization settings > Service accounts) and its project's ID.

    >>> ServiceAccount(username="app.1f2e3d", secret="hush", project_id="123456")
    ServiceAccount(username='app.1f2e3d', project_id='123456')
    """

    username: str
    secret: str = field(repr=False)
    project_id: str


def service_account(value: Any) -> ServiceAccount | None:
    """Parse a ServiceAccount, a mapping with its fields, or (username, secret, project_id)."""
    if value is None:
        return None
    if isinstance(value, ServiceAccount):
        raw: list[Any] = [value.username, value.secret, value.project_id]
    elif isinstance(value, Mapping):
        unknown = sorted(str(key) for key in value if key not in PART_KEYS)
        if unknown:
            raise ValueError(f"has {', '.join(unknown)}, but its parts are {', '.join(PART_KEYS)}")
        raw = [value.get(part) for part in PART_KEYS]
    elif isinstance(value, (tuple, list)) and len(value) == len(PART_KEYS):
        raw = list(value)
    else:
        raise ValueError("must be (username, secret, project_id), or a mapping with these keys")
    parts = {part: _text(item) for part, item in zip(PART_KEYS, raw, strict=True)}
    missing = [f"{part} ({PART_KEYS[part]})" for part, text in parts.items() if not text]
    if missing:
        raise ValueError(f"lacks {' and '.join(missing)}; give all three parts, or none of them")
    for part, text in parts.items():
        if not text.isascii() or any(character.isspace() for character in text):
            raise ValueError(f"has a {part} with white space or non-ASCII characters; copy it from Mixpanel")
    if ":" in parts["username"]:
        raise ValueError("has a username with ':', which HTTP cannot carry (RFC 7617); copy it from Mixpanel")
    return ServiceAccount(**parts)


def _text(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # a project ID is often given as a number
    return value.strip() if isinstance(value, str) else ""
