"""DigestTable: a number for each of a million people, in sixteen bytes for each."""

from __future__ import annotations

from array import array
from bisect import bisect_left

_SHARD_BITS = 12


class DigestTable:
    """Maps prefixes of digests, the first 64 bits, to numbers that are not negative.

    The prefixes are spread over 4096 sorted arrays: a look-up and an insertion are a binary search in one.
    """

    def __init__(self) -> None:
        self._shards: dict[int, tuple[array[int], array[int]]] = {}

    def __bool__(self) -> bool:
        return bool(self._shards)

    def __len__(self) -> int:
        return sum(len(prefixes) for prefixes, _ in self._shards.values())

    def get(self, prefix: int) -> int:
        """Return the number of this prefix; -1: it has none."""
        shard = self._shards.get(prefix >> (64 - _SHARD_BITS))
        if shard is None:
            return -1
        prefixes, values = shard
        index = bisect_left(prefixes, prefix)
        return values[index] if index < len(prefixes) and prefixes[index] == prefix else -1

    def raise_to(self, prefix: int, value: int) -> bool:
        """Set the number of this prefix to `value` if it is lower now; return whether it was."""
        key = prefix >> (64 - _SHARD_BITS)
        shard = self._shards.get(key)
        if shard is None:
            shard = self._shards[key] = array("Q"), array("Q")
        prefixes, values = shard
        index = bisect_left(prefixes, prefix)
        if index < len(prefixes) and prefixes[index] == prefix:
            if values[index] >= value:
                return False
            values[index] = value
        else:
            prefixes.insert(index, prefix)
            values.insert(index, value)
        return True

    def drop_below(self, value: int) -> None:
        """Forget all prefixes whose number is lower."""
        for key, (prefixes, values) in list(self._shards.items()):
            high = [index for index, current in enumerate(values) if current >= value]
            if high:
                high_prefixes = array("Q", [prefixes[i] for i in high])
                self._shards[key] = high_prefixes, array("Q", [values[i] for i in high])
            else:
                del self._shards[key]


def prefix_of(digest: str) -> int:
    """Return the prefix of a digest in hexadecimal: its first 64 bits."""
    return int(digest[:16], 16)
