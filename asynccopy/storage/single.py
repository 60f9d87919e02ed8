"""A single file as a legal source."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from asynccopy.model import ByteRange, FileChecksum, FileStatus, FileVersion, ListPage
from asynccopy.storage.interface import Original, Originals, Reader, Source


class SingleFile:
    """Shows a source whose root is a file as a directory that holds just that file, under its own name."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.url = source.url
        self.name = source.name

    async def check(self) -> FileStatus:
        return await self._source.check()

    async def status(self, path: str) -> FileStatus:
        return _renamed(await self._source.status(""), path)

    async def list(self, path: str, after: str = "") -> ListPage:
        return ListPage([_renamed(await self._source.status(""), self.name)], None)

    async def open(self, path: str, range: ByteRange) -> Reader:
        return await self._source.open("", range)

    async def checksum(self, path: str) -> FileChecksum | None:
        return await self._source.checksum("")

    async def block_lengths(self, path: str) -> Sequence[int] | None:
        return await self._source.block_lengths("")

    async def is_open(self, path: str) -> bool:
        return await self._source.is_open("")

    @property
    def snapshots(self) -> None:
        return None

    @property
    def originals(self) -> Originals | None:
        originals = self._source.originals
        return None if originals is None else _SingleOriginal(originals)

    async def aclose(self) -> None:
        await self._source.aclose()


class _SingleOriginal:
    def __init__(self, originals: Originals) -> None:
        self._originals = originals
        self.store = originals.store

    async def original(self, path: str, version: FileVersion) -> Original:
        return await self._originals.original("", version)


def _renamed(status: FileStatus, path: str) -> FileStatus:
    return replace(status, path=path)
