"""The exam of a ``Source`` whose files are objects: what is the same, and what they are not like.

A backend's test gives ``reading``, ``writing_side`` and the ``source`` fixture, which calls ``opened``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager

import pytest
from fastcrc import crc32, crc64

from asynccopy.errors import NotFound
from asynccopy.model import ByteRange, FileChecksum
from asynccopy.storage.interface import Destination, Source
from asynccopy.storage.object_source import ObjectSource
from tests.suites.destination import put, send
from tests.suites.source import SourceSuite, entries_of, read


class ObjectSourceSuite(SourceSuite):
    """The exam, with a Destination as the one who writes; what objects are not like is told by tests of its own."""

    root = "some/where"

    def reading(self, path: str) -> ObjectSource:
        """The side, rooted at a path of the bucket."""
        raise NotImplementedError

    def writing_side(self) -> AbstractAsyncContextManager[Destination]:
        """The same bucket, written."""
        raise NotImplementedError

    async def opened(self, stack: AsyncExitStack) -> Source:
        self.store = await stack.enter_async_context(self.writing_side())
        await put(self.store, f"{self.root}/", b"")
        return await stack.enter_async_context(aclosing(self.at("")))

    def at(self, path: str) -> Source:
        source = self.reading(f"{self.root}/{path}")
        source.page_size = self.page_size
        return source

    async def fill(self, tree: Mapping[str, bytes]) -> None:
        for path, body in tree.items():
            await put(self.store, f"{self.root}/{path}", body)

    async def remove(self, path: str) -> None:
        await self.store.delete(f"{self.root}/{path}")

    @asynccontextmanager
    async def writing(self, path: str, data: bytes) -> AsyncIterator[None]:
        key = f"{self.root}/{path}"
        upload = await self.store.create_upload(key)
        part = await send(self.store, key, upload, 1, 0, data)
        yield
        await self.store.complete_upload(key, upload, [part], part.crc32c)

    # --- what objects are not like

    async def test_a_directory_gets_younger_when_a_name_comes_or_goes(self, source: Source) -> None:
        """It has no time at all, so no scan takes it for unchanged; and it is there as long as a key is below it."""
        await self.fill({"d/file": b"1"})
        assert (await source.status("d")).version == (await source.status("")).version
        assert (await source.status("d")).modification_time == 0
        assert await source.status("d") in await entries_of(source, "")
        await self.remove("d/file")
        with pytest.raises(NotFound):
            await source.status("d")

    async def test_a_directory_keeps_its_time_otherwise(self, source: Source) -> None:
        await self.fill({"d/": b""})
        before = await source.status("d")
        await self.fill({"d/file": b"1"})
        assert await source.status("d") == before

    async def test_a_file_is_open_until_it_is_closed(self, source: Source) -> None:
        """An object is there whole, or not at all."""
        await self.fill({"closed": b"1"})
        async with self.writing("d/file", b"22"):
            assert not await source.is_open("closed")
            with pytest.raises(NotFound):
                await source.is_open("d/file")
        assert not await source.is_open("d/file")
        assert await read(source, "d/file", ByteRange(0, 2)) == b"22"

    async def assert_checksum(self, source: Source, path: str, body: bytes) -> None:
        checksum = await source.checksum(path)
        assert checksum in (
            None,
            FileChecksum("CRC32C", f"{crc32.iscsi(body):08x}"),
            FileChecksum("CRC64", f"{crc64.xz(body):016x}"),
        )
