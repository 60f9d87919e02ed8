"""How many workers copy at once on this loop, and when they begin."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from asynccopy.executors.inline import InlineExecutor, Order
from asynccopy.model import Evidence, FileStatus
from asynccopy.storage.budget import Budget
from asynccopy.transfer.copy import Copied, Copier


class Copies:
    """Holds every copy back until as many as ``together`` are under way."""

    def __init__(self, together: int) -> None:
        self._all = asyncio.Barrier(together)

    async def copy(self, status: FileStatus, log: Any) -> Copied:
        await self._all.wait()
        return Copied(Evidence("none"))

    def ended(self) -> None:
        pass


def workers() -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task.get_name().startswith("copy worker")]


@pytest.mark.parametrize(("orders", "most"), [(0, 1), (1, 2), (3, 4), (8, 8)])
async def test_as_many_workers_begin_as_there_is_work_for(orders: int, most: int) -> None:
    copies, begun = Copies(max(orders, 1)), 0
    left, settled = list(range(orders)), []

    async def claim() -> Order | None:
        nonlocal begun
        begun = max(begun, len(workers()))
        await asyncio.sleep(0)
        return Order(left.pop(), FileStatus("f", 1, 0), cast("Any", None)) if left else None

    async def settle(order: Order, result: object) -> None:
        assert isinstance(result, Copied)
        settled.append(order.number)

    async with asyncio.timeout(5):  # all of the orders are under way at once, or none ends
        await InlineExecutor(cast("Copier", copies), Budget(8), copies, None).run(claim, settle)
    assert sorted(settled) == list(range(orders))
    assert begun == most
