"""A tree of files lives, and passes look at it: after each the journal holds what is there, and the rest is gone.

Once more with packs so small that every directory has some, made at any time: it changes no answer.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections import Counter
from pathlib import Path
from typing import cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from asynccopy.journal import Journal, Kind, packed
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


class Packing(Watching):
    """The same, where whatever is done is packed: between passes, and while one goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(packed, "FULL", 2)
        self.patch.setattr(packed, "WORTH", 1)

    def teardown(self) -> None:
        self.patch.undo()
        super().teardown()

    @rule(limit=st.sampled_from((1, 20, 100)))
    def pack(self, limit: int) -> None:
        before = self.loop.run(self._answers())
        self.loop.run(self._pack(limit))
        assert self.loop.run(self._answers()) == before

    @rule(data=st.data())
    def reopen(self, data: st.DataObject) -> None:
        """Some files, or all, turn out to be missing at the destination; they are copied again."""
        live = sorted(self.live)
        paths = data.draw(st.none() | st.lists(st.sampled_from(live), max_size=3) if live else st.just([]))
        ids = {path: id for id, path in self.loop.run(self._ids())}
        self.loop.run(self.journal.reopen(paths))
        pending = {row.status.path: row.id for row in self.loop.run(self.journal.pending(0, 1000))}
        assert pending == ({path: ids[path] for path in paths} if paths is not None else ids)
        self.loop.run(self._copy())

    async def _pack(self, limit: int) -> None:
        for _ in range(2):  # the first walk may go on where one was interrupted
            while await self.journal.pack(limit, age=0):
                pass

    async def _look(self, kind: Kind, selection: Selection, stopped_at: int) -> dict[str, tuple[int, int, int]]:
        found = await super()._look(kind, selection, stopped_at)
        before = await self._answers()
        await self._pack(100)
        assert await self._answers() == before
        return found

    async def _list(self, selection: Selection, stopped_at: int) -> None:
        async with asyncio.TaskGroup() as group:
            packing = group.create_task(self._keep_packing())
            await super()._list(selection, stopped_at)
            packing.cancel()

    async def _keep_packing(self) -> None:
        while True:
            await self._pack(5)
            await asyncio.sleep(0)

    async def _ids(self) -> list[tuple[int, str]]:
        return sorted((row.id, row.status.path) for row in await self.journal.some_done(10_000))

    async def _answers(self) -> object:
        """All that the journal can be asked about its files."""
        journal = self.journal
        rows = [row async for row in journal.ledger()]
        assert len({row.path for row in rows}) == len(rows)
        assert rows == [await journal.row(row.path) for row in rows]
        childless = [await journal.is_childless(place) for place in PLACES]
        return rows, await journal.totals(), childless, await self._gone(), await self._ids()


TestWatching = Watching.TestCase
TestPacking = Packing.TestCase
TestWatching.settings = TestPacking.settings = settings(
    max_examples=40, stateful_step_count=16, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.parametrize("machine", [Watching, Packing])
def test_a_long_life(machine: type[Watching]) -> None:
    """Busier than what hypothesis tends to try: most looks find something new, changed and gone."""
    for _ in range(8):
        seed = random.randrange(1 << 32)
        print(f"seed {seed}")
        dice = random.Random(seed)
        watching = machine()
        try:
            for _ in range(12):
                for _ in range(dice.randrange(1, 9)):
                    disturb(watching.tree, dice)
                watching.look(
                    dice.choice(("full", "quick")),
                    dice.choice((SELECTIONS[0], SELECTIONS[0], *SELECTIONS)),
                    dice.choice((1, 2, 3, 100)),
                    dice.choice((0, 0, 1, 2, 5)),
                    dice.randrange(100),
                )
        finally:
            watching.teardown()


def disturb(tree: Tree, dice: random.Random) -> None:
    new = f"{dice.choice(PLACES)}/{dice.choice(NAMES)}".lstrip("/")
    old = dice.choice(sorted(tree.entries))
    match dice.randrange(8):
        case 0 | 1 | 2:
            tree.put(new)
        case 3:
            tree.put(old)
        case 4:
            tree.append(old)
        case 5:
            tree.rename(old, new)
        case 6:
            tree.make(new)
        case 7:
            tree.remove(old)
