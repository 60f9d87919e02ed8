"""Cancelled at every step of the event loop: nothing half-done shows, nothing is lost, then it finishes."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from fastcrc.crc32 import iscsi

from asynccopy.storage.interface import UploadLimits
from asynccopy.storage.memory import MemoryDestination, MemorySource
from asynccopy.transfer.uploads import is_known
from tests.faults.wrapped import MIB, Bench, MemoryLog

SMALL = random.Random(1).randbytes(300_000)
LARGE = random.Random(2).randbytes(2 * MIB + 12_345)  # three parts
OLD = b"the former object"


async def yielding(name: str, when: str, args: tuple[Any, ...]) -> None:
    await asyncio.sleep(0)


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "3 parts"])
@pytest.mark.parametrize("concurrency", [1, 4])
async def test_cancelled_after_every_step(body: bytes, concurrency: int) -> None:
    me = asyncio.current_task()
    outcomes = set()
    for steps in range(1000):
        source = MemorySource({"f": body}, block_size=MIB)
        destination = MemoryDestination(limits=UploadLimits(min_part=64 * 1024))
        await destination.put("f", OLD, iscsi(OLD))
        bench = Bench(source, destination, yielding, concurrency=concurrency)
        log = MemoryLog()
        task = asyncio.create_task(bench.copy("f", log))
        for _ in range(steps):
            await asyncio.sleep(0)
        finished = task.done()
        task.cancel()
        await asyncio.wait([task])
        assert asyncio.all_tasks() == {me}, "a task was left"
        assert bench.budget.taken == 0
        assert destination.objects["f"] in (OLD, body)
        assert finished or task.cancelled() or destination.objects["f"] == body
        outcomes.add(destination.objects["f"] == body)
        # Every upload is in the log by its id, or the log holds the intent and the next run looks it up.
        uploads = [name for _, name in await destination.list_uploads("")]
        assert len(uploads) <= 1
        if uploads:
            assert log.kept is not None
            assert not is_known(log.kept.upload_id) or log.kept.upload_id == uploads[0]
        again = Bench(source, destination, concurrency=concurrency)
        sent = set(log.sent)
        await again.copy("f", log)
        assert destination.objects == {"f": body}
        if not finished:
            assert again.calls["upload_part"] <= 3 - len(sent) or not uploads
        left = await destination.list_uploads("")
        assert left == []
        if finished:
            break
    else:
        pytest.fail("never came to its end")
    assert outcomes == {True, False}
