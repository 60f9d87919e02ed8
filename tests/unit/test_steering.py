"""The search for the right number of ranges, against plants of every shape."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from asynccopy.executors import steering
from asynccopy.executors.steering import LEVELS, Steering, steer
from asynccopy.storage.budget import Budget


class Gauge:
    amount = troubles = 0


Plant = Callable[[int], float]


def knee(at: float, *, fall: float = 0.0) -> Plant:
    """Rises in proportion up to a knee; beyond it every doubling loses ``fall``."""

    def rate(limit: int) -> float:
        if limit <= at:
            return 1000.0 * limit / at
        doublings = (limit / at - 1) ** 0.5
        return 1000.0 * max(0.05, 1 - fall * doublings)

    return rate


PLANTS: dict[str, Plant] = {
    "big files on one machine": knee(6, fall=0.2),
    "small files": knee(40),
    "small files behind 50 ms": knee(700),
    "one is best": knee(1, fall=0.15),
    "flat": lambda limit: 1000.0,
    "soft": lambda limit: 1000.0 * limit / (limit + 20),
}


def run(steering: Steering, plant: Plant, windows: int, noise: float, seed: int) -> list[tuple[int, float]]:
    chance = random.Random(seed)
    seen = []
    for _ in range(windows):
        limit = steering.limit
        seen.append((limit, plant(limit)))
        steering.judge(plant(limit) * chance.gauss(1, noise), trouble=False)
    return seen


@pytest.mark.parametrize("name", PLANTS)
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_nine_tenths_of_the_best_are_found(name: str, noise: float) -> None:
    plant = PLANTS[name]
    best = max(plant(level) for level in LEVELS)
    for seed in range(20):
        seen = run(Steering(1024), plant, 150, noise, seed)
        later = [rate for _, rate in seen[20:]]
        share = 0.85 if name == "soft" else 0.9  # its best needs eight times the ranges for the last eighth
        assert sum(later) / len(later) >= share * best, (seed, [limit for limit, _ in seen])


def test_no_more_than_is_useful() -> None:
    """Where more brings nothing, fewer are taken."""
    limits = [limit for limit, _ in run(Steering(1024), PLANTS["flat"], 200, 0.02, 1)]
    assert sum(limits[100:]) / 100 <= 16


def test_the_plant_may_change() -> None:
    steering = Steering(1024)
    run(steering, knee(6, fall=0.2), 60, 0.03, 1)
    assert steering.limit <= 12
    seen = run(steering, knee(200), 300, 0.03, 2)
    assert seen[-1][1] >= 850


@pytest.mark.parametrize("most", [1, 2, 5, 16, 100, 1024, 10_000])
def test_never_out_of_bounds(most: int) -> None:
    chance = random.Random(most)
    steering = Steering(most)
    for _ in range(2000):
        assert 1 <= steering.limit <= most
        steering.judge(chance.expovariate(1), trouble=chance.random() < 0.05)


def test_trouble_is_fled_and_not_sought_again_at_once() -> None:
    steering = Steering(256)
    while steering.limit < 64:
        steering.judge(steering.limit, trouble=False)
    worst = steering.limit
    steering.judge(0, trouble=True)
    assert steering.limit <= worst // 2
    for _ in range(20):
        assert steering.judge(steering.limit, trouble=False) < worst
    for _ in range(60):
        steering.judge(steering.limit, trouble=False)
    assert steering.limit >= worst


async def test_steering_sets_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steering, "WINDOW", 0.02)
    budget, other, gauge = Budget(64), Budget(64), Gauge()

    async def work() -> None:
        while True:
            await budget.take()
            await asyncio.sleep(0.002)
            gauge.amount += 1
            budget.give()

    workers = [asyncio.create_task(work()) for _ in range(80)]
    steered = asyncio.create_task(steer((budget, other), gauge))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert budget.limit == 16
    for _ in range(200):
        await asyncio.sleep(0.02)
        if budget.limit > 32:
            break
    assert budget.limit > 32
    assert other.limit == budget.limit
    for task in (*workers, steered):
        task.cancel()
    await asyncio.wait((*workers, steered))


async def test_without_enough_to_do_nothing_is_concluded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steering, "WINDOW", 0.01)
    budget = Budget(64)
    await budget.take()
    steered = asyncio.create_task(steer((budget,), Gauge()))
    await asyncio.sleep(0.2)
    assert budget.limit == 16
    steered.cancel()
    await asyncio.wait((steered,))
