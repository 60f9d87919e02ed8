"""What every ``Source`` must do.

A backend's test inherits ``SourceSuite`` and gives three things, here for a source that reads what ``build`` wrote::

    class TestMine(SourceSuite):
        @pytest.fixture
        async def source(self) -> AsyncIterator[Source]:   # an empty root of its own, page_size entries a page
            async with aclosing(MySource(..., page_size=self.page_size)) as source:
                yield source

        async def fill(self, tree: Mapping[str, bytes]) -> None:   # in blocks of block_size
            for path, body in tree.items():
                build(path, body)

        def at(self, path: str) -> Source:   # the same side, rooted at a path below
            return MySource(... + path)

and the four small ones: ``append``, ``rename``, ``remove``, ``writing``. What a backend can do it says by
``tells_open`` and ``has_snapshots``; of the latter the root is to be snapshottable, and the directories below are not.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, aclosing

import fastcrc.crc32
import pytest

from asynccopy.errors import FileError, NotFound, NotThere, SnapshotGone, SourceChanged
from asynccopy.model import MIB, ByteRange, Change, FileStatus
from asynccopy.storage.interface import Snapshots, Source
from tests.suites import NASTY_NAMES, NFC, NFD


class SourceSuite:
    block_size = MIB
    """What ``fill`` writes in, and what a source without blocks is asked around. A multiple of 512."""
    page_size = 3
    """The most entries in one page of ``source``, and of a snapshot diff."""
    tells_open = False
    """Whether it can tell that a file is being written."""
    has_snapshots = False

    @pytest.fixture
    async def source(self) -> Source:
        raise NotImplementedError("an empty root, read page_size entries at a time")

    async def fill(self, tree: Mapping[str, bytes]) -> None:
        """Write these files, replacing what is there, and the directories they need; ``name/`` is an empty one."""
        raise NotImplementedError

    def at(self, path: str) -> Source:
        """A source like ``source``, whose root is ``path`` below that one's; the suite closes it."""
        raise NotImplementedError

    async def append(self, path: str, data: bytes) -> None:
        """A writer appends to a file and closes it."""
        raise NotImplementedError

    async def rename(self, path: str, to: str) -> None:
        """Move a file or directory to where nothing is, in a directory that is there."""
        raise NotImplementedError

    async def remove(self, path: str) -> None:
        """Remove a file, or a directory with all below it."""
        raise NotImplementedError

    def writing(self, path: str, data: bytes) -> AbstractAsyncContextManager[None]:
        """A writer creates a file, has it open inside, and has written ``data`` and closed it afterwards."""
        raise NotImplementedError

    # --- check and status

    async def test_check_gives_the_root(self, source: Source) -> None:
        root = await source.check()
        assert root.path == ""
        assert root.is_directory

    async def test_check_of_a_missing_root(self, source: Source) -> None:
        async with aclosing(self.at("missing")) as missing:
            with pytest.raises(NotThere):
                await missing.check()

    async def test_the_url_is_stable_and_its_own(self, source: Source) -> None:
        async with aclosing(self.at("a")) as one, aclosing(self.at("a")) as again, aclosing(self.at("b")) as other:
            assert one.url == again.url
            assert len({source.url, one.url, other.url}) == 3

    async def test_the_name_is_the_last_component(self, source: Source) -> None:
        for path in ("d/file", f"d/{NASTY_NAMES[3]}", NFD):
            async with aclosing(self.at(path)) as below:
                assert below.name == path.rpartition("/")[2]

    async def test_status_of_the_root(self, source: Source) -> None:
        root = await source.status("")
        assert (root.path, root.is_directory, root.length) == ("", True, 0)

    async def test_status_of_a_file(self, source: Source) -> None:
        await self.fill({"a/file": b"12345"})
        file = await source.status("a/file")
        assert (file.path, file.is_directory, file.length) == ("a/file", False, 5)
        assert file.modification_time > 1_000_000_000_000, "milliseconds since the epoch"

    async def test_status_of_a_directory(self, source: Source) -> None:
        await self.fill({"a/b/file": b"12345"})
        directory = await source.status("a/b")
        assert (directory.path, directory.is_directory, directory.length) == ("a/b", True, 0)

    async def test_what_is_missing_is_not_found(self, source: Source) -> None:
        await self.fill({"a/file": b"12345"})
        for call in (
            source.status("a/fil"),
            source.list("missing"),
            source.open("a/missing", ByteRange(0, 1)),
            source.checksum("a/missing"),
            source.block_lengths("missing"),
        ):
            with pytest.raises(NotFound):
                await call

    async def test_nothing_is_below_a_file(self, source: Source) -> None:
        """It may have been a directory when its parent was listed."""
        await self.fill({"a/file": b"12345"})
        for call in (source.list("a/file"), source.list("a/file", "x"), source.status("a/file/x")):
            with pytest.raises(NotFound):
                await call

    async def test_a_directory_cannot_be_read(self, source: Source) -> None:
        await self.fill({"a/file": b"12345"})
        with pytest.raises(FileError):
            await read(source, "a", ByteRange(0, 1))

    async def test_the_version_is_stable(self, source: Source) -> None:
        await self.fill({"file": b"12345"})
        before = (await source.status("file")).version
        await read(source, "file", ByteRange(0, 5))
        assert (await source.status("file")).version == before

    async def test_the_version_changes_when_a_file_is_replaced(self, source: Source) -> None:
        await self.fill({"file": b"12345"})
        before = (await source.status("file")).version
        await asyncio.sleep(0.02)
        await self.fill({"file": b"54321"})
        assert (await source.status("file")).version != before
        assert await read(source, "file", ByteRange(0, 5)) == b"54321"

    # --- list

    async def test_list_an_empty_directory(self, source: Source) -> None:
        await self.fill({"empty/": b""})
        page = await source.list("empty")
        assert (page.entries, page.after) == ([], None)

    @pytest.mark.parametrize("beyond", [-1, 0, 1])
    async def test_list_pages_are_complete_and_unique(self, source: Source, beyond: int) -> None:
        names = {f"d/{number:04d}" for number in range(2 * self.page_size + beyond)}
        await self.fill(dict.fromkeys(names, b"x"))
        pages = await pages_of(source, "d")
        assert all(len(page) <= self.page_size for page in pages)
        assert len(pages) >= 2
        listed = [entry.path for page in pages for entry in page]
        assert sorted(listed) == sorted(names)

    async def test_list_agrees_with_status(self, source: Source) -> None:
        await self.fill({"one": b"1", "two/below": b"22", "three/": b"", "four": b""})
        listed = await entries_of(source, "")
        assert {entry.path for entry in listed} == {"one", "two", "three", "four"}
        for entry in listed:
            assert await source.status(entry.path) == entry

    async def test_list_shows_one_level_only(self, source: Source) -> None:
        await self.fill({"a/x": b"1", "a/b/y": b"2", "ab/z": b"3", "a.b": b"4"})
        assert {entry.path for entry in await entries_of(source, "a")} == {"a/x", "a/b"}

    async def test_walk_nested_directories(self, source: Source) -> None:
        tree = {f"{'/'.join(['d'] * depth)}/file": bytes([depth]) for depth in range(1, 9)} | {"top": b"t"}
        await self.fill(tree)
        found: dict[str, bytes] = {}
        directories = [""]
        while directories:
            for entry in await entries_of(source, directories.pop()):
                if entry.is_directory:
                    directories.append(entry.path)
                else:
                    found[entry.path] = await read(source, entry.path, ByteRange(0, entry.length))
        assert found == tree

    async def test_two_listings_at_once_do_not_mix(self, source: Source) -> None:
        names = [f"{number:04d}" for number in range(2 * self.page_size + 1)]
        await self.fill({f"{directory}/{name}": b"" for directory in "ab" for name in names})
        where = {"left": "a", "right": "a", "other": "b"}
        cursors = dict.fromkeys(where, "")
        seen: dict[str, list[str]] = {who: [] for who in where}
        for _ in range(3):
            for who, directory in where.items():
                page = await source.list(directory, cursors[who])
                seen[who] += [entry.path for entry in page.entries]
                cursors[who] = page.after or ""
        assert sorted(seen["left"]) == sorted(seen["right"]) == [f"a/{name}" for name in names]
        assert sorted(seen["other"]) == [f"b/{name}" for name in names]

    async def test_what_was_there_all_along_is_listed_though_others_come(self, source: Source) -> None:
        names = {f"d/{number:04d}" for number in range(2 * self.page_size)}
        await self.fill(dict.fromkeys(names, b""))
        first = await source.list("d")
        assert first.after is not None
        await self.fill({"d/0000-new": b"", "d/9999": b"", "d/!": b""})
        rest = await entries_of(source, "d", first.after)
        listed = [entry.path for entry in (*first.entries, *rest)]
        assert names <= set(listed)
        assert len(set(listed)) == len(listed)

    async def test_a_cursor_outlives_the_source(self, source: Source) -> None:
        names = [f"d/{number:04d}" for number in range(2 * self.page_size)]
        await self.fill(dict.fromkeys(names, b""))
        async with aclosing(self.at("d")) as earlier:
            first = await earlier.list("")
        assert first.after is not None
        first.after.encode()  # the journal keeps it as text
        async with aclosing(self.at("d")) as later:
            rest = await entries_of(later, "", first.after)
        assert sorted(f"d/{entry.path}" for entry in (*first.entries, *rest)) == names

    # --- names

    @pytest.mark.parametrize("name", NASTY_NAMES, ids=ascii)
    async def test_nasty_names_come_back(self, source: Source, name: str) -> None:
        body = name.encode()
        await self.fill({f"{name}/{name}": body})
        assert [entry.path for entry in await entries_of(source, "")] == [name]
        (entry,) = await entries_of(source, name)
        assert entry.path == f"{name}/{name}"
        assert await source.status(entry.path) == entry
        assert await read(source, entry.path, ByteRange(0, len(body))) == body

    async def test_a_page_may_end_at_any_name(self, source: Source) -> None:
        await self.fill({f"d/{name}": b"" for name in NASTY_NAMES})
        assert sorted(entry.path for entry in await entries_of(source, "d")) == sorted(
            f"d/{name}" for name in NASTY_NAMES
        )

    async def test_normal_forms_are_told_apart(self, source: Source) -> None:
        composed, decomposed = b"composed", b"decomposed, and longer"
        await self.fill({NFC: composed, NFD: decomposed, f"{NFC}.d/{NFC}": composed, f"{NFD}.d/{NFD}": decomposed})
        assert {entry.path for entry in await entries_of(source, "")} == {NFC, NFD, f"{NFC}.d", f"{NFD}.d"}
        for path, body in ((NFC, composed), (NFD, decomposed), (f"{NFD}.d/{NFD}", decomposed)):
            assert (await source.status(path)).length == len(body)
            assert await read(source, path, ByteRange(0, len(body))) == body
            await self.assert_checksum(source, path, body)

    # --- open and readinto

    async def test_ranges(self, source: Source) -> None:
        block = self.block_size
        body = noise(2 * block + 777)
        await self.fill({"file": body})
        end = len(body)
        for part in (
            ByteRange(0, end),
            ByteRange(0, 1),
            ByteRange(end - 1, 1),
            ByteRange(0, block),
            ByteRange(block, block),
            ByteRange(block - 1, 2),
            ByteRange(block - 10, block + 20),
            ByteRange(1000, 3333),
            ByteRange(2 * block, 777),
            ByteRange(end, 0),
        ):
            assert await read(source, "file", part) == body[part.offset : part.end], part

    async def test_readinto_fills_the_buffer(self, source: Source) -> None:
        body = noise(self.block_size + 100)
        await self.fill({"file": body})
        reader = await source.open("file", ByteRange(10, self.block_size + 50))
        try:
            counts, got = [], b""
            buffer = bytearray(self.block_size // 2 - 1)
            while count := await reader.readinto(memoryview(buffer)):
                counts.append(count)
                got += buffer[:count]
            assert got == body[10 : self.block_size + 60]
            assert counts[:-1] == [len(buffer)] * (len(counts) - 1)
            assert await reader.readinto(memoryview(buffer)) == 0
        finally:
            reader.close()

    async def test_readinto_writes_within_the_range_only(self, source: Source) -> None:
        await self.fill({"file": b"0123456789"})
        reader = await source.open("file", ByteRange(2, 5))
        try:
            buffer = bytearray(b"." * 20)
            assert await reader.readinto(memoryview(buffer)[3:]) == 5
            assert buffer == b"...23456............"
        finally:
            reader.close()

    async def test_an_empty_file(self, source: Source) -> None:
        await self.fill({"empty": b""})
        assert (await source.status("empty")).length == 0
        assert await read(source, "empty", ByteRange(0, 0)) == b""

    async def test_a_range_beyond_the_end_is_a_change(self, source: Source) -> None:
        await self.fill({"file": b"12345"})
        with pytest.raises(SourceChanged):
            await read(source, "file", ByteRange(0, 6))
        with pytest.raises(SourceChanged):
            await read(source, "file", ByteRange(100, 10))

    @pytest.mark.parametrize("before", [0, 1000], ids=["unread", "in the middle"])
    async def test_close_early_and_twice(self, source: Source, before: int) -> None:
        body = noise(2 * self.block_size)
        await self.fill({"file": body})
        reader = await source.open("file", ByteRange(0, len(body)))
        await reader.readinto(memoryview(bytearray(before)))
        reader.close()
        reader.close()
        assert await read(source, "file", ByteRange(5, 500)) == body[5:505]

    async def test_many_readers_at_once(self, source: Source) -> None:
        body = noise(2 * self.block_size)
        await self.fill({"file": body})
        step = len(body) // 16
        async with asyncio.TaskGroup() as group:
            readers = [
                group.create_task(read(source, "file", ByteRange(number * step, step)), name=f"reader-{number}")
                for number in range(16)
            ]
        assert b"".join(reader.result() for reader in readers) == body

    @pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 13])
    async def test_cancelled_while_reading(self, source: Source, turns: int) -> None:
        body = noise(3 * self.block_size)
        await self.fill({"file": body})
        reader = await source.open("file", ByteRange(0, len(body)))
        buffer = bytearray(len(body))
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(reader.readinto(memoryview(buffer)), name="reading")
            for _ in range(turns):
                await asyncio.sleep(0)
            reading.cancel()
        reader.close()
        buffer[:] = bytes(len(buffer))
        await asyncio.sleep(0.01)
        assert not any(buffer), "somebody still writes into a buffer that was given back"
        assert await read(source, "file", ByteRange(0, len(body))) == body

    # --- what a directory's modification time tells

    async def test_a_directory_gets_younger_when_a_name_comes_or_goes(self, source: Source) -> None:
        await self.fill({"d/file": b"1", "d/gone": b"2", "d/sub/x": b"3", "other": b"4"})
        steps = {
            "a file comes": lambda: self.fill({"d/new": b""}),
            "a directory comes": lambda: self.fill({"d/new.d/": b""}),
            "a file goes": lambda: self.remove("d/gone"),
            "a directory goes": lambda: self.remove("d/sub"),
            "renamed within": lambda: self.rename("d/file", "d/file2"),
            "renamed out": lambda: self.rename("d/file2", "file2"),
            "renamed in": lambda: self.rename("other", "d/other"),
        }
        for step, change in steps.items():
            before = await source.status("d")
            await asyncio.sleep(0.02)
            await change()
            after = await source.status("d")
            assert after.modification_time > before.modification_time > 1_000_000_000_000, step
            assert after.file_id == before.file_id, step
            assert after in await entries_of(source, ""), step

    async def test_a_directory_keeps_its_time_otherwise(self, source: Source) -> None:
        """Hence what was appended is not found by looking at the times of directories."""
        await self.fill({"d/file": b"1", "d/sub/x": b"3"})
        before = await source.status("d")
        await asyncio.sleep(0.02)
        await self.append("d/file", b"more")
        await self.fill({"d/sub/y": b""})
        await self.rename("d/sub/y", "d/sub/z")
        assert await source.status("d") == before
        await self.rename("d", "e")
        assert (await source.status("e")).version == before.version

    # --- files being written

    async def test_a_file_is_open_until_it_is_closed(self, source: Source) -> None:
        await self.fill({"closed": b"1"})
        async with self.writing("d/file", b"22"):
            assert await source.is_open("d/file") == self.tells_open
            assert not await source.is_open("closed")
        assert not await source.is_open("d/file")
        assert await read(source, "d/file", ByteRange(0, 2)) == b"22"
        with pytest.raises(NotFound):
            await source.is_open("missing")

    # --- snapshots

    async def snapshots(self, source: Source) -> Snapshots:
        if source.snapshots is None or await source.snapshots.names() is None:
            assert not self.has_snapshots
            pytest.skip("has no snapshots")
        return source.snapshots

    async def test_snapshots_are_created_and_deleted(self, source: Source) -> None:
        snapshots = await self.snapshots(source)
        assert self.has_snapshots
        assert await snapshots.names() == []
        await snapshots.create("s-1")
        await snapshots.create("s-1")
        await snapshots.create("s-2 \u00fc%")
        assert sorted(await snapshots.names() or ()) == ["s-1", "s-2 \u00fc%"]
        await snapshots.delete("s-1")
        await snapshots.delete("s-1")
        assert await snapshots.names() == ["s-2 \u00fc%"]

    async def test_a_directory_gets_younger_with_its_snapshots(self, source: Source) -> None:
        snapshots = await self.snapshots(source)
        for change in (snapshots.create, snapshots.delete):
            before = await source.status("")
            await asyncio.sleep(0.02)
            await change("s")
            assert (await source.status("")).modification_time > before.modification_time

    async def test_not_every_directory_can_have_snapshots(self, source: Source) -> None:
        await self.snapshots(source)
        await self.fill({"d/file": b"1"})
        async with aclosing(self.at("d")) as below:
            assert below.snapshots is None or await below.snapshots.names() is None
        async with aclosing(self.at("d/file")) as file:
            assert file.snapshots is None or await file.snapshots.names() is None

    async def test_a_snapshot_stays_as_it_was(self, source: Source) -> None:
        snapshots = await self.snapshots(source)
        tree = {"d/appended": b"1", "d/gone": b"22", "over": b"333", "d/sub/moved": b"4444"}
        await self.fill(tree)
        await snapshots.create("s")
        old = {path: await source.status(path) for path in (*tree, "", "d", "d/sub")}
        await self.append("d/appended", b"more")
        await self.remove("d/gone")
        await self.fill({"over": b"new", "came": b""})
        await self.rename("d/sub", "e")
        frozen = snapshots.at("s")
        assert (frozen.url, frozen.name, frozen.snapshots) == (source.url, source.name, None)
        assert await frozen.check() == old[""]
        assert [entry.path for entry in await entries_of(frozen, "")] == ["d", "over"]
        assert {entry.path for entry in await entries_of(frozen, "d")} == {"d/appended", "d/gone", "d/sub"}
        for path, body in tree.items():
            assert await frozen.status(path) == old[path]
            assert await read(frozen, path, ByteRange(0, len(body))) == body
            await self.assert_checksum(frozen, path, body)
        assert (await source.status("e/moved")).version == old["d/sub/moved"].version
        for path in ("came", "e/moved"):
            with pytest.raises(NotFound):
                await frozen.status(path)
        await frozen.aclose()
        assert (await source.status("over")).length == 3

    async def test_a_snapshot_that_is_gone_is_no_empty_tree(self, source: Source) -> None:
        snapshots = await self.snapshots(source)
        await self.fill({"d/file": b"1"})
        await snapshots.create("s")
        frozen = snapshots.at("s")
        assert (await frozen.status("d/file")).length == 1
        await snapshots.delete("s")
        for call in (
            frozen.check(),
            frozen.status("d/file"),
            frozen.list(""),
            frozen.open("d/file", ByteRange(0, 1)),
            frozen.checksum("d/file"),
            frozen.is_open("d/file"),
        ):
            with pytest.raises(SnapshotGone):
                await call
        await snapshots.create("t")
        for older, newer in (("s", "t"), ("t", "s")):
            with pytest.raises(SnapshotGone):
                await diff_of(snapshots, older, newer)

    async def test_a_diff(self, source: Source) -> None:
        """As a real HDFS answers it."""
        snapshots = await self.snapshots(source)
        names = ("a", "d1/x", "d1/sub/y", "over", "app", "del", "ren", "out/lost")
        await self.fill(dict.fromkeys(names, b"1"))
        await snapshots.create("s")
        await self.fill({"over": b"22", "made": b"", "newdir/deep/er": b"", "tmp": b""})
        await self.append("app", b"more")
        for path in ("del", "d1/x", "tmp"):
            await self.remove(path)
        for path, to in {"ren": "ren2", "d1": "d2", "d2/sub/y": "y-moved"}.items():
            await self.rename(path, to)
        await self.append("ren2", b"more")
        await self.fill({"d2/new": b"", "d2/sub/z": b""})
        await self.rename("d2/sub", "d2/sub2")
        await self.remove("out")
        await snapshots.create("t")
        assert sorted(await diff_of(snapshots, "s", "t"), key=str) == sorted(
            [
                Change("modify", ""),
                Change("create", "made"),
                Change("create", "newdir"),
                Change("create", "over"),
                Change("delete", "over"),
                Change("delete", "del"),
                Change("modify", "app"),
                Change("rename", "ren", "ren2"),
                Change("modify", "ren"),
                Change("rename", "d1", "d2"),
                Change("modify", "d1"),
                Change("create", "d1/new"),
                Change("delete", "d1/x"),
                Change("rename", "d1/sub", "d2/sub2"),
                Change("modify", "d1/sub"),
                Change("create", "d1/sub/z"),
                Change("rename", "d1/sub/y", "y-moved"),
                Change("delete", "out"),
            ],
            key=str,
        )
        assert await diff_of(snapshots, "t", "t") == []

    async def test_a_diff_of_what_was_moved_out_of_a_directory_since_deleted(self, source: Source) -> None:
        """Created or renamed: a real HDFS says either, as its pages happen to be cut."""
        snapshots = await self.snapshots(source)
        await self.fill({"out/moved": b"1", "out/lost": b"2"})
        await snapshots.create("s")
        await self.rename("out/moved", "kept")
        await self.remove("out")
        await snapshots.create("t")
        changes = await diff_of(snapshots, "s", "t")
        assert Change("delete", "out") in changes
        assert (Change("create", "kept") in changes) != (Change("rename", "out/moved", "kept") in changes)

    async def test_a_diff_of_any_names(self, source: Source) -> None:
        snapshots = await self.snapshots(source)
        await self.fill({f"old/{name}": b"" for name in NASTY_NAMES})
        await snapshots.create("s")
        for name in NASTY_NAMES:
            await self.rename(f"old/{name}", f"new {name}"[:120])
            await self.fill({f"{name}/file": b"", f"old/{name}": b"1"})
        await snapshots.create("t")
        changes = await diff_of(snapshots, "s", "t")
        assert sorted(change.target for change in changes if change.kind == "rename") == sorted(
            f"new {name}"[:120] for name in NASTY_NAMES
        )
        assert sorted(change.path for change in changes if change.kind == "create") == sorted(
            [*NASTY_NAMES, *(f"old/{name}" for name in NASTY_NAMES)]
        )

    @pytest.mark.parametrize("seed", range(4))
    async def test_a_diff_names_all_that_differs(self, source: Source, seed: int) -> None:
        """Both trees are walked, and each difference is to be found in the diff, and each line of it in the trees."""
        snapshots = await self.snapshots(source)
        chance = random.Random(seed)
        await self.fill({f"{d}/{e}/{f}": b"x" for d in "abc" for e in "de" for f in "fgh"})
        await self.change(source, chance, 10)
        await snapshots.create("s0")
        for number in range(1, 4):
            await self.change(source, chance, 15)
            await snapshots.create(f"s{number}")
        for older, newer in (("s0", "s1"), ("s1", "s2"), ("s2", "s3"), ("s0", "s3")):
            old, new = await walk(snapshots.at(older)), await walk(snapshots.at(newer))
            changes = await diff_of(snapshots, older, newer)
            assert len(set(changes)) == len(changes)
            assert_explains(changes, old, new)

    async def change(self, source: Source, chance: random.Random, count: int) -> None:
        for number in range(count):
            tree = await walk(source)
            files = sorted(path for path, status in tree.items() if not status.is_directory)
            directories = sorted(path for path, status in tree.items() if status.is_directory)
            fresh = f"{chance.choice(directories)}/{chance.choice('fghijkl')}{number}".lstrip("/")
            victim = chance.choice([*files, *(path for path in directories if path)])
            match chance.randrange(6):
                case 0:
                    await self.fill({fresh: b"new"})
                case 1:
                    await self.fill({chance.choice(files): b"replaced"})
                case 2:
                    await self.append(chance.choice(files), b"more")
                case 3:
                    await self.remove(chance.choice(files))
                case 4:
                    await self.fill({f"{fresh}/below": b"new"})
                case 5 if not fresh.startswith(victim + "/"):
                    await self.rename(victim, fresh)

    async def test_of_a_file_that_was_open_no_diff_speaks(self, source: Source) -> None:
        """And the snapshot shows it as it goes on. So it must be remembered by who meets it open."""
        snapshots = await self.snapshots(source)
        async with self.writing("file", b"22"):
            await snapshots.create("s")
            assert await snapshots.at("s").is_open("file")
        assert not await snapshots.at("s").is_open("file")
        assert (await snapshots.at("s").status("file")).length == 2
        await snapshots.create("t")
        assert await diff_of(snapshots, "s", "t") == []

    async def test_an_open_file_of_a_snapshot_is_known_by_any_name(self, source: Source) -> None:
        snapshots = await self.snapshots(source)
        async with self.writing("file", b"22"):
            await snapshots.create("s")
            await self.rename("file", "renamed")
            assert await snapshots.at("s").is_open("file")
        assert not await snapshots.at("s").is_open("file")
        await self.remove("renamed")
        assert not await snapshots.at("s").is_open("file")

    # --- a file as the root

    async def test_a_single_file_as_the_root(self, source: Source) -> None:
        await self.fill({"d/file": b"12345", "d/other": b"x"})
        async with aclosing(self.at("d/file")) as single:
            root = await single.check()
            assert root == await single.status("")
            assert (root.path, root.is_directory, root.length) == ("", False, 5)
            assert await read(single, "", ByteRange(1, 3)) == b"234"
            await self.assert_checksum(single, "", b"12345")

    # --- checksums and blocks

    @pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 1025])
    async def test_checksum_of_a_small_file(self, source: Source, size: int) -> None:
        body = noise(size)
        await self.fill({"file": body})
        await self.assert_checksum(source, "file", body)

    @pytest.mark.parametrize(("blocks", "more"), [(1, 0), (1, 1), (2, 0), (3, 0), (4, 100), (5, 0)])
    async def test_checksum_of_blocks(self, source: Source, blocks: int, more: int) -> None:
        body = noise(blocks * self.block_size + more)
        await self.fill({"file": body})
        await self.assert_checksum(source, "file", body)

    async def test_block_lengths_add_up(self, source: Source) -> None:
        size = 2 * self.block_size + 5
        await self.fill({"file": noise(size), "empty": b""})
        lengths = await source.block_lengths("file")
        assert lengths is None or list(lengths) == [self.block_size, self.block_size, 5]
        assert not await source.block_lengths("empty")

    async def assert_checksum(self, source: Source, path: str, body: bytes) -> None:
        """A source may keep no checksum, but not a wrong one."""
        checksum = await source.checksum(path)
        assert checksum is None or (checksum.algorithm, checksum.value) == hdfs_checksum(body, self.block_size)


async def read(source: Source, path: str, range: ByteRange) -> bytes:
    """The whole range, through a buffer that fits it badly."""
    reader = await source.open(path, range)
    try:
        got = bytearray()
        buffer = memoryview(bytearray(100_003))
        while count := await reader.readinto(buffer):
            got += buffer[:count]
        return bytes(got)
    finally:
        reader.close()


async def pages_of(source: Source, path: str, after: str = "") -> list[list[FileStatus]]:
    pages: list[list[FileStatus]] = []
    while True:
        page = await source.list(path, after)
        pages.append(list(page.entries))
        if page.after is None:
            return pages
        assert page.after != after, "the cursor stands still"
        after = page.after


async def entries_of(source: Source, path: str, after: str = "") -> list[FileStatus]:
    return [entry for page in await pages_of(source, path, after) for entry in page]


async def walk(source: Source) -> dict[str, FileStatus]:
    """Everything in a tree, by path."""
    found = {"": await source.status("")}
    directories = [""]
    while directories:
        for entry in await entries_of(source, directories.pop()):
            found[entry.path] = entry
            if entry.is_directory:
                directories.append(entry.path)
    return found


async def diff_of(snapshots: Snapshots, older: str, newer: str) -> list[Change]:
    return [change async for page in snapshots.diff(older, newer) for change in page]


def assert_explains(changes: list[Change], old: dict[str, FileStatus], new: dict[str, FileStatus]) -> None:
    """``changes`` name each difference between two trees, and nothing else."""
    now = {status.file_id: path for path, status in new.items()}

    def there(path: str) -> str:
        """Where a path of the diff is in the new tree: its directory is known by its id."""
        directory, _, name = path.rpartition("/")
        return f"{now[old[directory].file_id]}/{name}".lstrip("/")

    came = {there(change.path) for change in changes if change.kind == "create"}
    came |= {change.target for change in changes if change.kind == "rename"}
    went = {change.path for change in changes if change.kind in ("delete", "rename")}
    grew = {now.get(old[change.path].file_id) for change in changes if change.kind == "modify"}
    assert came <= new.keys()
    assert went <= old.keys()
    for change in changes:
        if change.kind == "rename":
            assert new[change.target].file_id == old[change.path].file_id
        elif change.kind == "delete":
            assert old[change.path].file_id not in now
    for path, status in new.items():
        before = old.get(path)
        if not status.is_directory and (before is None or before.version != status.version):
            assert any(path == place or path.startswith(place + "/") for place in came) or path in grew, path
    for path, status in old.items():
        after = new.get(path)
        if not status.is_directory and (after is None or after.file_id != status.file_id):
            assert any(path == place or path.startswith(place + "/") for place in went), path


def noise(size: int) -> bytes:
    """Bytes in which no two places look alike, the same every time."""
    return hashlib.shake_128(b"asynccopy").digest(size)


def hdfs_checksum(body: bytes, block_size: int) -> tuple[str, str]:
    """GETFILECHECKSUM's algorithm and MD5, written down as plainly as can be, to hold others to it."""
    block_md5s = b""
    for start in range(0, len(body), block_size):
        block = body[start : start + block_size]
        crcs = b""
        for chunk in range(0, len(block), 512):
            crcs += fastcrc.crc32.iscsi(block[chunk : chunk + 512]).to_bytes(4, "big")
        block_md5s += hashlib.md5(crcs).digest()
    padded = next(32 << power for power in range(40) if 32 << power >= len(block_md5s))
    value = hashlib.md5(block_md5s + bytes(padded - len(block_md5s))).hexdigest()
    if not body:
        return "MD5-of-0MD5-of-0CRC32", value
    return f"MD5-of-{block_size // 512 if len(block_md5s) > 16 else 0}MD5-of-512CRC32C", value
