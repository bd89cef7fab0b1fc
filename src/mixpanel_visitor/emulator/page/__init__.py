"""Page: the one page that shows what arrives, put together from the files beside this one.

`index.html` is its frame, `page.css` its looks; `basics.js`, `events.js`, `timeline.js`, `flags.js` and
`page.js` are one script, in this order. What it shows comes from `/_local/stream` and `/_local/*`.
"""

from __future__ import annotations

import functools
import importlib.resources
import secrets
from typing import TYPE_CHECKING

from mixpanel_visitor.emulator.http import Reply

if TYPE_CHECKING:
    from mixpanel_visitor.emulator.http import Request

_POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_SCRIPTS = ("basics.js", "events.js", "timeline.js", "flags.js", "page.js")


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
    files = importlib.resources.files(__name__)
    script = b"".join(files.joinpath(name).read_bytes() for name in _SCRIPTS)
    source = files.joinpath("index.html").read_bytes()
    source = source.replace(b"{{style}}", files.joinpath("page.css").read_bytes())
    return source.replace(b"{{script}}", script)
