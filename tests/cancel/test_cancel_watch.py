"""A pass of a watcher cancelled at every step that waits: the next life ends with both sides equal, and tidy."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from copy import deepcopy
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import pytest

from asynccopy.journal import Journal, Listed
from asynccopy.mirror.mirror import CopyOptions
from tests.property.test_watcher import only_full
from tests.unit.test_watch import Failing, FailingStore, Live, nothing

LARGE = bytes(range(256)) * 8400  # three parts


class Steps:
    """Counts what is asked of both sides and of the journal, and cancels at the last one of so many."""

    def __init__(self, most: int, cancel: Callable[[], object]) -> None:
        self.most = most
        self.taken = 0
        self._cancel = cancel

    def take(self, *_: object) -> None:
        self.taken += 1
        if self.taken == self.most:
            self._cancel()

    def around(self, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def counted(*args: Any, **keys: Any) -> Any:
            self.take()
            answer = await call(*args, **keys)
            self.take()
            return answer

        return counted


class Stepped(Live):
    """A watcher whose journal counts its steps, too."""

    steps: Steps | None = None

    async def _open(self, order: Listed) -> Journal:
        journal = await super()._open(order)
        if self.steps is not None:
            database = journal._database
            database.write_together = self.steps.around(database.write_together)  # type: ignore[method-assign,assignment]
            database.reader.read = self.steps.around(database.reader.read)  # type: ignore[method-assign]
        return journal


def tree() -> Failing:
    source = Failing({f"{d}/{f}": f"{d}{f}".encode() for d in "abc" for f in "uv"} | {"top": b"0"})
    source.mkdir("empty")
    return source


def change(source: Failing) -> None:
    source.rename("a", "moved")  # with all its files
    source.put("a", b"a file now")
    source.rename("b/u", "b/renamed")
    source.put("b/v", b"bv", modification_time=1)
    source.remove("c")
    source.put("empty/no more", b"1")
    source.put("new/large", LARGE)
    source.mkdir("new/empty")
    source.put("young", b"")
    source.append("young", b"", close=False)


WANTED = {
    "moved/u": b"au",
    "moved/v": b"av",
    "a": b"a file now",
    "b/renamed": b"bu",
    "b/v": b"bv",
    "empty/no more": b"1",
    "new/large": LARGE,
    "new/empty/": b"",
    "top": b"0",
    "young": b"written",
}


class Base:
    """Both sides and the journal after a first pass, and after the changes that the next one is to find."""

    def __init__(self, folder: Path, watch: Literal["snapshots", "scan"]) -> None:
        self.folder = folder
        self.watch = watch
        self.source = tree()
        self.store = FailingStore()

    async def make(self) -> None:
        life = self.life(self.folder, self.source, self.store)
        await life.one_pass()
        await life.end()
        change(self.source)

    def life(self, folder: Path, source: Failing, store: FailingStore) -> Stepped:
        options = CopyOptions(concurrency=2, part_size=1 << 20)
        return Stepped(folder, source, self.watch, store=store, options=options, cadence=only_full(self.watch))

    async def cancelled_at(self, most: int) -> int:
        """The steps that the pass has taken, fewer than ``most`` when it has come to its end before."""
        me = asyncio.current_task()
        source, store = deepcopy((self.source, self.store))
        with TemporaryDirectory(dir=self.folder) as name:
            shutil.copy(self.folder / "j", name)
            life = self.life(Path(name), source, store)
            steps = life.steps = Steps(most, life.running.cancel)
            source.fail = store.fail = steps.take
            life.watcher.scan()
            while not life.running.done() and not life.kinds:  # noqa: ASYNC110
                await asyncio.sleep(0.0002)
            await life.kill()
            assert asyncio.all_tasks() == {me}, "a task was left"
            life.steps = None
            source.fail = store.fail = nothing
            source.append("young", b"written")
            life.begin()
            for _ in range(3 if self.watch == "snapshots" else 2):  # the first may be of an older snapshot
                await life.one_pass()
            assert life.objects() == WANTED, f"cancelled at {most}: {life.said}"
            assert await store.list_uploads("") == []
            assert life.watcher.journal is not None
            assert await life.watcher.journal.gone(0, 100) == []
            assert len(source._snapshots or ()) == (self.watch == "snapshots")
            await life.end()
        return steps.taken


@pytest.mark.timeout(600)  # some hundred runs, each with a journal of its own
@pytest.mark.parametrize("watch", ["snapshots", "scan"])
async def test_cancelled_at_every_step(tmp_path: Path, watch: Literal["snapshots", "scan"]) -> None:
    base = Base(tmp_path, watch)
    await base.make()
    for most in count(1):
        if await base.cancelled_at(most) < most:
            assert most > 100, "that is no pass"
            return
