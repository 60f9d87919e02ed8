"""Sides in memory that a test can meddle with, and a part log in memory that yields to the loop as a real one does."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, cast

from asynccopy.errors import AsyncCopyError
from asynccopy.model import OpenUpload, PartReceipt
from asynccopy.retry import RetryPolicy
from asynccopy.storage.budget import Budget
from asynccopy.storage.interface import Capabilities, Destination, Source
from asynccopy.storage.memory import MemoryDestination, MemorySource
from asynccopy.storage.retrying import RetryingDestination, RetryingSource
from asynccopy.transfer.copy import Copier, Verify
from asynccopy.transfer.verify import Prover

QUICK = RetryPolicy(first=0.0001, most=0.001, patience=5)
MIB = 1 << 20

Step = Callable[[str, str, tuple[Any, ...]], Awaitable[None]]


class Wrapped:
    """Looks like the side it wraps. ``step(name, "before" | "after", args)`` goes around every call and read."""

    def __init__(self, inner: object, step: Step) -> None:
        self._inner = inner
        self._step = step

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if name not in _CALLS:
            return value

        async def call(*args: Any) -> Any:
            await self._step(name, "before", args)
            result = await value(*args)
            await self._step(name, "after", args)
            return _WrappedReader(result, self._step, args) if name == "open" else result

        return call


_CALLS = frozenset(
    {"check", "status", "list", "open", "checksum", "block_lengths", "put", "create_upload", "upload_part"}
    | {"complete_upload", "abort_upload", "list_uploads", "uploads_of", "head", "delete"}
)


class _WrappedReader:
    def __init__(self, reader: Any, step: Step, args: tuple[Any, ...]) -> None:
        self._reader = reader
        self._step = step
        self._args = args

    async def readinto(self, buffer: memoryview) -> int:
        await self._step("readinto", "before", self._args)
        count: int = await self._reader.readinto(buffer)
        await self._step("readinto", "after", (*self._args, buffer[:count]))
        return count

    def close(self) -> None:
        self._reader.close()


class MemoryLog:
    """A PartLog; every method gives the loop a turn before and after it works."""

    def __init__(self) -> None:
        self.kept: OpenUpload | None = None
        self.sent: Counter[int] = Counter()

    async def upload(self) -> OpenUpload | None:
        await asyncio.sleep(0)
        return self.kept

    async def begin_upload(self, upload: OpenUpload) -> None:
        await asyncio.sleep(0)
        self.kept = upload
        await asyncio.sleep(0)

    async def part_done(self, receipt: PartReceipt) -> None:
        await asyncio.sleep(0)
        assert self.kept is not None
        self.sent[receipt.number] += 1
        self.kept = OpenUpload(self.kept.upload_id, self.kept.part_size, self.kept.version, (*self.kept.parts, receipt))
        await asyncio.sleep(0)

    async def drop_upload(self) -> None:
        await asyncio.sleep(0)
        self.kept = None
        await asyncio.sleep(0)


class Bench:
    """A copier over two sides in memory, with what it noticed and how many readers were open at once."""

    def __init__(
        self,
        source: MemorySource,
        destination: MemoryDestination,
        step: Step | None = None,
        *,
        verify: Verify = "checksum",
        part_size: int | None = MIB,
        concurrency: int = 4,
        policy: RetryPolicy = QUICK,
        checksum: Any = "CRC32C",
    ) -> None:
        self.inner_source = source
        self.inner_destination = destination
        self.noticed: list[AsyncCopyError] = []
        self.calls: Counter[str] = Counter()
        self.moved = 0
        self.stop = asyncio.Event()
        self._extra = step
        self._side(verify, part_size, concurrency, policy, checksum)

    def _side(
        self, verify: Verify, part_size: int | None, concurrency: int, policy: RetryPolicy, checksum: Any
    ) -> None:
        self.source: Source = RetryingSource(
            cast("Source", Wrapped(self.inner_source, self._step)), policy, self._notice
        )
        self.destination: Destination = RetryingDestination(
            cast("Destination", Wrapped(self.inner_destination, self._step)), policy, self._notice
        )
        prover = Prover(self.source, self.destination, Capabilities(checksum), verify, policy, self._notice)
        self.budget = Budget(concurrency)
        self.copier = Copier(
            self.source,
            self.destination,
            prover,
            wanted_part_size=part_size,
            budget=self.budget,
            policy=policy,
            noticed=self._notice,
            moved=self._moved,
            stop=self.stop,
        )

    def _notice(self, error: AsyncCopyError, delay: float) -> None:
        self.noticed.append(error)

    def _moved(self, path: str, count: int) -> None:
        self.moved += count

    async def _step(self, name: str, when: str, args: tuple[Any, ...]) -> None:
        if when == "before":
            self.calls[name] += 1
        if self._extra is not None:
            await self._extra(name, when, args)

    async def copy(self, path: str, log: MemoryLog | None = None) -> Any:
        return await self.copier.copy(await self.inner_source.status(path), log or MemoryLog())
