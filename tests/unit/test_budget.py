"""Places that are never lost and never handed out twice."""

from __future__ import annotations

import asyncio
import random

import pytest

from asynccopy.storage.budget import Budget


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_first_come_first_served() -> None:
    budget, order = Budget(1), []

    async def work(number: int) -> None:
        await budget.take()
        order.append(number)
        await asyncio.sleep(0)
        budget.give()

    async with asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(work(number))
    assert order == [0, 1, 2, 3, 4]
    assert budget.taken == 0


async def test_who_comes_later_does_not_pass_who_waits() -> None:
    budget = Budget(1)
    await budget.take()
    first = asyncio.create_task(budget.take())
    await settle()
    budget.give()  # handed to the one who waits, who has not run yet
    second = asyncio.create_task(budget.take())
    await settle()
    assert first.done()
    assert not second.done()
    budget.give()
    await second


async def test_a_raised_limit_lets_in_and_a_lowered_one_holds_for_the_next() -> None:
    budget = Budget(1)
    tasks = [asyncio.create_task(budget.take()) for _ in range(4)]
    await settle()
    assert budget.taken == 1
    budget.limit = 3
    await settle()
    assert budget.taken == 3
    budget.limit = 1
    budget.give()
    budget.give()
    await settle()
    assert budget.taken == 1
    assert not tasks[3].done()
    budget.give()
    await tasks[3]


@pytest.mark.parametrize("seed", range(20))
async def test_cancelled_at_any_moment_no_place_is_lost(seed: int) -> None:
    chance = random.Random(seed)
    budget, most, now = Budget(3), 0, 0

    async def work() -> None:
        nonlocal most, now
        await budget.take()
        try:
            now += 1
            most = max(most, now)
            for _ in range(chance.randrange(3)):
                await asyncio.sleep(0)
        finally:
            now -= 1
            budget.give()

    tasks = [asyncio.create_task(work()) for _ in range(40)]
    for _ in range(60):
        chance.choice(tasks).cancel()
        if chance.random() < 0.5:
            await asyncio.sleep(0)
    await asyncio.wait(tasks)
    assert budget.taken == 0
    assert most <= 3
