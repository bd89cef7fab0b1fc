"""Snippet: the script that hands the visitor ID from the browser to the hand-over path.

It posts `{"device_id": ...}`, `{"sig": ...}`, `{"uid": ...}` and `{"opted_out": ...}` as JSON, each ID once;
what the server can read in mixpanel-browser's cookie it leaves to the server. It leaves no global, throws
nothing and asks nobody over the network. So on a page where it began to listen after SPiD had answered it
cannot learn an anonymous SPiD visitor: it belongs before the SDKs.
"""

from __future__ import annotations

import functools
import hashlib
import html
import importlib.resources
import json
import re
from typing import Any
from urllib.parse import quote

_PLACE = "CONFIG"
_COMMENT = re.compile(r"\s//\s.*|^//.*", re.MULTILINE)
# Strings stay as they are; around punctuation no white space is needed, and before a brace no semicolon.
_TOKEN = re.compile(r"('[^']*')|;?\s*(\})\s*|\s*([({\[\]):;,=<>?!&|+*])\s*|\s+")
_IN_HTML = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


class Html(str):
    """HTML that is safe as it is: template engines ask for `__html__` and do not escape it."""

    __slots__ = ()

    def __html__(self) -> str:
        return str(self)


class Snippet:
    """The script for one configuration.

    `mixpanel` is the name of the SDK's cookie and localStorage entry and the name of its opt-out.
    `spid_production` decides the name of v1's cookie only, and v1 is asked itself, so nothing depends on it.
    """

    content_type = "text/javascript; charset=utf-8"

    def __init__(
        self,
        *,
        handover_path: str,
        seen_cookie: str,
        mixpanel: tuple[str, str] | None,
        spid_client_id: str | None,
        spid_production: bool = True,  # noqa: ARG002 - part of the settings of a SPiD client
    ) -> None:
        self._path = handover_path
        session = None if spid_client_id is None else f"spid_js_{spid_client_id}"
        self._names = (seen_cookie, *(mixpanel or (None, None)), session)

    def script(self) -> bytes:
        """Give what is served at the hand-over path with `.js` at its end; the same for everybody."""
        return self._script

    @functools.cached_property
    def etag(self) -> str:
        """The strong entity tag of `script`, with its quotes."""
        return f'"{hashlib.sha256(self._script).hexdigest()[:32]}"'

    def inline(self, *, root_path: str = "", nonce: str | None = None) -> Html:
        """Give the script as an element for a page, for an application that is mounted at `root_path`.

        `root_path` is decoded text, as in ASGI; `nonce` is that of the page's Content-Security-Policy.
        """
        # With two slashes at its beginning it would be an address on another host.
        mount = quote(root_path.strip("/"), safe="/!$&'()*+,;=:@~", errors="replace")
        attribute = "" if nonce is None else f' nonce="{html.escape(nonce)}"'
        path = f"/{mount}{self._path}" if mount else self._path
        return Html(f"<script{attribute}>{self._filled(path)}</script>")

    @functools.cached_property
    def _script(self) -> bytes:
        return self._filled(self._path).encode()

    def _filled(self, path: str) -> str:
        arguments = ",".join(_literal(each) for each in (f"{path}.js", *self._names))
        return _source().replace(_PLACE, arguments, 1)


def squeezed(source: str) -> str:
    """Take out comments and white space.

    No JavaScript parser: strings have single quotes and hold none, comments stand after white space or at the
    beginning of a line, every statement ends in `;` or `}`, regular expressions hold no white space, and no
    plus is unary.
    """
    return _TOKEN.sub(lambda found: found[1] or found[2] or found[3] or " ", _COMMENT.sub("", source)).strip()


@functools.cache
def _source() -> str:
    package = importlib.resources.files(__name__.rpartition(".")[0])
    return squeezed(package.joinpath("snippet.js").read_text("utf-8"))


def _literal(value: Any) -> str:
    """Write a value as JavaScript that may stand in HTML; beyond ASCII `json` escapes everything itself."""
    text = json.dumps(value, separators=(",", ":"))
    return re.sub("[<>&]", lambda found: _IN_HTML[found[0]], text)
