"""A watcher over a tree that keeps changing: whatever happens between two passes, the destination follows."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import pytest

from asynccopy.errors import AsyncCopyError
from asynccopy.executors.recipe import inline
from asynccopy.journal import Journal, Listed
from asynccopy.mirror.deletions import Handling
from asynccopy.mirror.mirror import CopyOptions
from asynccopy.mirror.rules import Rules
from asynccopy.mirror.schedule import Cadence
from asynccopy.mirror.selection import Selection
from asynccopy.mirror.watch import Watcher
from asynccopy.model import MIB, OpenUpload
from asynccopy.storage.memory import MemoryDestination, MemorySource
from asynccopy.units import Cap

ALL = Cap(share=Fraction(1))


CHANGES = ("put", "put", "put", "append", "overwrite", "remove", "rename", "move", "swap", "mkdir", "turn", "drop")


class Change:
    """Random changes of a source in memory, with names that meet again and again."""

    def __init__(self, source: MemorySource, seed: int, changes: Sequence[str] = CHANGES) -> None:
        self.source = source
        self.changes = changes
        self.chance = random.Random(seed)
        self.files: dict[str, bytes] = {}
        self.directories: set[str] = set()

    def some(self, count: int) -> None:
        for _ in range(count):
            getattr(self, self.chance.choice(self.changes))()

    def path(self) -> str:
        depth = self.chance.randrange(3)
        return "/".join([self.chance.choice("abc") for _ in range(depth)] + [self.chance.choice("abuvwx")])

    def free(self, path: str) -> bool:
        taken = self.files.keys() | self.directories
        above = {path[:at] for at, letter in enumerate(path) if letter == "/"}
        return path not in taken and not above & self.files.keys()

    def put(self) -> None:
        path = self.path()
        if path in self.files or self.free(path):
            self.files[path] = self.chance.randbytes(self.chance.choice([0, 1, 50]))
            self.source.put(path, self.files[path])
            self._above(path)

    def append(self) -> None:
        if self.files:
            path = self.chance.choice(sorted(self.files))
            self.files[path] += b"+"
            self.source.append(path, b"+")

    def overwrite(self) -> None:
        """Another file of the same name, length and time, as from a copy that preserves times."""
        if self.files:
            path = self.chance.choice(sorted(self.files))
            time = self.source._entries[path].modification_time
            self.files[path] = self.chance.randbytes(len(self.files[path]))
            self.source.put(path, self.files[path], modification_time=time)

    def remove(self) -> None:
        if self.files:
            path = self.chance.choice(sorted(self.files))
            del self.files[path]
            self.source.remove(path)

    def rename(self) -> None:
        new = self.path()
        if self.files and self.free(new):
            path = self.chance.choice(sorted(self.files))
            self.files[new] = self.files.pop(path)
            self.source.rename(path, new)
            self._above(new)

    def move(self) -> None:
        """Rename a directory."""
        new = self.path()
        if self.directories and self.free(new):
            path = self.chance.choice(sorted(self.directories))
            if new.startswith(f"{path}/"):
                return
            self._move(path, new)
            self._above(new)

    def _move(self, path: str, new: str) -> None:
        self.source.rename(path, new)
        self.files = {_moved(each, path, new): body for each, body in self.files.items()}
        self.directories = {_moved(each, path, new) for each in self.directories}

    def swap(self) -> None:
        """Two directories exchange their names."""
        if len(self.directories) > 1:
            one, other = self.chance.sample(sorted(self.directories), 2)
            if not f"{one}/".startswith(f"{other}/") and not f"{other}/".startswith(f"{one}/"):
                for path, new in ((one, "aside"), (other, one), ("aside", other)):
                    self._move(path, new)

    def turn(self) -> None:
        """A directory where a file was, or a file where a directory was."""
        taken = sorted(self.files.keys() | self.directories)
        if taken:
            path = self.chance.choice(taken)
            self.source.remove(path)
            if path in self.files:
                del self.files[path]
                self.source.mkdir(path)
                self.directories.add(path)
            else:
                self._forget(path)
                self.files[path] = self.chance.randbytes(9)
                self.source.put(path, self.files[path])

    def mkdir(self) -> None:
        path = self.path()
        if self.free(path):
            self.source.mkdir(path)
            self.directories.add(path)
            self._above(path)

    def drop(self) -> None:
        """Remove a directory with all below it."""
        if self.directories:
            path = self.chance.choice(sorted(self.directories))
            self.source.remove(path)
            self._forget(path)

    def _forget(self, path: str) -> None:
        self.files = {each: body for each, body in self.files.items() if not each.startswith(f"{path}/")}
        self.directories = {each for each in self.directories if each != path and not each.startswith(f"{path}/")}

    def _above(self, path: str) -> None:
        self.directories |= {path[:at] for at, letter in enumerate(path) if letter == "/"}

    def objects(self) -> dict[str, bytes]:
        taken = (*self.files, *self.directories)
        full = {path[:at] for path in taken for at, letter in enumerate(path) if letter == "/"}
        return self.files | {f"{path}/": b"" for path in self.directories - full}


def _moved(each: str, path: str, new: str) -> str:
    return new + each[len(path) :] if each == path or each.startswith(f"{path}/") else each


class Life:
    """A watcher that is asked for one pass at a time."""

    def __init__(self, folder: Path, source: MemorySource, watch: Literal["snapshots", "scan"], **keys: Any) -> None:
        self.source = source
        self.destination = self.made()
        self.said: list[str] = []
        self.kinds: list[str] = []
        """Of the passes that have ended well"""
        self.requests = 0
        self.path = folder / "j"
        keys = {
            "selection": Selection(),
            "options": CopyOptions(concurrency=4),
            "handling": Handling("delete", ALL),
            "cadence": Cadence(3600.0, 3600.0),
            "settle": -5.0,  # times in memory run ahead of the clock: nothing is young
            **keys,
        }
        self.rules = Rules(watch=watch, **keys)
        self.begin()

    def made(self) -> MemoryDestination:
        return MemoryDestination()

    def begin(self) -> None:
        self.watcher = Watcher(self.source, self.destination, self._open, self.rules, inline, self)
        self.running = asyncio.create_task(self.watcher.run(), name="watcher")

    def told(self, level: str, text: str) -> None:
        self.said.append(text)

    def passed(self, kind: str, seconds: float) -> None:
        assert seconds >= 0
        self.kinds.append(kind)

    def settled(self, path: str, length: int, error: AsyncCopyError | None) -> None:
        assert path

    async def _open(self, order: Listed) -> Journal:
        return await Journal.open(self.path, source=self.source.url, destination=self.destination.url, order=order)

    async def one_pass(self) -> None:
        """Until a pass that began from now on has ended."""
        now = time.time()
        self.watcher.scan()
        async with asyncio.timeout(20):
            while self.watcher.passes.looked.last < now or self.watcher.state == "copying":  # noqa: ASYNC110
                assert not self.running.done(), self.running.result()
                await asyncio.sleep(0.001)

    async def end(self) -> None:
        self.watcher.drain()
        await self.running

    async def kill(self) -> None:
        """As by kill -9: nothing is finished. The journal's writer thread must let go of its file."""
        self.running.cancel()
        await asyncio.wait([self.running])

    def objects(self) -> dict[str, bytes]:
        return {key.removeprefix(self.destination.prefix): body for key, body in self.destination.objects.items()}


@pytest.fixture
async def lives(tmp_path: Path) -> AsyncIterator[Callable[..., Life]]:
    begun: list[Life] = []

    def make(source: MemorySource, watch: Literal["snapshots", "scan"], **keys: Any) -> Life:
        begun.append(Life(tmp_path, source, watch, **keys))
        return begun[-1]

    yield make
    for life in begun:
        if not life.running.done():
            await life.end()


def only_full(watch: str) -> Cadence:
    """In scan mode appends are found by full passes only."""
    return Cadence(3600.0, 0.0 if watch == "scan" else 1e9)


@pytest.mark.parametrize("watch", ["snapshots", "scan"])
@pytest.mark.parametrize("seed", range(12))
async def test_every_pass_makes_both_sides_equal(
    lives: Callable[..., Life], watch: Literal["snapshots", "scan"], seed: int
) -> None:
    source = MemorySource(page_size=3)
    change = Change(source, seed)
    change.some(30)
    life = lives(source, watch, cadence=only_full(watch))
    for step in range(8):
        await life.one_pass()
        assert life.objects() == change.objects(), f"after pass {step}: {life.said}"
        change.some(change.chance.choice([0, 1, 3, 20]))


@pytest.mark.parametrize("seed", range(8))
async def test_quick_passes_find_all_but_appends(lives: Callable[..., Life], seed: int) -> None:
    source = MemorySource(page_size=3)
    change = Change(source, seed, [each for each in CHANGES if each != "append"])
    change.some(30)
    life = lives(source, "scan", cadence=Cadence(3600.0, 1e9))
    for step in range(12):
        await life.one_pass()
        assert life.objects() == change.objects(), f"after pass {step}: {life.said}"
        change.some(change.chance.choice([0, 0, 1, 3]))


@pytest.mark.parametrize("watch", ["snapshots", "scan"])
@pytest.mark.parametrize("seed", range(6))
async def test_a_watcher_that_is_killed_again_and_again_catches_up(
    lives: Callable[..., Life], watch: Literal["snapshots", "scan"], seed: int
) -> None:
    source = MemorySource(page_size=3)
    change = Change(source, seed)
    change.some(60)
    life = lives(source, watch, cadence=only_full(watch))
    for _ in range(12):
        life.watcher.scan()
        await asyncio.sleep(change.chance.uniform(0, 0.03))
        await life.kill()
        change.some(5)
        life.begin()
    await life.one_pass()
    await life.one_pass()  # what was changed after the snapshot of an interrupted pass comes with the next one
    assert life.objects() == change.objects()
    if watch == "snapshots" and source.snapshots is not None:
        assert len(await source.snapshots.names() or []) == 1


async def test_a_renamed_directory_is_not_read_again(lives: Callable[..., Life]) -> None:
    source = MemorySource({f"d/f{n}": bytes([n]) * 50 for n in range(40)})
    life = lives(source, "snapshots")
    await life.one_pass()
    source.rename("d", "e")
    source.put("e/new", b"n")
    await life.one_pass()
    assert life.objects() == {f"e/f{n}": bytes([n]) * 50 for n in range(40)} | {"e/new": b"n"}
    assert (life.watcher.passes.progress.renamed_files, life.watcher.passes.progress.copied_files) == (40, 1)
    assert life.watcher.passes.progress.moved_bytes == 1


async def test_an_upload_of_a_file_that_proves_renamed_is_aborted(lives: Callable[..., Life]) -> None:
    """It was begun, and cut off, before the look had seen that the old name is gone."""
    body = random.Random(1).randbytes(3 * MIB)
    source = MemorySource({"d/big": body})
    life = lives(source, "scan", cadence=only_full("scan"))
    await life.one_pass()
    await life.end()
    source.rename("d", "e")
    journal = await life._open("listing")
    status = await source.status("e/big")
    await journal.begin_pass(life.rules.selection.text)
    await journal.record_files([status])
    [row] = await journal.pending(0, 10)
    upload = await life.destination.create_upload(f"{life.destination.prefix}e/big")
    await journal.begin_upload(row.id, OpenUpload(upload, MIB, status.version))
    await journal.remove(["d"])
    await journal.close()
    life.begin()
    await life.one_pass()
    assert life.objects() == {"e/big": body}
    assert life.watcher.passes.progress.renamed_files == 1
    assert list(await life.destination.list_uploads("")) == []
