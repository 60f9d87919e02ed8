"""What a watcher makes of names and journals that cannot be used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Literal

import pytest

from asynccopy.errors import AsyncCopyError, NameRefused
from asynccopy.executors.recipe import inline
from asynccopy.journal import Journal, Listed
from asynccopy.mirror.deletions import Handling
from asynccopy.mirror.mirror import CopyOptions
from asynccopy.mirror.rules import Rules
from asynccopy.mirror.schedule import Cadence
from asynccopy.mirror.selection import Selection
from asynccopy.mirror.watch import Watcher
from asynccopy.model import FileStatus, ObjectMeta
from asynccopy.storage.memory import MemoryDestination, MemorySource
from asynccopy.units import Cap


class Onlooker:
    requests = 0

    def told(self, level: Literal["info", "warning", "error"], text: str) -> None:
        pass

    def passed(self, kind: str, seconds: float) -> None:
        pass

    def settled(self, path: str, length: int, error: AsyncCopyError | None) -> None:
        pass


class Fussy(MemoryDestination):
    """Refuses one name, as stores refuse names that only they know."""

    def _refuse(self, key: str) -> None:
        if key == "bad":
            raise NameRefused(f"{key}: not a name here")

    async def head(self, key: str) -> ObjectMeta | None:
        self._refuse(key)
        return await super().head(key)

    async def put(
        self, key: str, body: bytes | memoryview, crc32c: int, status: FileStatus | None = None
    ) -> ObjectMeta:
        self._refuse(key)
        return await super().put(key, body, crc32c, status)


Make = Callable[[MemorySource, MemoryDestination], Watcher]


@pytest.fixture
async def begin(tmp_path: Path) -> AsyncIterator[Make]:
    running: list[tuple[Watcher, asyncio.Task[None]]] = []

    def make(source: MemorySource, destination: MemoryDestination) -> Watcher:
        async def open_journal(order: Listed) -> Journal:
            return await Journal.open(tmp_path / "j", source=source.url, destination=destination.url, order=order)

        rules = Rules(
            Selection(),
            CopyOptions(concurrency=2),
            watch="scan",
            cadence=Cadence(3600.0, 3600.0),
            settle=-5.0,  # times in memory run ahead of the clock: nothing is young
            handling=Handling("delete", Cap(count=10)),
        )
        watcher = Watcher(source, destination, open_journal, rules, inline, Onlooker())
        running.append((watcher, asyncio.create_task(watcher.run(), name="watcher")))
        return watcher

    yield make
    for watcher, task in running:
        watcher.drain()
        await task


async def until(so: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not so():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


async def test_a_name_that_the_destination_refuses_does_not_hold_up_deletions(begin: Make) -> None:
    source, destination = MemorySource(), Fussy()
    for name in ("bad", "old", "kept"):
        source.put(name, b"1")
    watcher = begin(source, destination)
    await until(lambda: watcher.state == "watching")
    assert watcher.passes.progress.failed_files == 1
    source.remove("bad")
    source.remove("old")
    watcher.scan()
    await until(lambda: "old" not in destination.objects)
    await until(lambda: watcher.state == "watching")
    assert watcher.journal is not None
    assert await watcher.journal.gone(0, 10) == []


async def test_a_damaged_journal_needs_a_person(begin: Make, tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b"this is no journal" * 1000)
    watcher = begin(MemorySource(), MemoryDestination())
    await until(lambda: watcher.state == "failed")
    assert "not a journal" in watcher.reason
