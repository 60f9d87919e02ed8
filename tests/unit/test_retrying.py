"""Broken reads go on where they broke; what may not be repeated is not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asynccopy.errors import (
    AsyncCopyError,
    ConnectionLost,
    NotFound,
    SourceChanged,
    Stalled,
    Throttled,
    Unreachable,
    WrongServer,
)
from asynccopy.model import ByteRange
from asynccopy.retry import RetryPolicy
from asynccopy.storage.interface import Reader
from asynccopy.storage.memory import MemoryDestination, MemorySource
from asynccopy.storage.retrying import RetryingDestination, RetryingSource, Trouble

POLICY = RetryPolicy(first=0.0001, most=0.0002, patience=30)
BODY = bytes(range(251)) * 40


class Breaking(MemorySource):
    """Every read breaks after as many bytes as ``breaks`` says next, until there are no more breaks."""

    def __init__(self, breaks: list[int], error: type[AsyncCopyError] = ConnectionLost) -> None:
        super().__init__({"f": BODY})
        self.breaks = breaks
        self.error = error
        self.asked: list[ByteRange] = []
        self.closed = 0

    async def open(self, path: str, range: ByteRange) -> Reader:  # type: ignore[override]
        self.asked.append(range)
        return _BreakingReader(self, await super().open(path, range))


class _BreakingReader:
    def __init__(self, source: Breaking, reader: Reader) -> None:
        self._source = source
        self._reader = reader
        self._left = source.breaks.pop(0) if source.breaks else None

    async def readinto(self, buffer: memoryview) -> int:
        if self._left is None:
            return await self._reader.readinto(buffer)
        if len(buffer) <= self._left:
            self._left -= len(buffer)
            return await self._reader.readinto(buffer)
        error = self._source.error("broken")
        if self._left:
            count = await self._reader.readinto(buffer[: self._left])
            if hasattr(error, "received"):
                error.received = count
        raise error

    def close(self) -> None:
        self._source.closed += 1
        self._reader.close()


async def read(source: RetryingSource, range: ByteRange, size: int) -> bytes:
    reader = await source.open("f", range)
    got, buffer = b"", bytearray(size)
    while count := await reader.readinto(memoryview(buffer)):
        got += buffer[:count]
        assert count == size or len(got) == range.length
    reader.close()
    return got


@given(
    st.lists(st.integers(0, 3000), max_size=6),
    st.integers(1, 4000),
    st.integers(0, len(BODY) - 1),
    st.integers(0, len(BODY)),
)
@settings(max_examples=80, deadline=None)
async def test_a_read_goes_on_at_the_broken_byte(breaks: list[int], size: int, offset: int, length: int) -> None:
    range = ByteRange(offset, min(length, len(BODY) - offset))
    inner = Breaking(list(breaks))
    noticed: list[AsyncCopyError] = []
    got = await read(RetryingSource(inner, POLICY, lambda error, delay: noticed.append(error)), range, size)
    assert got == BODY[range.offset : range.end]
    # Nothing was asked for twice: every opening begins where the former one broke, and ends where the range does.
    at = range.offset
    for asked, broke in zip(inner.asked, [*breaks, None], strict=False):
        assert asked == ByteRange(at, range.end - at)
        at += broke or 0
    assert inner.closed == len(inner.asked)


async def test_progress_renews_patience_and_standing_still_does_not() -> None:
    inner = Breaking([10] * 200)
    impatient = RetryPolicy(first=0.001, most=0.001, patience=0.05)
    assert await read(RetryingSource(inner, impatient, lambda *_: None), ByteRange(0, len(BODY)), 4096) == BODY
    inner = Breaking([0] * 100_000)
    with pytest.raises(ConnectionLost):
        await read(RetryingSource(inner, impatient, lambda *_: None), ByteRange(0, len(BODY)), 4096)
    assert inner.closed == len(inner.asked)


@pytest.mark.parametrize("error", [NotFound, SourceChanged, WrongServer])
async def test_permanent_errors_come_out_at_once(error: type[AsyncCopyError]) -> None:
    inner = Breaking([5], error)
    with pytest.raises(error):
        await read(RetryingSource(inner, POLICY, lambda *_: None), ByteRange(0, 100), 64)
    assert len(inner.asked) == inner.closed == 1


async def test_calls_are_tried_again_and_told() -> None:
    failures = [ConnectionLost("1"), Unreachable("2"), Stalled("3")]

    class Flaky(MemorySource):
        async def status(self, path: str):  # type: ignore[no-untyped-def]  # noqa: ANN202
            if failures:
                raise failures.pop(0)
            return await super().status(path)

    noticed: list[str] = []
    source = RetryingSource(Flaky({"f": b"x"}), POLICY, lambda error, delay: noticed.append(str(error)))
    assert (await source.status("f")).length == 1
    assert noticed == ["1", "2", "3"]


async def test_check_part_and_completion_are_not_repeated_by_the_wrapper() -> None:
    calls: list[str] = []

    class Dead(MemoryDestination):
        def __getattribute__(self, name: str) -> object:
            if name in ("check", "upload_part", "complete_upload"):

                async def dead(*args: object) -> None:
                    calls.append(name)
                    raise ConnectionLost(name)

                return dead
            return super().__getattribute__(name)

    destination = RetryingDestination(Dead(), POLICY, lambda *_: None)
    for call in (
        destination.check(),
        destination.upload_part("k", "u", 1, 0, None),  # type: ignore[arg-type]
        destination.complete_upload("k", "u", [], 0),
    ):
        with pytest.raises(ConnectionLost):
            await call
    assert calls == ["check", "upload_part", "complete_upload"]


async def test_a_store_that_throttles_takes_nothing_off_patience() -> None:
    told: list[AsyncCopyError] = []
    trouble = Trouble(RetryPolicy(first=0.0001, patience=0.0), lambda error, delay: told.append(error))
    for _ in range(100):
        await trouble.wait(Throttled("slow down"))
    assert len(told) == 100
    with pytest.raises(ConnectionLost):
        await trouble.wait(ConnectionLost("gone"))
