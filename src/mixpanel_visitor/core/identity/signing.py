"""Signing: the signers of cookies and exported visitors, each with a salt of its own."""

from __future__ import annotations

import hashlib
import hmac
from functools import lru_cache
from typing import TYPE_CHECKING

from itsdangerous import HMACAlgorithm, Signer

if TYPE_CHECKING:
    from collections.abc import Sequence

SIGNATURE_CHARS = 43


def make_signer(secret_keys: Sequence[str], salt: bytes) -> Signer:
    """Return a signer by HMAC-SHA256 that knows several keys, oldest first, of which the last one signs."""
    deriving = Signer(list(secret_keys), salt=salt, key_derivation="hmac", digest_method=hashlib.sha256)
    # A signer derives its keys anew for each signature; here they are derived once.
    keys = [deriving.derive_key(key) for key in secret_keys]
    return Signer(
        keys, salt=salt, key_derivation="none", digest_method=hashlib.sha256, algorithm=_PreparedHMAC()
    )


class _PreparedHMAC(HMACAlgorithm):
    """HMAC-SHA256 that hashes each key once: for a short text the key takes half of the time."""

    def __init__(self) -> None:
        super().__init__(hashlib.sha256)
        self._prepared = lru_cache(64)(lambda key: hmac.new(key, digestmod=hashlib.sha256))

    def get_signature(self, key: bytes, value: bytes) -> bytes:
        mac = self._prepared(key).copy()
        mac.update(value)
        return mac.digest()
