"""Page: the one HTML page that shows what arrived; it fetches `/_local/*` every second."""

from __future__ import annotations

import functools
import importlib.resources
import secrets

from .messages import Reply, Request

_POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def page(_request: Request) -> Reply:
    """`GET /`: the page, under a policy that runs only its own script and talks only to this server."""
    nonce = secrets.token_urlsafe(16)
    return Reply(
        body=_source().replace(b"{{nonce}}", nonce.encode()),
        content_type="text/html; charset=utf-8",
        headers=(
            ("Content-Security-Policy", _POLICY.format(nonce=nonce)),
            ("Cache-Control", "no-store"),
            ("Referrer-Policy", "no-referrer"),
        ),
    )


@functools.cache
def _source() -> bytes:
    return importlib.resources.files(__name__.rpartition(".")[0]).joinpath("page.html").read_bytes()
