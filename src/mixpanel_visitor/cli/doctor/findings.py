"""Finding: one line of the report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is found; `why` it matters and the `fix` are empty where all is well."""

    level: Level
    what: str
    why: str = ""
    fix: str = ""
