"""Stub endpoints: other endpoints that SDKs call, answered as for a project without these features.

Source: mixpanel-browser 2.83 (`api_routes`). There are no remote settings and no notifications here; session
recordings are taken and forgotten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .http import json_reply

if TYPE_CHECKING:
    from .http import Reply, Request


def settings(_request: Request) -> Reply:
    """`/settings`: the remote configuration of mixpanel-browser, of which there is none.

    An empty `sdk_config` would be an error in the browser's console.
    """
    return json_reply({})


def record(_request: Request) -> Reply:
    """`/record`: a piece of a session recording."""
    return json_reply({"code": 200, "status": "OK"})


def decide(_request: Request) -> Reply:
    """`/decide`: notifications and surveys, as older SDKs ask for them."""
    return json_reply({"notifications": [], "config": {}})
