"""Hashing: how Mixpanel's SDKs turn an ID into a number, so that all of them choose the same variant."""

from __future__ import annotations

_OFFSET = 0xCBF29CE484222325
_PRIME = 0x100000001B3
_MASK = 0xFFFFFFFFFFFFFFFF


def normalized_hash(text: str, salt: str) -> float:
    """Return the FNV-1a hash (64 bits) of text and salt as one of 100 steps, from 0.0 to 0.99.

    >>> normalized_hash("abc", "variant")
    0.72
    """
    state = _OFFSET
    for byte in f"{text}{salt}".encode():
        state = (state ^ byte) * _PRIME & _MASK
    return state % 100 / 100.0
