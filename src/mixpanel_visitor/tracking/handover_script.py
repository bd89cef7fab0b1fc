"""HandoverScript: the script that hands the visitor ID from the browser to the hand-over path.

It posts JSON, `{"device_id": ..., "uid": ..., "sig": ...}` or `{"opted_out": ...}`, as soon as one of them is
news to the server: at events (a click, a script that has loaded, the end of the page, SPiD's own), and once a
second. Only an answer that took it ends that; one that did not, as without consent, is asked for again when
the page's cookies have changed, when the page is hidden or left, or when the page says
`dispatchEvent(new Event("mixpanel-visitor"))`.

What the server can read in mixpanel-browser's cookie it leaves to the server. It leaves no global, throws
nothing and asks nobody else over the network. So on a page where it began to listen after SPiD had answered
it cannot learn an anonymous SPiD visitor: it belongs before the SDKs.
"""

from __future__ import annotations

import functools
import hashlib
import html
import json
import re
from typing import Any
from urllib.parse import quote

_PLACE = "...CONFIG"
_FILES = {(True, False): "mixpanel.js", (False, True): "spid.js", (True, True): "both.js"}
"""What is served, by the SDKs it has a part for; `scripts/handover-script` makes them."""

_IN_HTML = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


class Html(str):
    """HTML that is safe as it is: template engines ask for `__html__` and do not escape it."""

    __slots__ = ()

    def __html__(self) -> str:
        return str(self)


class HandoverScript:
    """The script for one configuration.

    `mixpanel` is the name of the SDK's cookie and localStorage entry and the name of its opt-out. It or
    `spid_client_id` may be None, and the script has no part for that SDK then.
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
        session = () if spid_client_id is None else (f"spid_js_{spid_client_id}",)
        self._names = (seen_cookie, *(mixpanel or (None, None)), *session)
        self._file = _FILES[mixpanel is not None, spid_client_id is not None]

    def script(self) -> bytes:
        """Return what is served at the hand-over path with `.js` at its end; the same for everybody."""
        return self._script

    @functools.cached_property
    def etag(self) -> str:
        """The strong entity tag of `script`, with its quotes."""
        return f'"{hashlib.sha256(self._script).hexdigest()[:32]}"'

    def inline(self, *, root_path: str = "", nonce: str | None = None) -> Html:
        """Return the script as an element for a page, for an application that is mounted at `root_path`.

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
        arguments = ",".join(javascript(each) for each in (f"{path}.js", *self._names))
        return _read(self._file).replace(_PLACE, arguments, 1)


@functools.cache
def _read(name: str) -> str:
    from importlib import resources  # noqa: PLC0415  # late: most processes never serve the script

    package = resources.files(__name__.rpartition(".")[0])
    return package.joinpath("handover_script_js", name).read_text("utf-8").strip()


def javascript(value: Any) -> str:
    """Write a value as JavaScript that may stand in HTML; beyond ASCII `json` escapes everything itself."""
    text = json.dumps(value, separators=(",", ":"))
    return re.sub("[<>&]", lambda found: _IN_HTML[found[0]], text)
