"""Which files are copied next: by the order that is asked for, without those that somebody has already."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Final

from asynccopy.journal import Journal, PendingFile
from asynccopy.journal.rows import Listed
from asynccopy.mirror.spread import Spread

BATCH: Final = 1000
"""Rows claimed from the journal at once."""


class Claims:
    """``held``: the ids that are claimed and not settled; ``settled``: those settled since the last look began. Both
    change while the journal is asked. ``apart``: the destination takes fewer requests for keys that lie together.
    """

    def __init__(
        self, journal: Journal, order: Listed, held: AbstractSet[int], settled: AbstractSet[int], *, apart: bool
    ) -> None:
        self._journal = journal
        self._order = ("spread" if apart else "listing") if order == "auto" else order
        self._held = held
        self._settled = settled
        self._cursor = 0
        self._spread = Spread(journal)

    async def next(self) -> list[PendingFile]:
        """Some files to copy; none where there are none now."""
        return [row for row in await self._pending() if not self._taken(row.id)]

    async def _pending(self) -> list[PendingFile]:
        if self._order == "spread":
            return await self._spread.next(BATCH, self._taken)
        if self._order != "listing":
            return await self._journal.pending(0, BATCH + len(self._held), self._order)
        rows = await self._journal.pending(self._cursor, BATCH)
        if not rows and self._cursor:
            # A file that an earlier pass knew has kept its number, which may lie before the cursor.
            rows = await self._journal.pending(0, BATCH + len(self._held))
        if rows:
            self._cursor = rows[-1].id
        return rows

    def _taken(self, id: int) -> bool:
        return id in self._held or id in self._settled
