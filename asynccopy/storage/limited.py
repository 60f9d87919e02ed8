"""Bandwidth, as a wrapper around a Source: what is not read faster is not written faster either."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from asynccopy.model import ByteRange, FileChecksum, FileStatus, ListPage
from asynccopy.storage.interface import Reader, Source


class Bandwidth:
    """A token bucket of ``rate`` bytes per second that lets a quarter of a second's worth pass at once.

    It may be overdrawn: a read larger than the bucket passes, and the next ones wait for it.
    """

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._free_at = 0.0

    async def take(self, size: int) -> None:
        now = asyncio.get_running_loop().time()
        start = max(self._free_at, now - 0.25)
        self._free_at = start + size / self.rate
        if start > now:
            await asyncio.sleep(start - now)


class LimitedSource:
    """A Source whose readers share a bandwidth."""

    def __init__(self, source: Source, bandwidth: Bandwidth) -> None:
        self._source = source
        self._bandwidth = bandwidth
        self.url = source.url
        self.name = source.name

    async def check(self) -> FileStatus:
        return await self._source.check()

    async def status(self, path: str) -> FileStatus:
        return await self._source.status(path)

    async def list(self, path: str, after: str = "") -> ListPage:
        return await self._source.list(path, after)

    async def open(self, path: str, range: ByteRange) -> Reader:
        return _LimitedReader(await self._source.open(path, range), range.length, self._bandwidth)

    async def checksum(self, path: str) -> FileChecksum | None:
        return await self._source.checksum(path)

    async def block_lengths(self, path: str) -> Sequence[int] | None:
        return await self._source.block_lengths(path)

    async def aclose(self) -> None:
        await self._source.aclose()


class _LimitedReader:
    __slots__ = ("_bandwidth", "_left", "_reader")

    def __init__(self, reader: Reader, length: int, bandwidth: Bandwidth) -> None:
        self._reader = reader
        self._left = length
        self._bandwidth = bandwidth

    async def readinto(self, buffer: memoryview) -> int:
        await self._bandwidth.take(min(len(buffer), self._left))
        count = await self._reader.readinto(buffer)
        self._left -= count
        return count

    def close(self) -> None:
        self._reader.close()
