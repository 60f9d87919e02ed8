"""The places for requests to one NameNode: fewer while it is slow."""

from __future__ import annotations

from asynccopy.storage.budget import Budget
from asynccopy.storage.webhdfs.politeness import Politeness


class Allowance:
    """Of one client, or of all that share them. ``most``: the ceiling."""

    def __init__(self, most: int) -> None:
        self.places = Budget(most)
        self._politeness = Politeness(most)

    @property
    def most(self) -> int:
        return self._politeness.most

    def answered(self, seconds: float) -> None:
        self._allow(self._politeness.answered(seconds, self.places.taken))

    def refused(self) -> None:
        """The NameNode said that it is overloaded, or nothing at all for too long."""
        self._allow(self._politeness.refused(self.places.taken))

    def widen(self, most: int) -> None:
        """Another one shares it, who may ask so much at once alone."""
        self._allow(self._politeness.widen(most))

    def _allow(self, limit: int) -> None:
        if limit != self.places.limit:
            self.places.limit = limit
