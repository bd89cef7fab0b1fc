"""Callables in the settings that fail, and what of a request is left then."""

from __future__ import annotations

from typing import NoReturn

import pytest


def failing(*_anything: object) -> NoReturn:
    """Fail, as a callable in the settings may."""
    raise LookupError("of a callable in the settings")


EACH_CALLABLE = pytest.mark.parametrize(
    ("setting", "stored", "cookies"),
    [
        ("consent", [], 0),
        ("request_filter", ["Page"], 1),
        ("extra_properties", ["Page"], 1),
        ("before_send", [], 1),
    ],
)
"""Which of them fails, the events that are stored all the same, and how many cookies are set."""
