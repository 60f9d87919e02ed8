"""Copying what lies apart side by side.

Stores keep their index in ranges of keys, and a range takes fewer requests than the whole: OSS 2,000 a second of its
10,000. The journal's ids follow the listing, and neighbours in the listing are neighbours among the keys. So the ids
are cut into stretches, and files are taken from all of them in turn: within one large directory as well as over many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, pairwise, zip_longest
from typing import Final

from asynccopy.journal import Journal
from asynccopy.journal.rows import PendingFile, Stretch

STRETCHES: Final = 32


class Spread:
    """Walks through the files to copy that are in the journal, from many places in turn; then what came meanwhile."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._cursor = 0
        self._stretches: list[Stretch] = []

    async def next(self, limit: int, taken: Callable[[int], bool]) -> list[PendingFile]:
        """About ``limit`` of them that are not ``taken`` already, by their ids; none when there is none."""
        again = not self._cursor
        while True:
            if not self._stretches:
                span = await self._journal.pending_span(self._cursor)
                if span is None and again:
                    return []
                if span is None:  # a file that an earlier pass knew has kept its number
                    self._cursor, again = 0, True
                    continue
                self._stretches, self._cursor = cut(*span), span[1]
            each = limit // len(self._stretches)
            found = await self._journal.pending_in(self._stretches, each)
            self._stretches = rest(self._stretches, found, each)
            if rows := [row for row in woven(found) if not taken(row.id)]:
                return rows


def cut(first: int, last: int) -> list[Stretch]:
    """The ids from the first to the last one, in stretches of about the same length."""
    count = last - first + 1
    bounds = [first - 1 + count * number // STRETCHES for number in range(STRETCHES + 1)]
    return [Stretch(after, to) for after, to in pairwise(bounds) if to > after]


def woven(found: Sequence[Sequence[PendingFile]]) -> list[PendingFile]:
    """The first of each, then the second of each."""
    return [row for row in chain.from_iterable(zip_longest(*found)) if row is not None]


def rest(stretches: Sequence[Stretch], found: Sequence[Sequence[PendingFile]], limit: int) -> list[Stretch]:
    """What is left of them, after ``limit`` files of each were asked for and these found."""
    pairs = zip(stretches, found, strict=True)
    return [Stretch(rows[-1].id, stretch.last) for stretch, rows in pairs if len(rows) == limit]
