"""The memory backend sits the exams, and is what it says for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager

import pytest

from asynccopy.errors import ChecksumMismatch, Refused, SnapshotGone
from asynccopy.model import ByteRange, PartReceipt
from asynccopy.storage.interface import Destination, Source
from asynccopy.storage.memory import MemoryDestination, MemorySource
from tests.suites.destination import Body, DestinationSuite
from tests.suites.source import SourceSuite, entries_of, walk


class TestMemorySource(SourceSuite):
    block_size = 4096
    tells_open = has_snapshots = True

    @pytest.fixture
    async def source(self) -> AsyncIterator[Source]:
        self.tree = MemorySource(block_size=self.block_size, page_size=self.page_size)
        async with aclosing(self.tree) as source:
            yield source

    async def fill(self, tree: Mapping[str, bytes]) -> None:
        for path, body in tree.items():
            if path.endswith("/"):
                self.tree.mkdir(path[:-1])
            else:
                self.tree.put(path, body)

    async def append(self, path: str, data: bytes) -> None:
        self.tree.append(path, data)

    async def rename(self, path: str, to: str) -> None:
        self.tree.rename(path, to)

    async def remove(self, path: str) -> None:
        self.tree.remove(path)

    @asynccontextmanager
    async def writing(self, path: str, data: bytes) -> AsyncIterator[None]:
        self.tree.put(path, b"")
        file_id = (await self.tree.status(path)).file_id
        self.tree.append(path, data, close=False)
        yield
        (now,) = (at for at, status in (await walk(self.tree)).items() if status.file_id == file_id)
        self.tree.close(now)

    def at(self, path: str) -> Source:
        url = f"memory://source/{path}"
        below = MemorySource(url=url, block_size=self.block_size, page_size=self.page_size, snapshots=False)
        below.remove("")
        for name, entry in self.tree._entries.items():
            if name == path or name.startswith(path + "/"):
                below._entries[name[len(path) :].lstrip("/")] = entry
        return below


@pytest.mark.parametrize("checksum", ["CRC32C", "MD5", None])
class TestMemoryDestination(DestinationSuite):
    @pytest.fixture
    async def destination(self, checksum: str | None) -> AsyncIterator[Destination]:
        store = MemoryDestination(prefix="some/where/", page_size=self.page_size, checksum=checksum)  # type: ignore[arg-type]
        async with aclosing(store) as destination:
            yield destination


async def test_names_beyond_ascii_come_first_as_in_hdfs() -> None:
    source = MemorySource(dict.fromkeys(["b", "a", "\u00e9", "\U0001f600", "Z"], b""), page_size=2)
    assert [entry.path for entry in await entries_of(source, "")] == ["\u00e9", "\U0001f600", "Z", "a", "b"]


async def test_an_append_keeps_the_inode_and_a_replacement_does_not() -> None:
    source = MemorySource({"file": b"1"})
    first = await source.status("file")
    source.append("file", b"2")
    longer = await source.status("file")
    assert (longer.length, longer.file_id) == (2, first.file_id)
    assert longer.modification_time > first.modification_time
    source.put("file", b"12", modification_time=longer.modification_time)
    replaced = await source.status("file")
    assert (replaced.length, replaced.modification_time) == (2, longer.modification_time)
    assert replaced.version != longer.version


async def test_remove_takes_what_is_below() -> None:
    source = MemorySource({"a/b/c": b"1", "a/d": b"2", "ab": b"3"})
    source.remove("a")
    assert [entry.path for entry in await entries_of(source, "")] == ["ab"]


async def test_checksums_can_be_off() -> None:
    assert await MemorySource({"file": b"1"}, checksums=False).checksum("file") is None


async def test_a_wrong_crc_of_a_put_is_refused() -> None:
    store = MemoryDestination()
    with pytest.raises(ChecksumMismatch):
        await store.put("key", b"body", 1)
    assert store.objects == {}


async def test_a_small_part_in_the_middle_is_refused() -> None:
    store = MemoryDestination()
    upload = await store.create_upload("key")
    parts = []
    for number, offset in ((1, 0), (2, 10)):
        reply = await store.upload_part("key", upload, number, 10, Body(bytes(10)))
        parts.append(PartReceipt(number, offset, 10, reply.etag, 0))
    with pytest.raises(Refused, match="1024 is the least"):
        await store.complete_upload("key", upload, parts, 0)


async def test_a_reader_keeps_the_version_it_opened() -> None:
    source = MemorySource({"file": b"old"})
    reader = await source.open("file", ByteRange(0, 3))
    source.put("file", b"new")
    buffer = bytearray(3)
    assert await reader.readinto(memoryview(buffer)) == 3
    assert buffer == b"old"


async def test_directories_stay_when_the_last_file_goes_as_in_hdfs() -> None:
    source = MemorySource({"a/b/c": b"1"})
    source.remove("a/b/c")
    assert [entry.path for entry in await entries_of(source, "a")] == ["a/b"]


async def test_what_cannot_be_renamed() -> None:
    source = MemorySource({"a/b": b"1", "c": b"2"})
    for path, to in (("a", "a/d"), ("a", "c"), ("c", "a/b")):
        with pytest.raises(ValueError, match="cannot become"):
            source.rename(path, to)
    assert sorted(source.files.items()) == [("a/b", b"1"), ("c", b"2")]


async def test_a_tree_without_snapshots() -> None:
    assert MemorySource(snapshots=False).snapshots is None


async def test_a_snapshot_deleted_between_two_pages_of_a_diff() -> None:
    source = MemorySource({"a": b"1", "b": b"2"}, page_size=1)
    snapshots = source.snapshots
    assert snapshots is not None
    await snapshots.create("s")
    source.remove("a")
    source.remove("b")
    await snapshots.create("t")
    seen = []
    with pytest.raises(SnapshotGone):
        async for page in snapshots.diff("s", "t"):
            seen += page
            await snapshots.delete("s")
    assert len(seen) == 1
