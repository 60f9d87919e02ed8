"""Cancelled at every step over real sockets: no task, no busy connection, no half object, then it finishes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, NamedTuple

import pytest

from asynccopy.config.cluster import Cluster
from asynccopy.simulators import S3Simulator, TreeNamespace, WebHdfsSimulator
from asynccopy.storage.budget import Budget
from asynccopy.storage.registry import Settings, open_destination, open_source
from asynccopy.storage.retrying import RetryingDestination, RetryingSource
from asynccopy.transfer.copy import Copier
from asynccopy.transfer.uploads import is_known
from asynccopy.transfer.verify import Prover
from tests.faults.forms import Form, speak
from tests.faults.wrapped import QUICK, MemoryLog

MIB = 1 << 20
SMALL = random.Random(1).randbytes(100_000)
LARGE = random.Random(2).randbytes(10 * MIB + 12_345)  # three parts


class World(NamedTuple):
    hdfs: WebHdfsSimulator
    s3: S3Simulator
    source: Any
    destination: Any
    capabilities: Any

    def copier(self) -> tuple[Copier, Budget]:
        budget = Budget(2)
        source = RetryingSource(self.source, QUICK, lambda *_: None)
        destination = RetryingDestination(self.destination, QUICK, lambda *_: None)
        prover = Prover(source, destination, self.capabilities, "checksum", QUICK, lambda *_: None)
        copier = Copier(
            source,
            destination,
            prover,
            wanted_part_size=5 * MIB,
            budget=budget,
            policy=QUICK,
            noticed=lambda *_: None,
            moved=lambda *_: None,
            stop=asyncio.Event(),
        )
        return copier, budget

    def doors(self) -> list[Any]:
        return [self.source._client._names, self.source._client._data, self.destination._client._door]


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "simulator")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "simulator-secret")
    tree = TreeNamespace(block_size=5 * MIB)
    tree.put("/small", SMALL)
    tree.put("/large", LARGE)
    async with WebHdfsSimulator(tree) as hdfs, S3Simulator(["bucket"]) as s3:
        settings = Settings(s3_endpoint=s3.url, s3_region="us-east-1", cluster=Cluster(user="me"))
        async with (
            aclosing(open_source(hdfs.url.replace("http", "webhdfs") + "/", settings)) as source,
            aclosing(open_destination("s3://bucket", settings)) as destination,
        ):
            yield World(hdfs, s3, source, destination, await destination.check())


async def stored(world: World, key: str) -> bytes | None:
    found = world.s3.buckets["bucket"].objects.get(key)
    return None if found is None else b"".join([piece async for piece in found.read(0, found.size)])


@pytest.mark.parametrize(
    ("path", "body", "stride", "form"),
    [
        ("small", SMALL, 1, "declared"),
        ("small", SMALL, 1, "chunked"),
        ("small", SMALL, 1, "HTTP/1.0"),
        ("large", LARGE, 19, "declared"),
        ("large", LARGE, 37, "chunked"),
    ],
)
async def test_cancelled_after_every_step(
    world: World, path: str, body: bytes, stride: int, form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    speak(form, monkeypatch)
    status = await world.source.status(path)
    bucket = world.s3.buckets["bucket"]
    steps, finished, rounds = 0, False, 0
    while not finished:
        log = MemoryLog()
        copier, budget = world.copier()
        task = asyncio.create_task(copier.copy(status, log))
        for _ in range(steps):
            await asyncio.sleep(0)
            if task.done():
                break
        finished = task.done()
        task.cancel()
        await asyncio.wait([task])
        assert not [t for t in asyncio.all_tasks() if t.get_name().startswith("part ")]
        assert budget.taken == 0
        for door in world.doors():
            assert not door.pool.busy, "a connection is still in use"
        assert await stored(world, path) in (None, body)
        if finished:
            task.result()
        # What the server has begun because of us it may finish after us.
        for upload_id in bucket.uploads:
            assert log.kept is not None
            assert not is_known(log.kept.upload_id) or log.kept.upload_id == upload_id
        await world.copier()[0].copy(status, log)
        assert await stored(world, path) == body
        assert bucket.uploads == {}
        bucket.delete(path)
        steps += stride
        rounds += 1
    assert rounds > 5


@pytest.mark.parametrize("after", [0.0, 0.003, 0.01, 0.02, 0.04, 0.08])
async def test_cancelled_after_a_time(world: World, after: float) -> None:
    """As a user does it, at whatever byte."""
    status = await world.source.status("large")
    log = MemoryLog()
    task = asyncio.create_task(world.copier()[0].copy(status, log))
    await asyncio.sleep(after)
    task.cancel()
    await asyncio.wait([task])
    for door in world.doors():
        assert not door.pool.busy
    await world.copier()[0].copy(status, log)
    assert await stored(world, "large") == LARGE
    assert world.s3.buckets["bucket"].uploads == {}
