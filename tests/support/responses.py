"""Response: what a client saw of an answer, the same from every driver, test client and server."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

OUR_COOKIE = re.compile(r"mpv_[0-9a-f]{8}(\.[0-9a-f]{8}|\.user)?=")


def cookie_name(token: str) -> str:
    """Return the name of our cookie for a project, as public-api.md has it."""
    return f"mpv_{hashlib.sha256(token.encode()).hexdigest()[:8]}"


@dataclass(kw_only=True)
class Response:
    """One answer. `parts` are the pieces in which the body came, `error` how it ended, if not well."""

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    parts: list[bytes] = field(default_factory=list)
    error: str | None = None

    @property
    def body(self) -> bytes:
        """The whole body."""
        return b"".join(self.parts)

    @property
    def text(self) -> str:
        """The whole body as text."""
        return self.body.decode()

    def values(self, name: str) -> list[str]:
        """Return every value of a header."""
        return [value for key, value in self.headers if key.lower() == name]

    @property
    def our_cookies(self) -> list[str]:
        """The Set-Cookie headers that are ours."""
        return [value for value in self.values("set-cookie") if OUR_COOKIE.match(value)]

    @property
    def others(self) -> list[tuple[str, str]]:
        """All headers but ours and the clock's, in lower case and sorted: servers may reorder them."""
        return sorted(
            (name.lower(), value)
            for name, value in self.headers
            if name.lower() not in ("date", "expires")
            and (name.lower(), value) != ("cache-control", "private")
            and not (name.lower() == "set-cookie" and OUR_COOKIE.match(value))
        )


class Jar(dict[str, str]):
    """As much of a browser's cookie store as one site needs."""

    def keep(self, headers: list[tuple[str, str]]) -> None:
        """Store what the response's Set-Cookie headers say."""
        for name, value in headers:
            if name.lower() != "set-cookie":
                continue
            pair, _, attributes = value.partition(";")
            key, _, content = pair.partition("=")
            if "max-age=0" in attributes.lower().replace(" ", "").split(";"):
                self.pop(key, None)
            else:
                self[key] = content

    @property
    def header(self) -> dict[str, str]:
        """The Cookie header to send, if any."""
        return {"cookie": "; ".join(f"{key}={value}" for key, value in self.items())} if self else {}
