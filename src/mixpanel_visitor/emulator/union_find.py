"""UnionFind: sets of joined IDs, with limits; see `id_merges.Original`."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Cluster:
    """The IDs of one person, each with whether it counts, and the number that do."""

    __slots__ = ("ids", "person", "size")

    def __init__(self, person: str) -> None:
        self.person = person
        self.ids = {person: True}
        self.size = 1


class UnionFind:
    """Disjoint sets of IDs; an ID that was never joined is in none.

    A set has at most `max_size` IDs, all sets together `max_ids`: beyond that the oldest IDs are dropped.
    Joining two sets takes time in proportion to the smaller one, so n IDs take at most n log n.

    >>> ids = UnionFind(max_ids=10, max_size=2)
    >>> ids.join("a", "b"), ids.join("b", "c"), ids.canonical_id("b")
    (True, False, 'a')
    """

    def __init__(self, *, max_ids: int, max_size: int) -> None:
        self._max_ids = max_ids
        self._max_size = max_size
        self._cluster_of: OrderedDict[str, _Cluster] = OrderedDict()

    def canonical_id(self, known_id: str) -> str:
        """Return the ID that stands for this ID's set."""
        cluster = self._cluster_of.get(known_id)
        return known_id if cluster is None else cluster.person

    def members(self) -> Iterator[tuple[str, str]]:
        """Yield each joined ID with the one that stands for its set."""
        for known_id, cluster in self._cluster_of.items():
            if cluster.ids[known_id]:
                yield known_id, cluster.person

    def join(self, first: str, second: str, *, spelling: str | None = None) -> bool:
        """Join two sets, under the larger one's ID or else the first's; return False if too large.

        `spelling` is another way to write the second ID; it joins too, without counting.
        """
        clusters: list[_Cluster] = []
        for known_id in (first, second):
            cluster = self._cluster_of.get(known_id) or _Cluster(known_id)
            if cluster not in clusters:
                clusters.append(cluster)
        spelling_cluster = self._cluster_of.get(spelling) if spelling is not None else None
        if spelling_cluster is not None and spelling_cluster not in clusters:
            clusters.append(spelling_cluster)
        if sum(cluster.size for cluster in clusters) > self._max_size:
            return False
        merged = max(clusters, key=lambda cluster: len(cluster.ids))
        for cluster in clusters:
            if cluster is not merged:
                merged.ids |= cluster.ids
                merged.size += cluster.size
                self._cluster_of.update(dict.fromkeys(cluster.ids, merged))
        self._cluster_of[first] = self._cluster_of[second] = merged
        if spelling is not None:
            merged.ids.setdefault(spelling, False)
            self._cluster_of[spelling] = merged
        self._forget()
        return True

    def _forget(self) -> None:
        while len(self._cluster_of) > self._max_ids:
            known_id, cluster = self._cluster_of.popitem(last=False)
            cluster.size -= cluster.ids.pop(known_id)
