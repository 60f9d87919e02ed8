"""Gateways in the NameNode's place: they send the bytes themselves, in whatever form."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import NamedTuple

import pytest

from asynccopy.config.cluster import Cluster
from asynccopy.errors import NotFound, ServerTrouble, ShortRead
from asynccopy.model import ByteRange
from asynccopy.simulators.faults import Cut, Fault, Status
from asynccopy.simulators.namespace import TreeNamespace
from asynccopy.simulators.server import Reply
from asynccopy.simulators.webhdfs import WebHdfsSimulator
from asynccopy.simulators.webhdfs_messages import Query, json
from asynccopy.storage.interface import Source
from asynccopy.storage.registry import Settings, open_source
from tests.faults.forms import FORMS, Form, speak

BODY = random.Random(7).randbytes(3_000_000)
SMALL = b"small"


class Gateway(WebHdfsSimulator):
    """Answers OPEN and GETFILECHECKSUM without a redirect, ``noredirect`` or not; knows no block locations."""

    def __init__(self, namespace: TreeNamespace) -> None:
        super().__init__(namespace)
        self._ops |= {"OPEN": self._bytes, "GETFILECHECKSUM": self._sum}
        del self._ops["GET_BLOCK_LOCATIONS"], self._ops["GETFILEBLOCKLOCATIONS"]

    def _bytes(self, path: str, query: Query) -> Reply:
        inode = self._status(path, "File {} not found.")
        offset = query.number("offset", 0)
        length = min(query.number("length", inode.length), inode.length - offset)
        headers = {"Content-Type": "application/octet-stream"}
        return Reply(200, headers=headers, pieces=self._pieces(path, offset, length), length=length)

    def _sum(self, path: str, query: Query) -> Reply:
        algorithm, value = self._checksum(path, self._status(path, "File {} not found."))
        return json({"FileChecksum": {"algorithm": algorithm, "bytes": value, "length": 28}})


class HttpFs(Gateway):
    """With ``noredirect`` it names itself."""

    def _bytes(self, path: str, query: Query) -> Reply:
        if query.get("noredirect") == "true":
            return self._itself("OPEN", path, query)
        return super()._bytes(path, query)

    def _sum(self, path: str, query: Query) -> Reply:
        if query.get("noredirect") == "true":
            return self._itself("GETFILECHECKSUM", path, query)
        return super()._sum(path, query)

    def _itself(self, op: str, path: str, query: Query) -> Reply:
        self._status(path, "File {} not found.")
        return json({"Location": f"{self.url}/webhdfs/v1{path}?op={op}&user.name=me&noredirect=false"})


class World(NamedTuple):
    hdfs: WebHdfsSimulator
    source: Source


@pytest.fixture(params=[Gateway, HttpFs])
def kind(request: pytest.FixtureRequest) -> type[Gateway]:
    found: type[Gateway] = request.param
    return found


@pytest.fixture(params=FORMS)
async def world(
    request: pytest.FixtureRequest, kind: type[Gateway], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    form: Form = request.param
    speak(form, monkeypatch)
    namespace = TreeNamespace(block_size=1 << 20)
    namespace.put("/large", BODY)
    namespace.put("/small", SMALL)
    async with (
        kind(namespace) as hdfs,
        aclosing(
            open_source(hdfs.url.replace("http://", "webhdfs://") + "/", Settings(cluster=Cluster(user="me")))
        ) as source,
    ):
        yield World(hdfs, source)


async def read(source: Source, path: str, range: ByteRange) -> bytes:
    reader = await source.open(path, range)
    body = bytearray(range.length)
    try:
        assert await reader.readinto(memoryview(body)) == range.length
    finally:
        reader.close()
    return bytes(body)


async def test_ranges_and_checksums(world: World) -> None:
    inode = world.hdfs.namespace.status("/large")
    assert inode is not None
    algorithm, value = world.hdfs._checksum("/large", inode)
    expected = f"{algorithm}:{value[24:56].lower()}"
    assert str(await world.source.checksum("large")) == expected
    for range in (ByteRange(0, len(BODY)), ByteRange(1, 2_000_000), ByteRange(len(BODY) - 7, 7)):
        assert await read(world.source, "large", range) == BODY[range.offset : range.end]
        assert await read(world.source, "small", ByteRange(0, 5)) == SMALL
    assert str(await world.source.checksum("large")) == expected
    with pytest.raises(NotFound):
        await world.source.open("none", ByteRange(0, 5))


async def test_a_range_costs_one_request(world: World) -> None:
    """Once the gateway has named itself, or sent the bytes."""
    await read(world.source, "small", ByteRange(0, 5))
    world.hdfs.counts.clear()
    for _ in range(5):
        await read(world.source, "small", ByteRange(0, 5))
    assert world.hdfs.counts["OPEN"] == 5


async def test_a_gateway_that_failed_is_asked_again(world: World) -> None:
    """There is no other one, and it knows nothing of DataNodes."""
    await read(world.source, "small", ByteRange(0, 5))
    world.hdfs.faults.append(Fault(Cut(100_000), op="OPEN", path="large"))
    with pytest.raises(ShortRead) as broken:
        await read(world.source, "large", ByteRange(0, len(BODY)))
    assert broken.value.received == 100_000
    world.hdfs.faults[:] = [Fault(Status(500), op="OPEN", path="large")]
    with pytest.raises(ServerTrouble):
        await read(world.source, "large", ByteRange(0, len(BODY)))
    assert await read(world.source, "large", ByteRange(0, len(BODY))) == BODY
