"""What is too large for one copying request is copied in parts, by an upload that is in the log before it is used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from msgspec.structs import replace

from asynccopy.errors import ChecksumMismatch, Interrupted, SourceChanged
from asynccopy.executors.recipe import Recipe, Watch, copier, retrying_source
from asynccopy.model import FileStatus, OpenUpload
from asynccopy.retry import RetryPolicy
from asynccopy.simulators.faults import Fault, LostReply, OtherCrc64, Status
from asynccopy.simulators.oss import OssSimulator
from asynccopy.simulators.s3 import S3Simulator
from asynccopy.simulators.store import joined_crc64
from asynccopy.storage.bucket import Bucket
from asynccopy.storage.budget import Budget
from asynccopy.storage.retrying import RetryingDestination
from asynccopy.transfer.copy import Copied, Copier
from asynccopy.transfer.in_store import COPIED
from tests.faults.wrapped import MemoryLog
from tests.storage.test_object_sources import Simulator, destination_of, source_of
from tests.suites.destination import listed, put
from tests.suites.source import noise

SIZE = 2_500_001
STEP = 1_000_000
NOT_IMPLEMENTED = Status(501, b"<Error><Code>NotImplemented</Code></Error>")
SIMULATORS = {
    "s3": lambda: S3Simulator(["bucket"], min_part=1),
    "weak s3": lambda: S3Simulator(["bucket"], min_part=1, weak=True),
    "oss": lambda: OssSimulator(["bucket"], min_part=1),
}


class Bench:
    """A copier from ``bucket/from`` to ``bucket/to``, whose store copies no more than ``STEP`` bytes by one request."""

    def __init__(self, simulator: Simulator, destination: Bucket, copying: Copier, stop: asyncio.Event) -> None:
        self.simulator = simulator
        self.destination = destination
        self.copying = copying
        self.stop = stop
        self.log = MemoryLog()
        self.moved = 0

    async def status(self) -> FileStatus:
        async with aclosing(source_of(self.simulator, "from")) as source:
            return await source.status("file")

    async def copy(self, status: FileStatus | None = None) -> Copied:
        return await self.copying.copy(status or await self.status(), self.log)

    async def begun(self) -> OpenUpload:
        """An upload as a killed run leaves it."""
        assert self.destination.copies is not None
        status = await self.status()
        upload = OpenUpload(await self.destination.copies.begin("to/file"), COPIED, status.version)
        await self.log.begin_upload(upload)
        return upload

    def held(self, key: str) -> int:
        return joined_crc64(self.simulator.buckets["bucket"].objects[key].bodies)


@pytest.fixture(params=SIMULATORS)
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with SIMULATORS[request.param]() as simulator:
        source, destination = source_of(simulator, "from"), destination_of(simulator)
        assert isinstance(destination, Bucket)
        destination.prefix = "to/"
        await put(destination, "from/file", noise(SIZE))
        capabilities = await destination.check()
        destination.limits = replace(destination.limits, max_part=STEP, min_part=1)
        policy, stop = RetryPolicy(first=0.001, most=0.01, patience=2), asyncio.Event()
        recipe = Recipe(False, capabilities, "checksum", STEP, 4, False, policy)
        holder: list[Bench] = []

        def moved(path: str, size: int) -> None:
            holder[0].moved += size

        watch = Watch(lambda error, delay: None, moved, stop)
        reading = retrying_source(source, False, policy, watch.noticed)
        copying = copier(recipe, reading, RetryingDestination(destination, policy, watch.noticed), watch, Budget(4))
        holder.append(Bench(simulator, destination, copying, stop))
        yield holder[0]
        await source.aclose()
        await destination.aclose()


async def test_parts_are_copied_and_the_whole_is_proven(bench: Bench) -> None:
    copied = await bench.copy()
    assert copied.in_store
    assert copied.evidence.source == copied.evidence.object != ""
    assert bench.simulator.counts["UploadPartCopy"] == 3
    assert bench.moved == SIZE
    assert bench.held("to/file") == bench.held("from/file")


async def test_a_lost_reply_to_the_completion(bench: Bench) -> None:
    bench.simulator.faults.append(Fault(LostReply(), "CompleteMultipartUpload", path="/to/"))
    assert (await bench.copy()).in_store
    assert await bench.destination.list_uploads("to/") == []


async def test_what_was_killed_in_the_middle_is_aborted_and_begun_anew(bench: Bench) -> None:
    bench.simulator.faults.append(Fault(Status(503), "UploadPartCopy", part=3, times=None))
    task = asyncio.create_task(bench.copy())
    while bench.simulator.counts["UploadPartCopy"] < 3:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bench.moved == 0
    assert bench.log.kept is not None
    [(_, left)] = await bench.destination.list_uploads("to/")
    assert bench.log.kept.upload_id == left, "the id is known from the log"
    bench.simulator.faults.clear()
    assert (await bench.copy()).in_store
    assert await bench.destination.list_uploads("to/") == []


async def test_after_a_kill_an_upload_of_copied_parts_is_not_gone_on_with_by_reading(bench: Bench) -> None:
    bench.simulator.faults.append(Fault(NOT_IMPLEMENTED, "UploadPartCopy", times=None))
    for _ in range(2):  # when the store refuses, and when that is known
        await bench.begun()
        copied = await bench.copy()
        assert (copied.in_store, copied.resumed_parts) == (False, 0)
        assert await bench.destination.list_uploads("to/") == []
        assert bench.held("to/file") == bench.held("from/file")
    assert bench.simulator.counts["UploadPartCopy"] <= 4


async def test_parts_that_were_sent_before_are_gone_on_with(bench: Bench) -> None:
    """Of a run in which the store did not copy, and was killed."""
    bench.simulator.faults.append(Fault(NOT_IMPLEMENTED, "UploadPartCopy", times=None))
    bench.simulator.faults.append(Fault(Status(503), "UploadPart", part=3, path="/to/", times=None))
    task = asyncio.create_task(bench.copy())
    while bench.log.kept is None or len(bench.log.kept.parts) < 2:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    bench.simulator.faults.clear()
    bench.copying._in_store._refused = False  # as of a new process
    copied = await bench.copy()
    assert (copied.in_store, copied.resumed_parts) == (False, 2)
    assert bench.held("to/file") == bench.held("from/file")


async def test_stopping(bench: Bench) -> None:
    bench.stop.set()
    with pytest.raises(Interrupted):
        await bench.copy()
    bench.stop.clear()
    assert (await bench.copy()).in_store
    assert await bench.destination.list_uploads("to/") == []


async def test_an_object_replaced_since_it_was_listed(bench: Bench) -> None:
    status = await bench.status()
    await put(bench.destination, "from/file", noise(SIZE + 1))
    with pytest.raises(SourceChanged):
        await bench.copy(status)
    assert await listed(bench.destination, "to/") == []
    assert await bench.destination.list_uploads("to/") == []


@pytest.mark.parametrize("bench", ["oss"], indirect=True)
async def test_a_copy_with_another_checksum_is_removed(bench: Bench) -> None:
    bench.simulator.faults.append(Fault(OtherCrc64(), "CompleteMultipartUpload", path="/to/", times=None))
    with pytest.raises(ChecksumMismatch):
        await bench.copy()
    assert await bench.destination.head("to/file") is None
