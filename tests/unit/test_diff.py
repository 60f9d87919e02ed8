"""What a snapshot diff asks of the source: changes that lie together are looked up together."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from asynccopy.errors import ServerTrouble
from asynccopy.journal import Journal
from asynccopy.mirror.diff import SEVERAL, Diff
from asynccopy.mirror.progress import Progress
from asynccopy.mirror.selection import Selection
from asynccopy.model import Change
from asynccopy.storage.memory import MemorySource


class Asked(MemorySource):
    """Counts, and fails where it is told to."""

    def __init__(self, tree: dict[str, bytes]) -> None:
        super().__init__(tree, page_size=10)
        self.asked: Counter[str] = Counter()
        self.broken = False

    async def status(self, path: str) -> Any:
        self.asked["status"] += 1
        return await super().status(path)

    async def list(self, path: str, after: str = "") -> Any:
        self.asked["list"] += 1
        if self.broken:
            raise ServerTrouble("no listing today")
        return await super().list(path, after)


class Told:
    """Snapshots whose only diff is this one."""

    def __init__(self, changes: Sequence[Change]) -> None:
        self._changes = changes

    async def diff(self, older: str, newer: str) -> AsyncIterator[Sequence[Change]]:
        yield self._changes


class Nothing:
    complete = True

    async def run(self) -> None: ...

    async def settle(self) -> None: ...


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = await Journal.open(tmp_path / "journal", source="memory://a", destination="store://b")
    await journal.begin_pass("", "diff")
    yield journal
    await journal.close()


async def looked(source: Asked, journal: Journal, changes: Sequence[Change]) -> list[str]:
    """The files that are found."""
    told: Any = Told(changes)
    progress, stop = Progress(), asyncio.Event()
    diff = Diff(told, "a", "b", source, journal, Selection(), progress, stop, lambda: None, Nothing())
    await diff.run()
    assert diff.complete
    return sorted(row.status.path for row in await journal.pending(0, 1000))


async def test_many_changes_of_one_directory_are_one_listing(journal: Journal) -> None:
    source = Asked({f"d/f{n:02}": b"x" for n in range(50)} | {f"e/f{n}": b"x" for n in range(5)})
    changes = [Change("modify", "d"), *(Change("modify", f"d/f{n:02}") for n in range(20, 28))]
    changes += [Change("create", f"e/f{n}") for n in range(SEVERAL - 1)]
    assert await looked(source, journal, changes) == [change.path for change in changes[1:]]
    assert source.asked["list"] == 1  # begun just before the first of the names
    assert source.asked["status"] == 1 + SEVERAL - 1  # d itself, and what lies alone


async def test_a_listing_that_shows_few_of_them_is_not_read_on(journal: Journal) -> None:
    source = Asked({f"d/f{n:03}": b"x" for n in range(500)})
    changes = [Change("modify", f"d/f{n:03}") for n in range(0, 500, 50)]
    assert await looked(source, journal, changes) == [change.path for change in changes]
    assert source.asked["list"] == 1
    assert source.asked["status"] == len(changes) - 1


async def test_what_no_listing_shows_is_asked_for(journal: Journal) -> None:
    """A name of before a rename is not there; nothing is concluded from an order of names that may be another one."""
    tree = {f"d/{name}": b"x" for name in ("\uffee", "\U0001f600", "z", "\x7f", "a")}
    source = Asked(tree)
    changes = [Change("create", path) for path in tree] + [Change("create", "d/gone")]
    assert await looked(source, journal, changes) == sorted(tree)


async def test_a_listing_that_fails_is_made_up_for(journal: Journal) -> None:
    source = Asked({f"d/f{n}": b"x" for n in range(8)})
    source.broken = True
    changes = [Change("create", f"d/f{n}") for n in range(8)]
    assert await looked(source, journal, changes) == [change.path for change in changes]
    assert source.asked["status"] == 8
