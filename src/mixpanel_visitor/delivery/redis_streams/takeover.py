"""Takeover: which entries of silent consumers are taken at a time. Pure.

As with the records of a request (`sending/crash_isolation.py`): after two deaths the search begins. Only
those that are taken can be to blame for the next one; all others wait where they are, and nothing is counted
of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mixpanel_visitor.delivery.sending.crash_isolation import CRASH_LIMIT, ISOLATE_FROM, most_together

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def is_suspect(crashes: int) -> bool:
    """Return whether an entry is one of those that are searched; what is lethal has been found."""
    return ISOLATE_FROM <= crashes < CRASH_LIMIT


def choose(
    silent: Sequence[Mapping[str, Any]], *, holds_suspects: bool, ordered: bool
) -> tuple[list[Mapping[str, Any]], bool]:
    """Choose from what XPENDING lists, oldest first; return the chosen, and whether some are left.

    `holds_suspects`: this consumer has some in flight. `ordered`: nothing is taken past what is left.
    """
    suspects = [each for each in silent if is_suspect(each["times_delivered"])]
    if not suspects:
        return list(silent), False
    least = min(each["times_delivered"] for each in suspects)
    if ordered:
        # The oldest ones, for the others must not overtake them.
        least = suspects[0]["times_delivered"]
    room = 0 if holds_suspects else most_together(least)
    chosen: list[Mapping[str, Any]] = []
    for each in silent:
        crashes = each["times_delivered"]
        if is_suspect(crashes):
            if room <= 0 or crashes != least:
                if ordered:
                    break
                continue
            room -= 1
        chosen.append(each)
    return chosen, len(chosen) < len(silent)
