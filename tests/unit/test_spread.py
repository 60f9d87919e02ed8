"""Files are taken from places that lie apart: every one of them, once."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from asynccopy.journal import Journal, PendingFile
from asynccopy.journal.reading import _PENDING_BETWEEN, _PENDING_END
from asynccopy.journal.rows import Stretch
from asynccopy.mirror.mirror import CopyOptions, Mirror
from asynccopy.mirror.progress import Progress
from asynccopy.mirror.selection import Selection
from asynccopy.mirror.spread import STRETCHES, cut, rest, woven
from asynccopy.model import Evidence, FileStatus, ObjectMeta
from asynccopy.storage.interface import UploadLimits
from asynccopy.storage.memory import MemoryDestination, MemorySource
from tests.unit.test_journal_watching import met


@pytest.mark.parametrize(("first", "last"), [(1, 1), (7, 9), (1, STRETCHES), (5, 10_000), (10**9, 10**9 + 77)])
def test_stretches_are_all_the_ids_and_each_once(first: int, last: int) -> None:
    stretches = cut(first, last)
    assert [id for each in stretches for id in range(each.after + 1, each.last + 1)] == list(range(first, last + 1))
    lengths = [each.last - each.after for each in stretches]
    assert len(stretches) == min(STRETCHES, last - first + 1)
    assert max(lengths) - min(lengths) <= 1


def row(id: int) -> PendingFile:
    return PendingFile(id, FileStatus(f"f{id}", 1, 1))


def test_neighbours_are_not_taken_together() -> None:
    found = [[row(1), row(2), row(3)], [row(11)], [], [row(31), row(32)]]
    assert [each.id for each in woven(found)] == [1, 11, 31, 2, 32, 3]


def test_a_stretch_with_fewer_files_than_were_asked_for_is_at_its_end() -> None:
    stretches = [Stretch(0, 10), Stretch(10, 20), Stretch(20, 30)]
    assert rest(stretches, [[row(1), row(9)], [row(11)], []], 2) == [Stretch(9, 10)]


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = await Journal.open(tmp_path / "journal", source="memory://a", destination="memory://b")
    yield journal
    await journal.close()


async def test_the_journal_finds_stretches_without_walking(journal: Journal, tmp_path: Path) -> None:
    await journal.begin_pass("all")
    assert await journal.pending_span(0) is None
    await met(journal, [FileStatus(f"f{n:03}", 1, 1) for n in range(100)])
    rows = await journal.pending(0, 100)
    first, last = rows[0].id, rows[-1].id
    assert await journal.pending_span(0) == (first, last)
    assert await journal.pending_span(last) is None
    await journal.done(first, rows[0].status.version, Evidence("none"))
    assert await journal.pending_span(0) == (first + 1, last)
    halves = [Stretch(0, rows[49].id), Stretch(rows[49].id, last)]
    assert await journal.pending_in(halves, 3) == [rows[1:4], rows[50:53]]
    with closing(sqlite3.connect(tmp_path / "journal")) as raw:
        for query, values in (
            (_PENDING_BETWEEN, (0, 9, 9)),
            (_PENDING_END.format(way=""), (0,)),
            (_PENDING_END.format(way="DESC"), (0,)),
        ):
            plan = [line[3] for line in raw.execute("EXPLAIN QUERY PLAN " + query, values)]
            assert not any("TEMP B-TREE" in line or line.startswith("SCAN") for line in plan), plan


class Ordered(MemoryDestination):
    """Remembers in which order objects were put."""

    def __init__(self) -> None:
        super().__init__(limits=UploadLimits(apart=True))
        self.order: list[str] = []

    async def put(self, key: str, *args: Any) -> ObjectMeta:
        self.order.append(key)
        return await super().put(key, *args)


@pytest.mark.parametrize("files", [1, 40, 3000])
async def test_every_file_is_copied_once_however_the_listing_comes_in(journal: Journal, files: int) -> None:
    tree = {f"dt={n % 13:02}/f{n:04}": b"x" for n in range(files)}
    source, destination = MemorySource(tree), Ordered()
    for _ in range(2):  # the second time nothing is left
        mirror = Mirror(
            source,
            destination,
            journal,
            selection=Selection(),
            options=CopyOptions(concurrency=random.Random(files).randrange(1, 64)),
            stop=asyncio.Event(),
            progress=Progress(),
        )
        await mirror.copy()
        assert sorted(destination.order) == sorted(tree)
