"""Small files are opened at DataNodes that the NameNode has named lately, without asking it again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from asynccopy.config.cluster import Cluster
from asynccopy.errors import NotFound, Transient
from asynccopy.model import ByteRange
from asynccopy.simulators.faults import Delay, Fault, Reset, Status
from asynccopy.simulators.namespace import TreeNamespace
from asynccopy.simulators.webhdfs import WebHdfsSimulator
from asynccopy.storage.interface import Source
from asynccopy.storage.pool import Origin
from asynccopy.storage.registry import NameNodes, Settings, open_destination, open_source
from asynccopy.storage.webhdfs import datanodes
from asynccopy.storage.webhdfs.datanodes import DataNodes
from asynccopy.storage.webhdfs.destination import WebHdfsDestination
from asynccopy.storage.webhdfs.politeness import LEAST
from asynccopy.storage.webhdfs.redirects import Redirect
from asynccopy.storage.webhdfs.source import WebHdfsSource

FILES = {f"d/{n}": b"%d" % n * (n + 1) for n in range(64)}
LARGE = bytes(1 << 20) + b"!"


@asynccontextmanager
async def cluster(datanodes: int = 2) -> AsyncIterator[tuple[WebHdfsSimulator, Source]]:
    namespace = TreeNamespace()
    for path, body in {**FILES, "large": LARGE}.items():
        namespace.put(f"/{path}", body)
    async with (
        WebHdfsSimulator(namespace, datanodes=datanodes) as hdfs,
        aclosing(
            open_source(hdfs.url.replace("http://", "webhdfs://") + "/", Settings(cluster=Cluster(user="me")))
        ) as source,
    ):
        yield hdfs, source


async def read(source: Source, path: str, length: int) -> bytes:
    reader = await source.open(path, ByteRange(0, length))
    body = bytearray(length)
    try:
        assert await reader.readinto(memoryview(body)) == length
    finally:
        reader.close()
    return bytes(body)


async def test_the_namenode_is_asked_now_and_then() -> None:
    async with cluster() as (hdfs, source):
        for path, body in FILES.items():
            assert await read(source, path, len(body)) == body
            assert await source.checksum(path) is not None
        assert hdfs.counts["OPEN@DataNode"] == len(FILES)
        assert 1 <= hdfs.counts["OPEN"] <= 2 + len(FILES) // datanodes.ASKED
        assert hdfs.counts["GETFILECHECKSUM"] == 0


async def test_a_large_range_goes_to_whom_the_namenode_names() -> None:
    async with cluster() as (hdfs, source):
        for _ in range(3):
            assert await read(source, "large", len(LARGE)) == LARGE
        assert hdfs.counts["OPEN"] == 3


async def test_a_missing_file_is_missing() -> None:
    async with cluster() as (_, source):
        await read(source, "d/1", 2)
        with pytest.raises(NotFound):
            await read(source, "d/none", 2)


async def test_a_datanode_that_fails_is_left_alone_and_the_namenode_asked() -> None:
    async with cluster(datanodes=1) as (hdfs, source):
        await read(source, "d/1", 2)
        hdfs.faults.append(Fault(Reset(), op="OPEN@DataNode"))
        with pytest.raises(Transient):
            await read(source, "d/2", 3)
        assert hdfs.counts["OPEN"] == 1
        assert await read(source, "d/2", 3) == b"222"
        assert hdfs.counts["OPEN"] > 1


async def test_every_request_to_the_namenode_is_timed_and_no_other() -> None:
    async with cluster() as (hdfs, source):
        assert isinstance(source, WebHdfsSource)
        assert await read(source, "large", len(LARGE)) == LARGE  # the first redirect is proven by one more request
        hdfs.counts.clear()
        seen: list[float] = []
        source._client.latency = seen.append
        hdfs.faults.append(Fault(Delay(0.2), op="OPEN"))
        await source.status("large")
        await source.list("d")
        assert await read(source, "large", len(LARGE)) == LARGE
        await source.checksum("large")  # asked of the DataNode that read the file
        asked = sum(count for op, count in hdfs.counts.items() if "@" not in op)
        assert len(seen) == asked == 3
        assert seen[2] >= 0.2 > max(seen[:2])


async def test_a_busy_namenode_is_asked_less_at_once_and_more_again_when_it_is_quick() -> None:
    """What is counted is what it has to do at the same time; our own wait for a place is not its latency."""
    async with cluster() as (hdfs, source):
        assert isinstance(source, WebHdfsSource)
        places = source._client._names.pool.places
        ceiling = places.limit
        most: list[int] = []

        async def ask(count: int) -> None:
            async def some() -> None:
                for _ in range(count // 16):
                    await source.status("large")
                    most.append(places.taken)

            async with asyncio.TaskGroup() as group:
                for number in range(16):
                    group.create_task(some(), name=f"asking {number}")

        await ask(160)
        assert places.limit == ceiling
        hdfs.faults.append(Fault(Delay(0.12), times=None))
        await ask(112)
        assert places.limit == LEAST
        most.clear()
        await ask(16)
        assert max(most) <= LEAST
        hdfs.faults.clear()
        await ask(320)
        assert LEAST < places.limit < ceiling


async def test_those_who_share_a_busy_namenode_ask_it_less_all_together() -> None:
    async with cluster() as (hdfs, alone):
        assert isinstance(alone, WebHdfsSource)
        url, namenodes = hdfs.url.replace("http://", "webhdfs://"), NameNodes()
        wide = open_destination(
            f"{url}/to", Settings(cluster=Cluster(user="you"), concurrency=100), namenodes=namenodes
        )
        assert isinstance(wide, WebHdfsDestination)
        async with (
            aclosing(open_source(f"{url}/", Settings(cluster=Cluster(user="me")), namenodes=namenodes)) as one,
            aclosing(open_source(f"{url}/d", Settings(cluster=Cluster(user="me")), namenodes=namenodes)) as two,
            aclosing(wide),
        ):
            assert isinstance(one, WebHdfsSource)
            assert isinstance(two, WebHdfsSource)
            pools = [each.client._names.pool for each in (one, two, wide)]
            assert [pool.places.limit for pool in pools] == [200, 200, 200]
            most: list[int] = []

            async def ask(source: Source, count: int) -> None:
                for _ in range(count):
                    await source.status("")
                    most.append(sum(len(pool.busy) for pool in pools))

            async def all_ask(count: int) -> None:
                most.clear()
                async with asyncio.TaskGroup() as group:
                    for number in range(16):
                        group.create_task(ask((one, two)[number % 2], count), name=f"asking {number}")

            await all_ask(10)
            assert max(most) > LEAST
            hdfs.faults.append(Fault(Delay(0.12), times=None))
            await all_ask(7)
            await all_ask(1)
            assert max(most) <= LEAST
            assert alone.client.allowance.places.limit == alone.client.allowance.most


async def test_a_namenode_that_asks_for_less_is_heard() -> None:
    async with cluster() as (hdfs, source):
        assert isinstance(source, WebHdfsSource)
        places = source._client._names.pool.places
        ceiling = places.limit
        hdfs.faults.append(Fault(Status(503), op="OPEN"))
        with pytest.raises(Transient):
            await read(source, "large", len(LARGE))
        assert places.limit < ceiling
        assert await read(source, "large", len(LARGE)) == LARGE


def redirect(number: int, query: str = "op=OPEN&namenoderpcaddress=nn:8020&offset=0") -> Redirect:
    return Redirect(Origin("http", f"dn{number}", 9864), query)


def test_each_in_turn_but_for_suspects_and_those_not_named_lately(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(datanodes, "monotonic", lambda: now)
    known = DataNodes()
    assert known.next() is None
    for number in range(3):
        known.named(redirect(number))
    assert {found.origin.host for _ in range(3) if (found := known.next())} == {"dn0", "dn1", "dn2"}
    known.suspect(redirect(1).origin)
    assert {found.origin.host for _ in range(8) if (found := known.next())} == {"dn0", "dn2"}
    now += datanodes.SUSPECT + 1
    known.named(redirect(0))
    assert {found.origin.host for _ in range(14) if (found := known.next())} == {"dn0", "dn1", "dn2"}
    now += datanodes.FRESH - 10
    assert {found.origin.host for _ in range(14) if (found := known.next())} == {"dn0"}
    now += 100
    assert known.next() is None


def test_a_gateways_redirect_is_not_used_for_other_files() -> None:
    known = DataNodes()
    known.named(redirect(1, "_=AAAACAAAABAAAADArw"))
    known.named(redirect(2, "op=OPEN&user.name=me"))
    assert all(known.next() is None for _ in range(10))
