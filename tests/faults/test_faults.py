"""Scripted faults on the wire: the real backends against the simulators. What arrives is equal, or nothing does."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from asynccopy.config.cluster import Cluster
from asynccopy.errors import AsyncCopyError
from asynccopy.executors.processes import in_processes
from asynccopy.executors.recipe import inline
from asynccopy.journal import Journal
from asynccopy.mirror.mirror import CopyOptions, Mirror
from asynccopy.mirror.progress import Progress
from asynccopy.mirror.selection import Selection
from asynccopy.retry import RetryPolicy
from asynccopy.simulators import Fault, S3Simulator, TreeNamespace, WebHdfsSimulator
from asynccopy.simulators.faults import (
    Action,
    Cut,
    ErrorInBody,
    ErrorInOk,
    FlipBit,
    LostReply,
    NoSuchUpload,
    OtherETag,
    Reset,
    Stall,
    Status,
    WrongRange,
)
from asynccopy.simulators.webhdfs_messages import remote_exception
from asynccopy.storage import registry
from asynccopy.storage.s3.destination import S3Destination
from asynccopy.storage.webhdfs.source import WebHdfsSource
from tests.faults.forms import FORMS, Form, speak

MIB = 1 << 20
POLICY = RetryPolicy(first=0.001, most=0.01, patience=20)
SMALL = random.Random(1).randbytes(700_001)
LARGE = random.Random(2).randbytes(11 * MIB + 12_345)
TREE = {"empty": b"", "small": SMALL, "d/large": LARGE}


class World:
    """An HDFS and an S3, and jobs from the one to the other, by ``processes`` workers or on this loop."""

    processes = 1

    def __init__(self, hdfs: WebHdfsSimulator, s3: S3Simulator, tree: TreeNamespace, path: Path) -> None:
        self.hdfs, self.s3, self.tree = hdfs, s3, tree
        self._path = path
        self.progress = Progress()
        self.retried: list[AsyncCopyError] = []

    async def copy(self, *, stall: float | None = None, policy: RetryPolicy = POLICY, **options: Any) -> Progress:
        settings = registry.Settings(s3_endpoint=self.s3.url, s3_region="us-east-1", cluster=Cluster(user="me"))
        places = [
            registry.Place(url, settings)
            for url in (self.hdfs.url.replace("http", "webhdfs") + "/data", "s3://bucket/p")
        ]
        source = registry.open_source(places[0].url, settings)
        destination = registry.open_destination(places[1].url, settings)
        assert isinstance(source, WebHdfsSource)
        assert isinstance(destination, S3Destination)
        if stall is not None:
            for door in (source._client._names, source._client._data, destination._client._door):
                door.pool.stall = stall
        journal = await Journal.open(self._path, source=source.url, destination=destination.url)
        self.progress = Progress()
        try:
            mirror = Mirror(
                source,
                destination,
                journal,
                selection=Selection(),
                options=CopyOptions(**{"concurrency": 4, "part_size": 5 * MIB, **options}),
                stop=asyncio.Event(),
                progress=self.progress,
                noticed=lambda error, delay: self.retried.append(error),
                policy=policy,
                build=inline
                if self.processes == 1
                else in_processes(*places, self.processes, registry.NameNodes().lend),
            )
            await mirror.copy()
        finally:
            await journal.close()
            await source.aclose()
            await destination.aclose()
        return self.progress

    async def objects(self) -> dict[str, bytes]:
        found = self.s3.buckets["bucket"].objects
        return {
            key.removeprefix("p/"): b"".join([piece async for piece in found[key].read(0, found[key].size)])
            for key in found
        }

    async def assert_equal(self) -> None:
        assert self.progress.failures == []
        assert await self.objects() == TREE
        assert self.s3.buckets["bucket"].uploads == {}


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "simulator")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "simulator-secret")
    tree = TreeNamespace(block_size=5 * MIB)
    for path, body in TREE.items():
        tree.put(f"/data/{path}", body)
    async with WebHdfsSimulator(tree, datanodes=3, replication=2) as hdfs, S3Simulator(["bucket"]) as s3:
        world = World(hdfs, s3, tree, tmp_path / "journal")
        yield world


@pytest.fixture(params=[*FORMS, "2 processes"])
def way(request: pytest.FixtureRequest, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every form in which the bytes may come, and the usual one read by worker processes."""
    if request.param in FORMS:
        speak(request.param, monkeypatch)
    else:
        world.processes = 2


def hdfs_faults() -> list[tuple[str, Fault]]:
    read, checksum = "OPEN@DataNode", "GETFILECHECKSUM@DataNode"
    standby = remote_exception("StandbyException", "Operation category READ is not supported in state standby")
    found: list[tuple[str, Fault]] = [
        (f"cut at {at}{' by a reset' if reset else ''}", Fault(Cut(at, reset), op=read, path="large"))
        for at in (0, 1, 511, 512, 100_000, 262_144, 3 * MIB, 5 * MIB - 1)
        for reset in (False, True)
    ]
    found += [(f"small file cut at {at}", Fault(Cut(at), op=read, path="small")) for at in (0, 1, 300_000, 700_000)]
    found += [
        (f"bit flipped at {at}", Fault(FlipBit(at, 3), op=read, path="large")) for at in (0, 511, 2 * MIB, 5 * MIB - 1)
    ]
    found += [(f"small file flipped at {at}", Fault(FlipBit(at), op=read, path="small")) for at in (0, 700_000)]
    found += [
        ("an error after 200", Fault(ErrorInBody(2 * MIB), op=read, path="large")),
        ("an error after 200, small", Fault(ErrorInBody(1000), op=read, path="small")),
        ("bytes from elsewhere", Fault(WrongRange(512), op=read, path="large", after=1)),
        ("the whole file", Fault(WrongRange(whole=True), op=read, path="large", after=1)),
        ("reset", Fault(Reset(), op=read, times=3)),
        ("DataNode 500", Fault(Status(500, b"<html>"), op=read, times=3)),
        ("DataNode IOException", Fault(Status(403, remote_exception("IOException", "disk")), op=read)),
        ("checksum reset", Fault(Reset(), op=checksum)),
        ("checksum cut", Fault(Cut(20), op=checksum)),
        ("checksum 500", Fault(Status(500), op=checksum)),
    ]
    for op in ("GETFILESTATUS", "LISTSTATUS_BATCH", "OPEN", "GETFILECHECKSUM"):
        skipped = 1 if op == "GETFILESTATUS" else 0  # the preflight is not repeated
        found += [
            (f"{op} 503", Fault(Status(503), op=op, after=skipped, times=2)),
            (f"{op} standby", Fault(Status(403, standby), op=op, after=skipped, times=2)),
            (f"{op} reset", Fault(Reset(), op=op, after=skipped, times=2)),
            (f"{op} cut", Fault(Cut(10), op=op, after=skipped)),
        ]
    return found


def s3_faults() -> list[tuple[str, Fault]]:
    ops = ("PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload")
    busy = (
        b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
    )
    actions: list[tuple[str, Action]] = [
        ("500", Status(500)),
        ("502", Status(502, b"<html>bad gateway</html>")),
        ("503 SlowDown", Status(503, busy)),
        ("reset", Reset()),
        ("lost reply", LostReply()),
    ]
    paths = {op: "/p/small" if op == "PutObject" else "/p/d" for op in ops}  # not the probe: the preflight is one try
    found = [(f"{op} {name}", Fault(action, op=op, path=paths[op], times=2)) for op in ops for name, action in actions]
    found += [
        ("Complete 200 with an error", Fault(ErrorInOk(), op="CompleteMultipartUpload", path="/p/d")),
        ("Complete without ETag", Fault(OtherETag(""), op="CompleteMultipartUpload", path="/p/d")),
        ("NoSuchUpload at a part", Fault(NoSuchUpload(), op="UploadPart", path="/p/d", after=1)),
        ("NoSuchUpload at the end", Fault(NoSuchUpload(), op="CompleteMultipartUpload", path="/p/d")),
        ("bit flipped in a part", Fault(FlipBit(2 * MIB), op="UploadPart", path="/p/d")),
        ("bit flipped in a put", Fault(FlipBit(1234), op="PutObject", path="/p/small")),
    ]
    return found


def named(faults: list[tuple[str, Fault]]) -> Any:
    return pytest.mark.parametrize("fault", [pytest.param(fault, id=name) for name, fault in faults])


@pytest.mark.usefixtures("way")
@named(hdfs_faults())
async def test_the_source_fails(world: World, fault: Fault) -> None:
    world.hdfs.faults.append(fault)
    await world.copy()
    assert fault.hits >= 1
    await world.assert_equal()


@pytest.mark.parametrize("processes", [1, 2])
@named(s3_faults())
async def test_the_store_fails(world: World, fault: Fault, processes: int) -> None:
    world.processes = processes
    world.s3.faults.append(fault)
    await world.copy()
    assert fault.hits >= 1
    await world.assert_equal()


async def test_a_source_that_always_lies_fails_by_name_and_shows_nothing(world: World) -> None:
    world.hdfs.faults += [
        Fault(FlipBit(4096), op="OPEN@DataNode", path="large", times=None),
        Fault(ErrorInBody(1000), op="OPEN@DataNode", path="small", times=None),
    ]
    progress = await world.copy()
    assert {(f.path, f.error_class) for f in progress.failures} == {
        ("d/large", "ChecksumMismatch"), ("small", "ChecksumMismatch"),
    }  # fmt: skip
    assert await world.objects() == {"empty": b""}
    assert world.s3.buckets["bucket"].uploads == {}
    world.hdfs.faults.clear()
    await world.copy()
    await world.assert_equal()


async def test_a_store_that_always_damages_fails_by_name_and_shows_nothing(world: World) -> None:
    world.s3.faults += [
        Fault(FlipBit(1000), op="UploadPart", path="/p/d", times=None),
        Fault(FlipBit(1000), op="PutObject", path="/p/small", times=None),
    ]
    progress = await world.copy(policy=RetryPolicy(first=0.001, most=0.001, patience=0.05))
    assert {f.path for f in progress.failures} == {"d/large", "small"}
    assert await world.objects() == {"empty": b""}
    world.s3.faults.clear()
    await world.copy()
    await world.assert_equal()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("after", [0, 100_000])
async def test_a_stalled_datanode_is_left(
    world: World, after: int, form: Form, monkeypatch: pytest.MonkeyPatch
) -> None:
    speak(form, monkeypatch)
    fault = Fault(Stall(30, after), op="OPEN@DataNode", path="large")
    world.hdfs.faults.append(fault)
    await world.copy(stall=0.4)
    assert fault.hits == 1
    assert any(type(error).__name__ == "Stalled" for error in world.retried)
    await world.assert_equal()


async def test_a_stalled_store_is_asked_again(world: World) -> None:
    fault = Fault(Stall(30), op="UploadPart", path="/p/d")
    world.s3.faults.append(fault)
    await world.copy(stall=0.4)
    assert fault.hits == 1
    await world.assert_equal()


async def test_a_datanode_that_is_down_is_excluded_and_another_one_read(world: World) -> None:
    dead = world.hdfs._datanodes[1]  # not the first, to which the simulator sends all who ask about an empty file
    await dead.server.__aexit__(None, None, None)
    await world.copy()
    assert any("DataNode" in str(error) for error in world.retried)
    assert world.hdfs.counts["GET_BLOCK_LOCATIONS"] >= 1
    await world.assert_equal()


async def test_a_server_without_batches_is_listed_whole(world: World) -> None:
    del world.hdfs._ops["LISTSTATUS_BATCH"]
    await world.copy()
    assert world.hdfs.counts["LISTSTATUS"] == 2
    await world.assert_equal()


async def test_concat_files_are_proven_by_their_real_blocks(world: World) -> None:
    world.tree.put("/data/d/large", LARGE, block_lengths=(3 * MIB + 7, 5 * MIB, len(LARGE) - 8 * MIB - 7))
    world.tree.put("/data/small", SMALL, block_lengths=(100_001, 600_000))
    await world.copy()
    await world.assert_equal()
    assert world.progress.verified == 3


@pytest.mark.parametrize("path", ["small", "d/large"])
async def test_a_file_removed_while_it_is_read_is_named_for_what_it_is(world: World, path: str) -> None:
    world.hdfs.faults.append(Fault(Cut(100_000), op="OPEN@DataNode", path=path))

    def removed(error: AsyncCopyError) -> None:
        if world.tree.status(f"/data/{path}") is not None:
            world.tree.delete(f"/data/{path}")

    world.retried = Told(removed)  # type: ignore[assignment]
    progress = await world.copy()
    assert [(f.path, f.error_class) for f in progress.failures] == [(path, "NotFound")]
    assert path not in await world.objects()
    assert world.s3.buckets["bucket"].uploads == {}


class Told(list[Any]):
    def __init__(self, tell: Any) -> None:
        super().__init__()
        self._tell = tell

    def append(self, error: Any) -> None:
        super().append(error)
        self._tell(error)


async def test_redirects_to_elsewhere_are_not_followed(world: World) -> None:
    for location in ("http://169.254.169.254/x?op=OPEN", "file:///etc/passwd"):
        body = b'{"Location": "%s"}' % location.encode()
        world.hdfs.faults[:] = [Fault(Status(200, body, {"Content-Type": "application/json"}), op="OPEN", times=None)]
        with pytest.raises(AsyncCopyError, match="refused"):
            await world.copy()
    assert set(await world.objects()) <= {"empty"}


async def test_nfd_and_nfc_names_keep_their_own_bytes(world: World) -> None:
    world.tree.put("/data/e\u0301", b"decomposed")
    world.tree.put("/data/\u00e9", b"composed")
    await world.copy()
    assert await world.objects() == TREE | {"e\u0301": b"decomposed", "\u00e9": b"composed"}
