"""Bandwidth: what is asked for is what passes, on a clock of our own."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asynccopy.model import ByteRange, Change, FileStatus
from asynccopy.storage.interface import Snapshots, Source
from asynccopy.storage.limited import Bandwidth, FairQueue, LimitedSource, Share, Wish
from asynccopy.storage.memory import MemorySource

T = TypeVar("T")


class QuickLoop(asyncio.SelectorEventLoop):
    """Where nothing is to be done before a timer, it is that time already."""

    def __init__(self) -> None:
        self.now = 1000.0
        super().__init__(selectors.SelectSelector())
        ready = self._selector.select  # type: ignore[attr-defined]

        def select(timeout: float | None) -> Any:
            assert timeout is not None, "everybody waits for nothing"
            self.now += timeout
            return ready(0)

        self._selector.select = select  # type: ignore[attr-defined]

    def time(self) -> float:
        return self.now


def quickly(main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=QuickLoop) as runner:
        return runner.run(main)


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("size", [1, 100, 5000])
def test_the_rate_is_kept_whatever_the_size_of_the_reads(size: int) -> None:
    async def main() -> None:
        bandwidth, began = Bandwidth(1000), now()
        for _ in range(10_000 // size):
            await bandwidth.take(size)
        assert 10 - 0.25 - size / 1000 <= now() - began + 0.002 <= 10.003

    quickly(main())


def test_idle_time_is_not_saved_up() -> None:
    async def main() -> None:
        bandwidth = Bandwidth(1000)
        await bandwidth.take(1)
        await asyncio.sleep(3600)
        began = now()
        for _ in range(100):
            await bandwidth.take(100)
        assert now() - began >= 9.5

    quickly(main())


def test_no_limit_lets_everything_pass() -> None:
    async def main() -> None:
        bandwidth, began = Bandwidth(), now()
        for _ in range(1000):
            await bandwidth.take(1 << 40)
        assert now() == began

    quickly(main())


async def _take(bandwidth: Bandwidth | Share, count: int, size: int) -> float:
    for _ in range(count):
        await bandwidth.take(size)
    return now()


@pytest.mark.parametrize(("first", "then", "takes"), [(10.0, 1000.0, 10), (0.0, 1000.0, 10), (10.0, None, 0)])
def test_a_new_rate_holds_at_once_for_those_who_wait(first: float, then: float | None, takes: float) -> None:
    async def main() -> None:
        bandwidth = Bandwidth(first)
        async with asyncio.TaskGroup() as group:
            readers = [group.create_task(_take(bandwidth, 10, 100)) for _ in range(10)]
            await asyncio.sleep(100)
            changed = now()
            bandwidth.rate = then
        assert {reader.result() >= changed for reader in readers} == {True}
        spent = max(reader.result() for reader in readers) - changed
        assert spent == pytest.approx(takes, abs=1.5)
        assert bandwidth.rate == then

    quickly(main())


def test_standing_still_lasts_until_the_rate_changes() -> None:
    async def main() -> None:
        bandwidth = Bandwidth(1000)
        await bandwidth.take(100)
        bandwidth.rate = 0
        reader = asyncio.create_task(_take(bandwidth, 1, 1))
        await asyncio.sleep(12 * 3600)
        assert not reader.done()
        bandwidth.rate = 1000
        await asyncio.sleep(0)
        assert reader.done()

    quickly(main())


def test_a_pace_of_nothing_holds_what_has_not_begun_and_lets_the_rest_pass() -> None:
    async def main() -> None:
        bandwidth = Bandwidth(1000)
        share = bandwidth.share(1)
        await share.take(1000)
        bandwidth.pace(0)
        assert bandwidth.held and share.held
        began = now()
        await _take(bandwidth, 10, 100)
        assert now() - began == pytest.approx(1.5, abs=0.5)  # as fast as before
        bandwidth.pace(None)
        assert not share.held
        assert bandwidth.rate is None

    quickly(main())


def test_a_lower_rate_is_no_punishment_for_what_was_read_before() -> None:
    async def main() -> None:
        bandwidth = Bandwidth(1e9)
        await bandwidth.take(1 << 20)
        await asyncio.sleep(1)
        bandwidth.rate = 1000
        began = now()
        await _take(bandwidth, 10, 1000)
        assert now() - began <= 10.01
        bandwidth.rate = None
        await bandwidth.take(1 << 40)
        bandwidth.rate = 1000
        began = now()
        await _take(bandwidth, 2, 100)
        assert now() - began <= 0.2

    quickly(main())


@pytest.mark.parametrize("readers", [(1, 1), (8, 8), (64, 2)])
def test_two_who_are_hungry_share_by_weight(readers: tuple[int, int]) -> None:
    """However many readers each of them has."""

    async def main() -> None:
        bandwidth = Bandwidth(1 << 20)
        passed = [0, 0]

        async def read(share: Share, number: int) -> None:
            while True:
                await share.take(1 << 16)
                passed[number] += 1 << 16

        tasks = []
        for number, weight in enumerate((1, 3)):
            share = bandwidth.share(weight)
            tasks += [asyncio.create_task(read(share, number)) for _ in range(readers[number])]
        await asyncio.sleep(100)
        for task in tasks:
            task.cancel()
        assert sum(passed) == pytest.approx(100 << 20, rel=0.02)
        assert passed[1] / passed[0] == pytest.approx(3, rel=0.15)

    quickly(main())


def test_one_alone_gets_all_and_saves_nothing_up_for_the_other() -> None:
    async def main() -> None:
        bandwidth = Bandwidth(1000)
        light, heavy = bandwidth.share(1), bandwidth.share(9)
        began = now()
        await _take(light, 100, 100)
        assert now() - began == pytest.approx(10, abs=0.4)
        async with asyncio.TaskGroup() as group:
            began = now()
            lights = [group.create_task(_take(light, 10, 50)) for _ in range(4)]
            heavies = [group.create_task(_take(heavy, 10, 50)) for _ in range(4)]
        assert max(task.result() for task in heavies) - began == pytest.approx(2000 / 0.9 / 1000, abs=0.4)
        assert max(task.result() for task in lights) - began == pytest.approx(4, abs=0.4)

    quickly(main())


def test_who_comes_back_does_not_hold_up_the_other() -> None:
    async def main() -> None:
        bandwidth = Bandwidth(1000)
        busy, idle = bandwidth.share(1), bandwidth.share(1)
        await _take(busy, 100, 100)
        async with asyncio.TaskGroup() as group:
            began = now()
            tasks = [group.create_task(_take(share, 40, 50)) for share in (busy, idle) for _ in range(2)]
        assert [task.result() - began for task in tasks] == [pytest.approx(8, abs=0.5)] * 4

    quickly(main())


def test_what_was_cancelled_is_not_charged() -> None:
    async def main() -> None:
        bandwidth = Bandwidth(1000)
        await bandwidth.take(1000)
        one, other = bandwidth.share(1), bandwidth.share(1)
        for task in [asyncio.create_task(one.take(100)) for _ in range(100)]:
            await asyncio.sleep(0)
            task.cancel()
        async with asyncio.TaskGroup() as group:
            began = now()
            tasks = [group.create_task(_take(share, 20, 50)) for share in (one, other) for _ in range(2)]
        assert [task.result() - began for task in tasks] == [pytest.approx(4.75, abs=0.5)] * 4

    quickly(main())


@pytest.mark.parametrize("waiting", [False, True])
def test_a_debt_is_paid_at_the_rate_of_its_time(waiting: bool) -> None:
    async def main() -> None:
        bandwidth = Bandwidth(10)
        await bandwidth.take(100_000)
        reader = asyncio.create_task(_take(bandwidth, 1, 1)) if waiting else None
        await asyncio.sleep(1000)
        began = now()
        bandwidth.rate = 1000
        reader = reader or asyncio.create_task(_take(bandwidth, 1, 1))
        assert await reader - began == pytest.approx(90, abs=0.1)

    quickly(main())


def test_a_weight_may_change() -> None:
    async def main() -> None:
        bandwidth = Bandwidth(1000)
        one, other = bandwidth.share(1), bandwidth.share(1)
        async with asyncio.TaskGroup() as group:
            began = now()
            ones = [group.create_task(_take(one, 100, 10)) for _ in range(2)]
            others = [group.create_task(_take(other, 100, 10)) for _ in range(2)]
            one.weight = 4
        assert max(task.result() for task in ones) - began == pytest.approx(2.5, abs=0.4)
        assert max(task.result() for task in others) - began == pytest.approx(4, abs=0.4)

    quickly(main())


@settings(max_examples=50)
@given(st.lists(st.integers(1, 10), min_size=2, max_size=5), st.lists(st.integers(1, 100), min_size=1, max_size=20))
def test_what_is_served_is_what_the_weights_say(weights: list[int], sizes: list[int]) -> None:
    """Of shares that are all hungry all the time none is ever further from its due than two wishes."""
    queue, bandwidth = FairQueue(), Bandwidth()
    shares = [bandwidth.share(weight) for weight in weights]
    owners: dict[Wish, int] = {}
    served = [0.0] * len(shares)

    def wish(number: int, size: int) -> None:
        owners[made := Wish(size, None)] = number  # type: ignore[arg-type]  # nobody waits
        queue.push(shares[number], made)

    for number in range(len(shares)):
        wish(number, sizes[0])
    for turn in range(300):
        done = queue.pop()
        number = owners.pop(done)
        served[number] += done.size
        wish(number, sizes[turn % len(sizes)])
    clocks = [amount / weight for amount, weight in zip(served, weights, strict=True)]
    assert max(clocks) - min(clocks) <= 2 * max(sizes)


def test_cancelling_a_wait_leaves_others_alone() -> None:
    async def main() -> None:
        bandwidth = Bandwidth(100)
        await bandwidth.take(100)
        began = now()
        cancelled = [asyncio.create_task(bandwidth.take(1000)) for _ in range(3)]
        waiting = asyncio.create_task(_take(bandwidth, 1, 1))
        await asyncio.sleep(0)
        for task in cancelled:
            task.cancel()
        assert await waiting - began == pytest.approx(0.75, abs=0.01)
        assert [task.cancelled() for task in cancelled] == [True] * 3

    quickly(main())


def test_what_was_let_pass_in_the_moment_of_cancelling_is_given_back() -> None:
    async def main() -> None:
        for order in (0, 1):
            bandwidth = Bandwidth(0)
            waiting = asyncio.create_task(bandwidth.take(1_000_000))
            await asyncio.sleep(0)
            if order:
                waiting.cancel()
                bandwidth.rate = 100
            else:
                bandwidth.rate = 100
                waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            began = now()
            await _take(bandwidth, 2, 10)
            assert now() - began <= 0.2

    quickly(main())


class Snapshotted(MemorySource):
    """A source with one snapshot, ``then``, in which ``a`` has 2000 bytes."""

    async def is_open(self, path: str) -> bool:
        return path == "a"

    @property
    def snapshots(self) -> Snapshots | None:
        return Past()


class Past:
    def __init__(self) -> None:
        self.calls: list[str] = []

    async def names(self) -> list[str] | None:
        return ["then"]

    async def create(self, name: str) -> None:
        raise RuntimeError(f"create {name}")

    async def delete(self, name: str) -> None:
        raise RuntimeError(f"delete {name}")

    def at(self, name: str) -> Source:
        return MemorySource({"a": b"y" * 2000})

    async def diff(self, older: str, newer: str) -> AsyncIterator[Sequence[Change]]:
        yield [Change("create", older, newer)]


async def _read(source: Source, path: str, length: int) -> bytes:
    reader = await source.open(path, ByteRange(0, length))
    buffer, got = bytearray(300), b""
    while count := await reader.readinto(memoryview(buffer)):
        got += buffer[:count]
    reader.close()
    return got


def test_readers_share_it_and_read_right() -> None:
    async def main() -> None:
        source = LimitedSource(MemorySource({"a": bytes(range(200)) * 10, "b": b"x" * 2000}), [Bandwidth(1000)])
        began = now()
        assert await _read(source, "a", 2000) == bytes(range(200)) * 10
        assert await _read(source, "b", 2000) == b"x" * 2000
        assert 3.4 <= now() - began <= 4.01

    quickly(main())


def test_a_read_passes_when_all_let_it() -> None:
    async def main() -> None:
        for rates in ((1000, 4000, None), (None, 4000, 1000), (4000, 1000, 2000)):
            whole = [Bandwidth(rate) for rate in rates]
            source = LimitedSource(MemorySource({"a": b"x" * 8000}), [whole[0], whole[1].share(3), whole[2]])
            began = now()
            await _read(source, "a", 8000)
            assert now() - began == pytest.approx(8, abs=0.6)

    quickly(main())


def test_a_frozen_tree_is_limited_by_the_same() -> None:
    async def main() -> None:
        bandwidth = Bandwidth(1000)
        source = LimitedSource(Snapshotted({"a": b"x" * 2000}), [bandwidth])
        assert source.snapshots is not None
        began = now()
        assert await _read(source.snapshots.at("then"), "a", 2000) == b"y" * 2000
        assert await _read(source, "a", 2000) == b"x" * 2000
        assert 3.4 <= now() - began <= 4.01

    quickly(main())


async def test_the_rest_passes_through() -> None:
    inner = Snapshotted({"a/b": b"xy"})
    source = LimitedSource(inner, [Bandwidth(1)])
    assert (source.url, source.name) == (inner.url, inner.name)
    root: FileStatus = await source.check()
    assert root.is_directory
    assert await source.status("a/b") == await inner.status("a/b")
    assert await source.list("a") == await inner.list("a")
    assert await source.checksum("a/b") == await inner.checksum("a/b")
    assert await source.block_lengths("a/b") == await inner.block_lengths("a/b")
    assert [await source.is_open(path) for path in ("a", "b")] == [True, False]
    snapshots = source.snapshots
    assert snapshots is not None
    assert await snapshots.names() == ["then"]
    assert [page async for page in snapshots.diff("x", "y")] == [[Change("create", "x", "y")]]
    calls: list[Callable[[str], Coroutine[Any, Any, None]]] = [snapshots.create, snapshots.delete]
    for call in calls:
        with pytest.raises(RuntimeError, match="then"):
            await call("then")
    await source.aclose()


def test_no_snapshots_stay_none() -> None:
    class Bare(MemorySource):
        @property
        def snapshots(self) -> Snapshots | None:
            return None

    assert LimitedSource(Bare({}), []).snapshots is None
