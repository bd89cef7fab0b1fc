"""UnionFind: IDs that were joined to each other, under a limit; see `id_merges.Original`."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Cluster:
    """IDs of one person; of each whether it counts, and `size` is how many do."""

    __slots__ = ("ids", "person", "size")

    def __init__(self, person: str) -> None:
        self.person = person
        self.ids = {person: True}
        self.size = 1


class UnionFind:
    """Sets of IDs that grow together; an ID that was never joined is in none.

    A set has at most `max_size` IDs, all of them `max_ids`: beyond that those joined first are forgotten. To
    join two sets costs as much as the smaller one has IDs, so that n IDs cost n log n at most.
    """

    def __init__(self, *, max_ids: int, max_size: int) -> None:
        self._max_ids = max_ids
        self._max_size = max_size
        self._cluster_of: OrderedDict[str, _Cluster] = OrderedDict()

    def canonical_id(self, known_id: str) -> str:
        """The ID that stands for the cluster of this one."""
        cluster = self._cluster_of.get(known_id)
        return known_id if cluster is None else cluster.person

    def members(self) -> Iterator[tuple[str, str]]:
        """Each ID that was named, with the one that stands for its cluster."""
        for known_id, cluster in self._cluster_of.items():
            if cluster.ids[known_id]:
                yield known_id, cluster.person

    def join(self, first: str, second: str, *, spelling: str | None = None) -> bool:
        """Make them one, under the larger one's name or else the first's; False: too many, nothing is done.

        `spelling` is another way to write the second, which comes along without being counted.
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
