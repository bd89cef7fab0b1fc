"""HandoverScript: the script that hands the visitor ID from the browser to the hand-over path.

It posts JSON, `{"device_id": ..., "uid": ..., "sig": ...}` or `{"opted_out": ...}`, as soon as one of them is
new to the server. It looks at events (a click, a script that has loaded, the end of the page, SPiD's own) and
once a second, until the server has taken the IDs. If the server does not take them, as without consent, the
script posts again when the page's cookies have changed, when the page is hidden or left, or when the page
calls `dispatchEvent(new Event("mixpanel-visitor"))`.

It does not post what the server can read in mixpanel-browser's cookie. It leaves no global, throws nothing
and sends no other requests. It learns an anonymous SPiD visitor only from SPiD's events, so it belongs before
the SDKs in a page.
"""

from __future__ import annotations

import functools
import hashlib
import html
import json
import re
from typing import Any
from urllib.parse import quote

_PLACEHOLDER = "...CONFIG"
_FILES = {(True, False): "mixpanel.js", (False, True): "spid.js", (True, True): "both.js"}
"""The served files, by (mixpanel, SPiD); `scripts/handover-script` makes them."""

_IN_HTML = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


class Html(str):
    """HTML that is safe as it is: template engines ask for `__html__` and do not escape it."""

    __slots__ = ()

    def __html__(self) -> str:
        return str(self)


class HandoverScript:
    """The script for one configuration.

    `mixpanel` is the name of the SDK's cookie and localStorage entry and the name of its opt-out. It or
    `spid_client_id` may be None; the script has no part for that SDK then. `spid_production` is not used:
    it decides only the name of a cookie of SPiD's v1, and the script asks v1 itself.
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
        session_names = () if spid_client_id is None else (f"spid_js_{spid_client_id}",)
        self._names = (seen_cookie, *(mixpanel or (None, None)), *session_names)
        self._file = _FILES[mixpanel is not None, spid_client_id is not None]

    def script(self) -> bytes:
        """Return the script at the hand-over path with `.js` at its end; the same for all visitors."""
        return self._script

    @functools.cached_property
    def etag(self) -> str:
        """The strong entity tag of `script`, with its quotes."""
        return f'"{hashlib.sha256(self._script).hexdigest()[:32]}"'

    def inline(self, *, root_path: str = "", nonce: str | None = None) -> Html:
        """Return the script as an element for a page, for an application that is mounted at `root_path`.

        `root_path` is decoded text, as in ASGI; `nonce` is that of the page's Content-Security-Policy.
        """
        # Two slashes at its beginning would make it an address on another host.
        mount = quote(root_path.strip("/"), safe="/!$&'()*+,;=:@~", errors="replace")
        attribute = "" if nonce is None else f' nonce="{html.escape(nonce)}"'
        path = f"/{mount}{self._path}" if mount else self._path
        return Html(f"<script{attribute}>{self._with_arguments(path)}</script>")

    @functools.cached_property
    def _script(self) -> bytes:
        return self._with_arguments(self._path).encode()

    def _with_arguments(self, path: str) -> str:
        arguments = ",".join(javascript(each) for each in (f"{path}.js", *self._names))
        return _read_file(self._file).replace(_PLACEHOLDER, arguments, 1)


@functools.cache
def _read_file(name: str) -> str:
    from importlib import resources  # noqa: PLC0415  # late: most processes never serve the script

    package = resources.files(__name__.rpartition(".")[0])
    return package.joinpath("handover_script_js", name).read_text("utf-8").strip()


def javascript(value: Any) -> str:
    """Write a value as JavaScript that may stand in HTML; beyond ASCII `json` escapes everything itself."""
    text = json.dumps(value, separators=(",", ":"))
    return re.sub("[<>&]", lambda match: _IN_HTML[match[0]], text)
