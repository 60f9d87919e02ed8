"""A tree of files lives, and passes look at it: after each the journal holds what is there, and the rest is gone."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections import Counter
from pathlib import Path
from typing import cast

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from asynccopy.journal import Journal, Kind
from asynccopy.mirror.listing import Listing
from asynccopy.mirror.progress import Progress
from asynccopy.mirror.selection import Selection
from asynccopy.model import Evidence, FileStatus, ListPage
from asynccopy.storage.interface import Source

NAMES = ("a", "a-", "a0", "b", "b.tmp", "\u00e9", "\U0001f9ca")
PLACES = ("", "a", "a-", "a0", "b", "a/a", "a/a-", "a/a/\u00e9", "b/b.tmp")
SELECTIONS = (
    Selection(),
    Selection(exclude=("*.tmp",)),
    Selection(exclude=("a/a/",)),
    Selection(include=("*a*",), empty_directories=False),
)
EVIDENCE = Evidence("checksum", "s", "o", "e")


def parent(path: str) -> str:
    return path.rpartition("/")[0]


class Tree:
    """As HDFS: a name that comes or goes sets its directory's time, an append does not; a rename keeps the inode."""

    def __init__(self) -> None:
        self.entries = {"": FileStatus("", 0, 1, 1, is_directory=True)}
        self.clock = 1
        self.shuffle = 0
        self.page = 1

    def tick(self) -> int:
        self.clock += 1
        return self.clock

    def touch(self, path: str) -> None:
        old = self.entries[path]
        self.entries[path] = FileStatus(path, 0, self.tick(), old.file_id, is_directory=True)

    def make(self, path: str) -> bool:
        """A directory with all above it; False where a file is in the way."""
        if path in self.entries:
            return self.entries[path].is_directory
        if not self.make(parent(path)):
            return False
        self.entries[path] = FileStatus(path, 0, self.tick(), self.tick(), is_directory=True)
        self.touch(parent(path))
        return True

    def put(self, path: str) -> None:
        if self.make(parent(path)) and not (path in self.entries and self.entries[path].is_directory):
            self.entries[path] = FileStatus(path, self.tick(), self.tick(), self.tick())
            self.touch(parent(path))

    def append(self, path: str) -> None:
        if path in self.entries and not self.entries[path].is_directory:
            old = self.entries[path]
            self.entries[path] = FileStatus(path, old.length + 1, self.tick(), old.file_id)

    def below(self, path: str) -> list[str]:
        return [name for name in self.entries if name == path or name.startswith(path + "/")]

    def remove(self, path: str) -> None:
        if path and path in self.entries:
            for name in self.below(path):
                del self.entries[name]
            self.touch(parent(path))

    def rename(self, path: str, to: str) -> None:
        if path not in self.entries or not path or to in self.entries or f"{to}/".startswith(f"{path}/"):
            return
        if not self.make(parent(to)):
            return
        for name in self.below(path):
            old = self.entries.pop(name)
            new = to + name[len(path) :]
            self.entries[new] = FileStatus(new, old.length, old.modification_time, old.file_id, old.is_directory)
        self.touch(parent(path))
        self.touch(parent(to))

    def inside(self, path: str) -> list[FileStatus]:
        return [entry for name, entry in self.entries.items() if name and parent(name) == path]

    async def list(self, path: str, after: str = "") -> ListPage:
        """In an order of its own, with a cursor that is no name."""
        inside = self.inside(path)
        random.Random(f"{self.shuffle} {path}").shuffle(inside)
        start = int(after or 0)
        end = start + self.page
        return ListPage(inside[start:end], str(end) if end < len(inside) else None)

    def seen(self, selection: Selection, path: str = "") -> tuple[dict[str, FileStatus], set[str], list[str]]:
        """What is selected; what else is there; which directories are not entered."""
        inside = self.inside(path)
        selected: dict[str, FileStatus] = {}
        others: set[str] = set()
        shut: list[str] = []
        if path and not inside:
            inside = [FileStatus(path + "/", 0, 0, is_directory=True)]
        for entry in inside:
            if entry.is_directory and not entry.path.endswith("/"):
                if selection.enters(entry.path):
                    deeper = self.seen(selection, entry.path)
                    selected |= deeper[0]
                    others |= deeper[1]
                    shut += deeper[2]
                else:
                    shut.append(entry.path)
            elif selection.has(entry):
                selected[entry.path] = entry
            else:
                others.add(entry.path)
        return selected, others, shut


class Watching(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.loop = asyncio.Runner()
        self.journal = self.loop.run(Journal.open(Path(self.folder.name) / "j", source="s", destination="d"))
        self.tree = Tree()
        self.live: set[str] = set()
        self.gone: Counter[str] = Counter()

    def teardown(self) -> None:
        self.loop.run(self.journal.close())
        self.loop.close()
        self.folder.cleanup()

    @rule(place=st.sampled_from(PLACES), names=st.lists(st.sampled_from(NAMES), min_size=1, max_size=4))
    def put(self, place: str, names: list[str]) -> None:
        for name in names:
            self.tree.put(f"{place}/{name}" if place else name)

    @rule(place=st.sampled_from(PLACES))
    def mkdir(self, place: str) -> None:
        self.tree.make(place)

    @rule(data=st.data())
    def append(self, data: st.DataObject) -> None:
        self.tree.append(data.draw(st.sampled_from(sorted(self.tree.entries))))

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        self.tree.remove(data.draw(st.sampled_from(sorted(self.tree.entries))))

    @rule(data=st.data(), place=st.sampled_from(PLACES), name=st.sampled_from(NAMES))
    def rename(self, data: st.DataObject, place: str, name: str) -> None:
        self.tree.rename(data.draw(st.sampled_from(sorted(self.tree.entries))), f"{place}/{name}" if place else name)

    @rule(
        kind=st.sampled_from(("full", "quick", "quick")),
        selection=st.sampled_from((SELECTIONS[0], *SELECTIONS)),
        page=st.sampled_from((1, 2, 3, 100)),
        stopped_at=st.sampled_from((0, 0, 0, 1, 2, 5)),
        shuffle=st.integers(0, 99),
    )
    def look(self, kind: Kind, selection: Selection, page: int, stopped_at: int, shuffle: int) -> None:
        self.tree.page, self.tree.shuffle = page, shuffle
        found = self.loop.run(self._look(kind, selection, stopped_at))
        selected, others, shut = self.tree.seen(selection)
        kept = {
            path for path in self.live if path in others or any(path.startswith(directory + "/") for directory in shut)
        }
        live = selected.keys() | kept
        self.gone.update(self.live - live)
        self.live = live
        assert found.keys() == live
        assert self.loop.run(self._gone()) == self.gone
        if kind == "full":
            assert {path: found[path] for path in selected} == {
                path: (entry.length, entry.modification_time, entry.file_id) for path, entry in selected.items()
            }

    async def _look(self, kind: Kind, selection: Selection, stopped_at: int) -> dict[str, tuple[int, int, int]]:
        journal = self.journal
        await journal.begin_pass(selection.text, kind)
        if stopped_at:
            await self._list(selection, stopped_at)
            await self._copy()
            assert await journal.begin_pass(selection.text, kind)
        await self._list(selection, 0)
        await self._copy()
        await journal.finish_pass(True)
        return {row.path: (row.length, row.modification_time, row.file_id) async for row in journal.ledger()}

    async def _list(self, selection: Selection, stopped_at: int) -> None:
        stop = asyncio.Event()
        pages = 0

        def found() -> None:
            nonlocal pages
            pages += 1
            if pages == stopped_at:
                stop.set()

        listing = Listing(cast("Source", self.tree), self.journal, selection, Progress(), stop, found)
        await listing.run()
        assert listing.complete

    async def _copy(self) -> None:
        async with asyncio.TaskGroup() as group:
            for row in await self.journal.pending(0, 1000):
                group.create_task(self.journal.done(row.id, row.status.version, EVIDENCE))

    async def _gone(self) -> Counter[str]:
        return Counter(row.path for row in await self.journal.gone(0, 100_000))


TestWatching = Watching.TestCase
TestWatching.settings = settings(
    max_examples=40, stateful_step_count=16, deadline=None, suppress_health_check=list(HealthCheck)
)
