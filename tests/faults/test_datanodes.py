"""DataNodes that are slow, dead or crowded, and files whose checksums prove nothing: the real backends on the wire."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from asynccopy.errors import ConnectionLost, Straggler
from asynccopy.journal import Journal
from asynccopy.model import ByteRange
from asynccopy.retry import RetryPolicy
from asynccopy.simulators import Fault, S3Simulator, TreeNamespace, WebHdfsSimulator
from asynccopy.simulators.faults import Delay, FlipBit, Slow
from asynccopy.storage.pool import Origin
from asynccopy.storage.webhdfs import datanodes
from asynccopy.storage.webhdfs.auth import Simple
from asynccopy.storage.webhdfs.client import PER_DATANODE, WebHdfsClient
from asynccopy.storage.webhdfs.datanodes import LONGEST, SUSPECT, DataNodes
from asynccopy.storage.webhdfs.nameservice import Nameservice, servers
from tests.faults.test_faults import World

MIB = 1 << 20
LARGE = random.Random(4).randbytes(60 * MIB + 1)
TREE = {"large": LARGE, "d/small": b"small" * 1000, "d/other": LARGE[: 6 * MIB]}


class Cluster(World):
    tree_of: dict[str, bytes] = TREE

    async def assert_equal(self) -> None:
        assert self.progress.failures == []
        assert await self.objects() == self.tree_of
        assert self.s3.buckets["bucket"].uploads == {}

    async def methods(self) -> dict[str, str]:
        journal = await Journal.open(
            self._path, source=self.hdfs.url.replace("http", "webhdfs") + "/data", destination="s3://bucket/p"
        )
        try:
            return {path: row.method for path in self.tree_of if (row := await journal.row(path)) is not None}
        finally:
            await journal.close()


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "simulator")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "simulator-secret")
    tree = TreeNamespace(block_size=5 * MIB)
    for path, body in TREE.items():
        tree.put(f"/data/{path}", body)
    async with WebHdfsSimulator(tree, datanodes=3, replication=2) as hdfs, S3Simulator(["bucket"]) as s3:
        yield Cluster(hdfs, s3, tree, tmp_path / "journal")


# --- slow ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [2048, 50_000])
async def test_a_straggler_is_read_elsewhere_from_where_it_was(world: Cluster, rate: int) -> None:
    """It moves more than the stall detector asks for, and would take a quarter of an hour and more."""
    slow = Fault(Slow(rate), op="OPEN@DataNode", path="large", after=9)
    world.hdfs.faults.append(slow)
    began = time.monotonic()
    await world.copy(stall=0.5, concurrency=1)
    took = time.monotonic() - began
    await world.assert_equal()
    assert slow.hits == 1
    assert any(isinstance(error, Straggler) and "what others give" in str(error) for error in world.retried)
    print(f"a range at {rate} B/s, {5 * MIB / rate:.0f} s alone: the whole copy took {took:.1f} s")
    assert took < 60


async def test_a_slow_datanode_that_is_the_only_one_is_read_to_the_end(world: Cluster) -> None:
    """Given up and opened again at its offset, time after time: that is progress, and no file fails of it."""
    world.hdfs.faults.append(Fault(Slow(300_000), op="OPEN@DataNode", path="other", times=None))
    world.tree_of = {path: body[: 2 * MIB] if path == "d/other" else body for path, body in TREE.items()}
    world.tree.put("/data/d/other", LARGE[: 2 * MIB])
    await world.copy(stall=0.5, concurrency=1, policy=RetryPolicy(first=0.001, most=0.01, patience=2))
    await world.assert_equal()


async def test_a_limit_of_ours_makes_no_straggler(world: Cluster) -> None:
    """Whoever takes the bytes slowly is not let down by the one who sends them."""
    client = WebHdfsClient(Nameservice(servers([world.hdfs.url])), Simple("me"), connections=4, stall=0.4)
    try:
        for _ in range(10):
            await drain(client, 5 * MIB, 0.0)
        assert client._pace.floor > 1e6
        await drain(client, 2 * MIB, 0.25)
    finally:
        await client.aclose()


async def drain(client: WebHdfsClient, length: int, pause: float) -> None:
    reader = await client.read("/data/large", ByteRange(0, length))
    buffer = memoryview(bytearray(256 << 10))
    while await reader.readinto(buffer):
        if pause:
            await asyncio.sleep(pause)
    reader.close()


# --- dead ---------------------------------------------------------------------------------------------------------


async def test_the_only_replica_is_away_and_comes_back(world: Cluster) -> None:
    """The file is named with what to do, the others are copied, and the next run takes it."""
    world.hdfs._replication = 1
    dead = world.hdfs._datanodes[1]
    await dead.server.stop()
    await world.copy(policy=RetryPolicy(first=0.001, most=0.05, patience=1))
    failed = {failure.path: failure for failure in world.progress.failures}
    assert "large" in failed
    assert all("dfsadmin" in failure.hint for failure in failed.values()), failed
    assert set(await world.objects()) == set(TREE) - set(failed) != set()
    await dead.server.__aenter__()
    await world.copy()
    await world.assert_equal()


def test_who_fails_again_is_avoided_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(datanodes, "monotonic", lambda: now)
    known, origin = DataNodes(), Origin("http", "dn1", 9864)

    def avoided() -> float:
        nonlocal now
        since = now
        while known.suspected(origin):
            now += 1
        return now - since

    for expected in (SUSPECT, 2 * SUSPECT, 4 * SUSPECT, 8 * SUSPECT, LONGEST, LONGEST):
        known.suspect(origin)
        known.suspect(origin)  # what was under way there fails with it
        assert avoided() == expected
        now += 60
    now += LONGEST
    known.suspect(origin)
    assert avoided() == SUSPECT


# --- crowded ------------------------------------------------------------------------------------------------------


async def test_no_datanode_has_more_connections_than_it_bears(world: Cluster) -> None:
    count = 3 * PER_DATANODE
    client = WebHdfsClient(Nameservice(servers([world.hdfs.url])), Simple("me"), connections=2 * count)
    await drain(client, MIB, 0.0)
    world.hdfs.faults.append(Fault(Delay(0.3), op="OPEN@DataNode", times=None))
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, *(budget.taken for budget in client._data.pool._origins.values()))
            await asyncio.sleep(0.01)

    watching = asyncio.create_task(watch(), name="watching")
    try:
        async with asyncio.TaskGroup() as group:
            reads = [group.create_task(drain(client, 2 * MIB, 0.0), name=f"read {number}") for number in range(count)]
            await asyncio.sleep(0.1)
            for read in reads[::7]:
                read.cancel()
    finally:
        watching.cancel()
        await client.aclose()
    assert most == PER_DATANODE
    assert [budget.taken for budget in client._data.pool._origins.values()] == [0] * len(client._data.pool._origins)
    assert client._data.pool.places.taken == 0


# --- stored otherwise than read -----------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", ["erasure", "encryption"])
async def test_a_file_without_a_comparable_checksum_is_copied_and_the_ledger_says_so(
    world: Cluster, coding: str
) -> None:
    for path in ("large", "d/small"):
        world.tree.put(f"/data/{path}", TREE[path], coding=coding)  # type: ignore[arg-type]
    await world.copy()
    await world.assert_equal()
    assert await world.methods() == {"large": "stream", "d/small": "stream", "d/other": "checksum"}
    assert world.progress.verified == 1


async def test_a_file_that_hdfs_stores_plainly_is_never_excused(world: Cluster) -> None:
    world.hdfs.faults.append(Fault(FlipBit(1000), op="OPEN@DataNode", path="small", times=None))
    await world.copy(policy=RetryPolicy(first=0.001, most=0.01, patience=1))
    assert [(f.path, f.error_class) for f in world.progress.failures] == [("d/small", "ChecksumMismatch")]


async def test_a_dead_datanode_is_named_with_what_to_do(world: Cluster) -> None:
    for node in world.hdfs._datanodes:
        await node.server.stop()
    client = WebHdfsClient(Nameservice(servers([world.hdfs.url])), Simple("me"), connections=4)
    try:
        with pytest.raises(ConnectionLost) as caught:
            await client.read("/data/large", ByteRange(0, MIB))
        assert "hdfs dfsadmin -report" in caught.value.hint
    finally:
        await client.aclose()
