"""Page script: the elements of `visitor_script`: hand-over script, and options of the browser SDK."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING
from urllib.parse import quote

from mixpanel_visitor.core.collector.routes import CollectorRoutes

from .handover_script import Html, javascript

if TYPE_CHECKING:
    from .engine import Engine

OPTIONS = "visitorOptions"
"""The global variable with the options: `mixpanel.init(TOKEN, {...visitorOptions, track_pageview: true})`."""


def page_script(engine: Engine, *, root_path: str = "", nonce: str | None = None) -> str:
    """Return elements for a page's head, for an application that is mounted at `root_path`; `""`: none.

    `root_path` is decoded text, as in ASGI; `nonce` is that of the page's Content-Security-Policy.
    """
    elements = []
    settings = engine.settings
    if settings.collector_path is not None:
        mount = quote(root_path.strip("/"), safe="/!$&'()*+,;=:@~", errors="replace")
        routes = CollectorRoutes(settings.collector_path, settings.token)
        options = routes.init_options(mount=f"/{mount}" if mount else "")
        attribute = "" if nonce is None else f' nonce="{html.escape(nonce)}"'
        elements.append(f"<script{attribute}>window.{OPTIONS}={javascript(options)}</script>")
    if engine.handover_script is not None:
        elements.append(engine.handover_script.inline(root_path=root_path, nonce=nonce))
    return Html("".join(elements)) if elements else ""
