"""Takeover: chooses which entries of silent consumers are claimed together. Pure.

An entry is a suspect after two crashes, as a record is in `sending/crash_isolation.py`. Fewer and fewer
suspects are claimed together, for only claimed ones can cause the next crash; for others nothing is counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mixpanel_visitor.delivery.sending.crash_isolation import CRASH_LIMIT, ISOLATE_FROM, most_together

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def is_suspect(crashes: int) -> bool:
    """Return whether an entry may be the cause of crashes; with `CRASH_LIMIT` of them it is."""
    return ISOLATE_FROM <= crashes < CRASH_LIMIT


def choose(
    silent: Sequence[Mapping[str, Any]], *, holds_suspects: bool, ordered: bool
) -> tuple[list[Mapping[str, Any]], bool]:
    """Choose entries from those that XPENDING lists, oldest first; return also whether some remain.

    `holds_suspects`: this consumer has suspects in flight. `ordered`: no entry may overtake an older one.
    """
    suspects = [each for each in silent if is_suspect(each["times_delivered"])]
    if not suspects:
        return list(silent), False
    chosen_crashes = min(each["times_delivered"] for each in suspects)
    if ordered:
        # The oldest ones, for the others must not overtake them.
        chosen_crashes = suspects[0]["times_delivered"]
    room = 0 if holds_suspects else most_together(chosen_crashes)
    chosen: list[Mapping[str, Any]] = []
    for entry in silent:
        crashes = entry["times_delivered"]
        if is_suspect(crashes):
            if room <= 0 or crashes != chosen_crashes:
                if ordered:
                    break
                continue
            room -= 1
        chosen.append(entry)
    return chosen, len(chosen) < len(silent)
