"""Who gets which file, and how a whole is shared; no process is started."""

from __future__ import annotations

import asyncio
import os
from collections import deque

import pytest

from asynccopy.executors.backlog import Backlog
from asynccopy.executors.cores import default_processes
from asynccopy.executors.frames import SetUp
from asynccopy.executors.inline import InlineExecutor, Order
from asynccopy.executors.processes import ProcessExecutor, in_processes, shares
from asynccopy.executors.recipe import Recipe, Watch
from asynccopy.model import FileStatus
from asynccopy.retry import RetryPolicy
from asynccopy.storage.interface import Capabilities
from asynccopy.storage.memory import MemoryDestination, MemorySource
from asynccopy.storage.registry import NameNodes, Place, Settings
from tests.faults.wrapped import MemoryLog


def order(number: int) -> Order:
    return Order(number, FileStatus(f"f{number}", 1, 1), MemoryLog())


class Orderer:
    def __init__(self, *numbers: int) -> None:
        self.left = deque(numbers)
        self.asked = 0

    async def claim(self) -> Order | None:
        self.asked += 1
        await asyncio.sleep(0)
        return order(self.left.popleft()) if self.left else None


async def test_a_taker_waits_for_what_may_come_back() -> None:
    orderer = Orderer(1)
    backlog = Backlog(orderer.claim)
    flight = await backlog.take(alone=True)
    assert flight is not None
    waiting = asyncio.create_task(backlog.take(alone=True))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    backlog.give_back(flight)
    assert await waiting is flight
    ending = [asyncio.create_task(backlog.take(alone=True)) for _ in range(2)]
    await asyncio.sleep(0.01)
    assert not any(task.done() for task in ending)
    backlog.settled()
    assert [await task for task in ending] == [None, None]


async def test_a_settlement_may_bring_a_file_again() -> None:
    orderer = Orderer(1)
    backlog = Backlog(orderer.claim)
    assert await backlog.take(alone=True) is not None
    waiting = asyncio.create_task(backlog.take(alone=True))
    await asyncio.sleep(0.01)
    asked = orderer.asked
    await asyncio.sleep(0.01)
    assert orderer.asked == asked, "nothing was settled, so there is nothing to ask"
    orderer.left.append(1)
    backlog.settled()
    again = await waiting
    assert again is not None
    assert again.order.number == 1
    backlog.settled()
    assert await backlog.take(alone=True) is None


async def test_what_was_given_back_goes_first_and_can_be_withdrawn() -> None:
    backlog = Backlog(Orderer(1, 2, 3).claim)
    first, second = await backlog.take(alone=True), await backlog.take(alone=True)
    assert first is not None
    assert second is not None
    backlog.give_back(second)
    backlog.give_back(first)
    assert await backlog.take(alone=True) is second
    assert backlog.withdraw() == [first]
    third = await backlog.take(alone=True)
    assert third is not None
    assert third.order.number == 3


async def test_a_taker_that_is_cancelled_has_taken_nothing() -> None:
    found = asyncio.Event()
    orders = deque([1])

    async def claim() -> Order | None:
        await found.wait()
        return order(orders.popleft()) if orders else None

    backlog = Backlog(claim)
    waiting = asyncio.create_task(backlog.take(alone=True))
    await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.wait([waiting])
    found.set()
    assert await backlog.take(alone=True) is not None


async def test_a_suspect_goes_to_who_has_nothing_else() -> None:
    backlog = Backlog(Orderer(1, 2).claim)
    suspect, other = await backlog.take(alone=True), await backlog.take(alone=False)
    assert suspect is not None
    suspect.deaths = 2
    backlog.give_back(suspect)
    assert await backlog.take(alone=False) is None, "let go of your worker, then it is yours"
    assert await backlog.take(alone=True) is suspect
    waiting = [asyncio.create_task(backlog.take(alone=alone)) for alone in (True, False)]
    await asyncio.sleep(0.01)
    assert not any(task.done() for task in waiting)
    backlog.settled()
    backlog.settled()
    assert [await task for task in waiting] == [None, None]
    assert other is not None


# --- shares -------------------------------------------------------------------------------------------------------


def whole(concurrency: int, *, bandwidth: float | None = None, single: bool = False) -> SetUp:
    settings = Settings(concurrency=concurrency, bandwidth=bandwidth)
    recipe = Recipe(single, Capabilities("CRC32C"), "checksum", None, concurrency, False, RetryPolicy())
    return SetUp(Place("a", settings), Place("b", settings), recipe)


@pytest.mark.parametrize(("ranges", "count"), [(64, 2), (7, 3), (3, 3), (2, 8), (1, 4), (10_000, 64)])
def test_the_shares_are_the_whole(ranges: int, count: int) -> None:
    found = shares(whole(ranges, bandwidth=1e6), count)
    assert len(found) == min(ranges, count)
    each = [share.recipe.concurrency for share in found]
    assert sum(each) == ranges
    assert max(each) - min(each) <= 1
    rates = [share.source.settings.bandwidth for share in found]
    assert sum(rate or 0 for rate in rates) == pytest.approx(1e6)
    for share in found:
        assert share.source.settings.concurrency == share.destination.settings.concurrency == share.recipe.concurrency
        assert share.destination.settings.capabilities == Capabilities("CRC32C"), "a worker must not probe again"
        assert share.source.settings.bandwidth == pytest.approx(1e6 * share.recipe.concurrency / ranges)


def test_no_limit_stays_no_limit() -> None:
    assert [share.source.settings.bandwidth for share in shares(whole(4), 2)] == [None, None]


@pytest.mark.parametrize(
    ("concurrency", "single", "count", "kind"),
    [
        (64, False, 2, ProcessExecutor),
        (64, False, 1, InlineExecutor),
        (1, False, 4, InlineExecutor),
        (64, True, 4, InlineExecutor),
    ],
)
async def test_where_one_is_enough_there_is_no_process(concurrency: int, single: bool, count: int, kind: type) -> None:
    set_up = whole(concurrency, single=single)
    watch = Watch(lambda *_: None, lambda *_: None, asyncio.Event())
    build = in_processes(set_up.source, set_up.destination, count, NameNodes().lend)
    assert type(build(set_up.recipe, MemorySource(), MemoryDestination(), watch)) is kind


@pytest.mark.parametrize(("cores", "count"), [(1, 1), (2, 1), (3, 1), (4, 2), (7, 3), (8, 4), (16, 8), (128, 8)])
def test_the_default_is_by_the_cores(monkeypatch: pytest.MonkeyPatch, cores: int, count: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    assert default_processes() == count
