"""Projects: each arrival belongs to one Mixpanel project, named by its token.

People never merge across projects: user 42 of one application is not user 42 of another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .people import People
from .split_identities import SplitIdentities

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .people import IdMerge

MAX_PROJECTS = 100

OTHERS = "(others)"
"""The project of all further tokens, once `MAX_PROJECTS` are known."""


class Project:
    """One project: its people, and its visits with two IDs. Not thread-safe."""

    __slots__ = ("people", "token", "visits")

    def __init__(self, token: str, id_merge: IdMerge) -> None:
        self.token = token
        self.people = People(id_merge)
        self.visits = SplitIdentities()


class Projects:
    """All projects that have sent an event, the first one first; `id_merge` is the same for each."""

    def __init__(self, id_merge: IdMerge) -> None:
        People(id_merge)  # raises ValueError now, not at the first event
        self._id_merge: IdMerge = id_merge
        self._by_token: dict[str, Project] = {}

    def of(self, token: str) -> Project:
        """Return the project of this token; its first event creates it."""
        project = self._by_token.get(token)
        if project is None:
            if len(self._by_token) >= MAX_PROJECTS:
                token = OTHERS
            project = self._by_token.setdefault(token, Project(token, self._id_merge))
        return project

    def __iter__(self) -> Iterator[Project]:
        return iter(self._by_token.values())
