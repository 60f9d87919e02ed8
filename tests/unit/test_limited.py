"""Bandwidth: what is asked for is what passes, on a clock of our own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from asynccopy.model import ByteRange
from asynccopy.storage import limited
from asynccopy.storage.limited import Bandwidth, LimitedSource
from asynccopy.storage.memory import MemorySource


class Clock:
    """Stands for loop.time and asyncio.sleep inside the module."""

    def __init__(self) -> None:
        self.now = 1000.0

    def get_running_loop(self) -> Clock:
        return self

    def time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(limited, "asyncio", clock)
    return clock


async def test_the_rate_is_kept_whatever_the_size_of_the_reads(clock: Clock) -> None:
    for size in (1, 100, 5000):
        bandwidth = Bandwidth(1000)
        began = clock.now
        for _ in range(10_000 // size):
            await bandwidth.take(size)
        assert 10 - 0.25 - size / 1000 <= clock.now - began + 1e-6 <= 10 + 1e-6


async def test_idle_time_is_not_saved_up(clock: Clock) -> None:
    bandwidth = Bandwidth(1000)
    clock.now += 3600
    began = clock.now
    for _ in range(100):
        await bandwidth.take(100)
    assert clock.now - began >= 9.5


async def test_readers_share_it_and_read_right(clock: Clock) -> None:
    source = LimitedSource(MemorySource({"a": bytes(range(200)) * 10, "b": b"x" * 2000}), Bandwidth(1000))
    began = clock.now
    for path in ("a", "b"):
        reader = await source.open(path, ByteRange(0, 2000))
        buffer, got = bytearray(300), b""
        while count := await reader.readinto(memoryview(buffer)):
            got += buffer[:count]
        reader.close()
        assert got == (bytes(range(200)) * 10 if path == "a" else b"x" * 2000)
    assert 3.4 <= clock.now - began <= 4


async def test_the_rest_passes_through() -> None:
    inner = MemorySource({"a/b": b"xy"})
    source = LimitedSource(inner, Bandwidth(1))
    assert (source.url, source.name) == (inner.url, inner.name)
    assert (await source.check()).is_directory
    assert await source.status("a/b") == await inner.status("a/b")
    assert await source.list("a") == await inner.list("a")
    assert await source.checksum("a/b") == await inner.checksum("a/b")
    assert await source.block_lengths("a/b") == await inner.block_lengths("a/b")
    await source.aclose()


async def test_cancelling_a_wait_leaves_others_alone() -> None:
    bandwidth = Bandwidth(100)
    await bandwidth.take(100)
    waiting: Callable[[], Awaitable[None]] = lambda: bandwidth.take(1)  # noqa: E731
    task = asyncio.ensure_future(waiting())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
