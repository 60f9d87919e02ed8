"""Looking at a source by its snapshots: which one the destination is equal to, and which one is being copied.

Two notes in the journal carry a crash over: ``snapshot.next``, written before that snapshot is made, and
``snapshot.base``, the watermark, which moves only when everything of the next one is copied. A snapshot is let go only
after the watermark has left it. Names begin with our own prefix; others are never touched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from asynccopy.journal import Journal
from asynccopy.storage.interface import Snapshots

BASE: Final = "snapshot.base"
NEXT: Final = "snapshot.next"


class Frozen(Struct, frozen=True):
    """What a pass copies: the snapshot ``newer``. The destination is equal to ``older``, "" for none.

    ``since``: seconds since the epoch, by our clock; ``newer`` was made then or later.
    """

    older: str
    newer: str
    since: float


class Watermark:
    """The snapshots of one mirror. They are named ``prefix``, e.g. ``asynccopy-1f00ab12-``, and what ``clock`` gave, ms
    since the epoch.
    """

    def __init__(self, snapshots: Snapshots, journal: Journal, prefix: str, clock: Callable[[], int]) -> None:
        self._snapshots = snapshots
        self._journal = journal
        self._prefix = prefix
        self._clock = clock

    async def freeze(self) -> Frozen:
        """Make the next snapshot, or go on with the one that was begun. Raises what the source raises."""
        names = await self._snapshots.names() or []
        newer = await self._journal.recall(NEXT)
        if newer is not None and newer not in names and await self._begun(newer):
            newer = None  # somebody removed it: what it froze cannot be had any more
        if newer is None:
            newer = f"{self._prefix}{self._clock()}"
            await self._journal.remember(NEXT, newer)
        await self._snapshots.create(newer)
        await self._journal.remember(f"{NEXT}.made", newer)
        base = await self._journal.recall(BASE)
        since = int(newer.removeprefix(self._prefix)) / 1000
        return Frozen(base if base is not None and base in names else "", newer, since)

    async def _begun(self, newer: str) -> bool:
        """Whether it was really made; the note alone is only the intent."""
        return await self._journal.recall(f"{NEXT}.made") == newer

    async def advance(self, frozen: Frozen) -> None:
        """The destination is equal to the newer one: move the watermark."""
        await self._journal.remember(BASE, frozen.newer)
        await self._journal.forget(NEXT)

    async def let_go(self, frozen: Frozen) -> None:
        """Delete every other snapshot of ours, which the watermark has left. Raises what the source raises."""
        for name in await self._snapshots.names() or []:
            if name.startswith(self._prefix) and name != frozen.newer:
                await self._snapshots.delete(name)

    async def lose(self) -> None:
        """A snapshot that was needed is gone: begin with a new one, and a full look."""
        await self._journal.forget(NEXT)
        await self._journal.forget(BASE)
