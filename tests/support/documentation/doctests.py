"""An extension of griffe, by which mkdocstrings reads the package: examples at a `>>>` prompt become blocks.

In Markdown such a line would be a quotation. `.mkdocs.yml` names this file.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_EXAMPLE = re.compile(r"^>>> .*(?:\n(?!\s*$).+)*", re.MULTILINE)


class FencedDoctests(griffe.Extension):
    """Puts a fence around each example of each docstring."""

    def on_object(self, *, obj: griffe.Object, **_more: Any) -> None:
        """Change the docstring of an object that was read."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(docstring: str) -> str:
    """Return a docstring whose examples are blocks of Markdown."""
    return _EXAMPLE.sub(lambda match: f"```pycon\n{match[0]}\n```", docstring)
