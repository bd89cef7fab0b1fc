"""The real mixpanel-browser: where npm has put it, and the ways in which sites load it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from . import npm

PACKAGE_JSON = Path(__file__).parent.parent / "browser" / "package.json"
VERSION: str = json.loads(PACKAGE_JSON.read_text())["dependencies"]["mixpanel-browser"]

Loading = Literal["module", "global", "loader", "late", "none"]
"""How a page loads the SDK.

`module`: bundled, so that no global exists; `global`: one file, `window.mixpanel`; `loader`: the official
stub, which fetches the SDK by itself; `late`: not before `loadSdk()`; `none`: not at all.
"""


def files() -> Path:
    """Return the directory of the SDK's own builds; installs the pinned version where it is missing."""
    modules = npm.installed(f"mixpanel-browser-{VERSION}", PACKAGE_JSON)
    return modules / "mixpanel-browser" / "dist"


def tags(loading: Loading, *, base_url: str, token: str, config: dict[str, Any]) -> str:
    """Build what a page has in its head; the SDK's builds are under `base_url`.

    Whatever the way, the page's own code and the tests find the SDK in `shop.mixpanel`.
    """
    init = f"mixpanel.init({json.dumps(token)}, {json.dumps(config)});"
    if loading == "module":
        return (
            f'<script type="module">import mixpanel from "{base_url}/mixpanel.module.js";'
            f"{init} window.shop = {{mixpanel}};</script>"
        )
    if loading == "global":
        return (
            f'<script src="{base_url}/mixpanel.umd.js"></script>'
            f"<script>{init} window.shop = {{mixpanel}};</script>"
        )
    if loading == "loader":
        loader = (files() / "mixpanel-jslib-snippet.min.js").read_text()
        return (
            f'<script>MIXPANEL_CUSTOM_LIB_URL = "{base_url}/mixpanel.min.js";</script>'
            f"<script>{loader}</script>"
            f"<script>{init} window.shop = {{get mixpanel() {{ return window.mixpanel; }}}};</script>"
        )
    if loading == "late":
        return f"""<script>
            window.loadSdk = () => new Promise((done, failed) => {{
                const tag = document.createElement("script");
                tag.src = "{base_url}/mixpanel.umd.js";
                tag.onload = () => {{ {init} window.shop = {{mixpanel}}; done(); }};
                tag.onerror = failed;
                document.head.append(tag);
            }});
        </script>"""
    return ""
