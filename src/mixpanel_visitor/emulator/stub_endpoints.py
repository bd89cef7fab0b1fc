"""Stub endpoints: other endpoints that SDKs call, answered as for a project without these features.

Sources: mixpanel-browser 2.83 (`api_routes`), the official Python library 5.4 (`flags`). There are no flags,
no remote settings and no notifications here; session recordings are taken and forgotten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .http import json_reply

if TYPE_CHECKING:
    from .http import Reply, Request


def flags(_request: Request) -> Reply:
    """`/flags`: the variants of one visitor, of which there are none."""
    return json_reply({"code": 200, "flags": {}})


def flag_definitions(_request: Request) -> Reply:
    """`/flags/definitions`: what a server evaluates by itself."""
    return json_reply({"code": 200, "flags": []})


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
