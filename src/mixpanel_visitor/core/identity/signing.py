"""Signing: the signers of everything that leaves us and comes back, each with a salt of its own."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from itsdangerous import Signer

if TYPE_CHECKING:
    from collections.abc import Sequence

SIGNATURE_CHARS = 43


def make_signer(secret_keys: Sequence[str], salt: bytes) -> Signer:
    """Return a signer by HMAC-SHA256 that knows several keys, oldest first, of which the last one signs."""
    deriving = Signer(list(secret_keys), salt=salt, key_derivation="hmac", digest_method=hashlib.sha256)
    # A signer derives its keys each time that it signs; ours stay the same.
    keys = [deriving.derive_key(key) for key in secret_keys]
    return Signer(keys, salt=salt, key_derivation="none", digest_method=hashlib.sha256)
