"""DigestTable: what is remembered of each of a million people, in sixteen bytes for each."""

from __future__ import annotations

from array import array
from bisect import bisect_left

_SHARD_BITS = 12


class DigestTable:
    """Maps marks, the first 64 bits of a digest, to numbers that are not negative.

    The marks are spread over 4096 sorted arrays: a look-up and an insertion are a binary search in one.
    """

    def __init__(self) -> None:
        self._shards: dict[int, tuple[array[int], array[int]]] = {}

    def __bool__(self) -> bool:
        return bool(self._shards)

    def __len__(self) -> int:
        return sum(len(marks) for marks, _ in self._shards.values())

    def get(self, mark: int) -> int:
        """Return what is noted for this mark; -1: nothing."""
        shard = self._shards.get(mark >> (64 - _SHARD_BITS))
        if shard is None:
            return -1
        marks, values = shard
        at = bisect_left(marks, mark)
        return values[at] if at < len(marks) and marks[at] == mark else -1

    def raise_to(self, mark: int, value: int) -> bool:
        """Note `value`, unless what is noted is as high; return whether it was lower."""
        key = mark >> (64 - _SHARD_BITS)
        shard = self._shards.get(key)
        if shard is None:
            shard = self._shards[key] = array("Q"), array("Q")
        marks, values = shard
        at = bisect_left(marks, mark)
        if at < len(marks) and marks[at] == mark:
            if values[at] >= value:
                return False
            values[at] = value
        else:
            marks.insert(at, mark)
            values.insert(at, value)
        return True

    def drop_below(self, value: int) -> None:
        """Forget all marks for which less than that is noted."""
        for key, (marks, values) in list(self._shards.items()):
            kept = [at for at, noted in enumerate(values) if noted >= value]
            if kept:
                shard_kept = array("Q", [marks[at] for at in kept]), array("Q", [values[at] for at in kept])
                self._shards[key] = shard_kept
            else:
                del self._shards[key]


def mark_of(digest: str) -> int:
    """Return the mark of a digest in hex: its first 64 bits."""
    return int(digest[:16], 16)
