"""Public suffixes: domains below which anybody can register one, so that browsers refuse cookies for them.

The list is publicsuffixlist's, which brings a copy of it: nothing is asked over the network.
"""

from __future__ import annotations


def is_public_suffix(domain: str) -> bool | None:
    """Return whether browsers refuse a cookie for this domain; None where the extra `doctor` is missing.

    >>> is_public_suffix("co.uk"), is_public_suffix(".herokuapp.com"), is_public_suffix("shop.example.com")
    (True, True, False)
    """
    name = domain.strip(".").lower()
    if "." not in name:
        return True  # a top-level domain, which needs no list
    try:
        from publicsuffixlist import PublicSuffixList  # noqa: PLC0415  # an extra
    except ImportError:
        return None
    return PublicSuffixList().is_public(name)
