"""The snapshots of a tree in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

from asynccopy.errors import SnapshotGone
from asynccopy.model import Change
from asynccopy.storage.interface import Source
from asynccopy.storage.memory.tree import Tree, diff


class MemorySnapshots:
    """``trees``, by the snapshots' names. ``touched`` gives the root the present time, as HDFS does, and the tree."""

    def __init__(
        self, trees: dict[str, Tree], touched: Callable[[], Tree], at: Callable[[str], Source], page_size: int
    ) -> None:
        self._trees = trees
        self._touched = touched
        self._at = at
        self._page_size = page_size

    async def names(self) -> list[str]:
        return list(self._trees)

    async def create(self, name: str) -> None:
        if name not in self._trees:
            self._trees[name] = self._touched()

    async def delete(self, name: str) -> None:
        if self._trees.pop(name, None) is not None:
            self._touched()

    def at(self, name: str) -> Source:
        return self._at(name)

    async def diff(self, older: str, newer: str) -> AsyncIterator[Sequence[Change]]:
        changes = diff(self._tree(older), self._tree(newer))
        for start in range(0, len(changes), self._page_size):
            self._tree(older)  # deleted between two pages, as it may be on a server
            self._tree(newer)
            yield changes[start : start + self._page_size]

    def _tree(self, name: str) -> Tree:
        if name not in self._trees:
            raise SnapshotGone(f"there is no snapshot {name!r}")
        return self._trees[name]
