"""What a pass over a source in memory leaves in the journal: what is there is not gone, whoever selects it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from asynccopy.errors import NotFound, PermissionDenied
from asynccopy.journal import Journal
from asynccopy.mirror.listing import Listing
from asynccopy.mirror.progress import Progress
from asynccopy.mirror.selection import Selection
from asynccopy.model import Evidence, ListPage
from asynccopy.storage.interface import Source
from asynccopy.storage.memory import MemorySource

FILES = ("a", "b/c", "b/d/e", "b/d/f", "g/h")


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = await Journal.open(tmp_path / "j", source="s", destination="d")
    yield journal
    await journal.close()


@pytest.fixture
def source() -> MemorySource:
    source = MemorySource(dict.fromkeys(FILES, b"x"), page_size=1)
    source.mkdir("empty")
    return source


async def looked(journal: Journal, source: Any, selection: Selection | None = None) -> Listing:
    selection = selection or Selection()
    await journal.begin_pass(selection.text)
    listing = Listing(cast("Source", source), journal, selection, Progress(), asyncio.Event(), lambda: None)
    await listing.run()
    for row in await journal.pending(0, 1000):
        assert await journal.done(row.id, row.status.version, Evidence("checksum", etag="e"))
    await journal.finish_pass(listing.complete)
    return listing


async def live(journal: Journal) -> set[str]:
    return {row.path async for row in journal.ledger()}


async def gone(journal: Journal) -> set[str]:
    return {row.path for row in await journal.gone(0, 100)}


async def test_what_vanished_is_gone_and_the_rest_lives(journal: Journal, source: MemorySource) -> None:
    await looked(journal, source)
    source.remove("a")
    source.remove("b/d")
    source.put("empty/now", b"x")
    await looked(journal, source)
    assert await gone(journal) == {"a", "b/d/e", "b/d/f", "empty/"}
    assert await live(journal) == {"b/c", "g/h", "empty/now"}


@pytest.mark.parametrize(
    "selection",
    [
        Selection(include=("nothing",), empty_directories=False),
        Selection(exclude=("a", "b/", "g/", "empty/")),
        Selection(empty_directories=False, min_size=2),
    ],
)
async def test_another_selection_takes_nothing_for_gone(
    journal: Journal, source: MemorySource, selection: Selection
) -> None:
    await looked(journal, source)
    await looked(journal, source, selection)
    assert await gone(journal) == set()
    assert await live(journal) == {*FILES, "empty/"}


class _Failing:
    """A source of which one directory answers with an error."""

    def __init__(self, source: MemorySource, path: str, error: Exception) -> None:
        self._source, self._path, self._error = source, path, error

    async def list(self, path: str, after: str = "") -> ListPage:
        if path == self._path:
            raise self._error
        return await self._source.list(path, after)


async def test_below_a_directory_that_cannot_be_listed_nothing_is_gone(journal: Journal, source: MemorySource) -> None:
    await looked(journal, source)
    source.remove("b/d/e")
    source.remove("a")
    listing = await looked(journal, _Failing(source, "b", PermissionDenied("no")))
    assert not listing.complete
    assert await gone(journal) == {"a"}
    assert await live(journal) == {*FILES, "empty/"} - {"a"}
    assert (await looked(journal, source)).complete
    assert await gone(journal) == {"a", "b/d/e"}


async def test_a_directory_that_is_gone_when_it_is_asked_for_is_gone(journal: Journal, source: MemorySource) -> None:
    await looked(journal, source)
    listing = await looked(journal, _Failing(source, "b", NotFound("removed")))
    assert listing.complete
    assert await gone(journal) == {"b/c", "b/d/e", "b/d/f"}
