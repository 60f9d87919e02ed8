"""HttpFS and a Router in the NameNode's place: the same exam, on real servers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from itertools import count
from typing import Any

import pytest

from asynccopy.config.cluster import Cluster
from asynccopy.errors import Unreachable
from asynccopy.model import ByteRange
from asynccopy.storage.interface import Snapshots, Source
from asynccopy.storage.pool import Origin
from asynccopy.storage.registry import Settings, open_source
from asynccopy.storage.webhdfs.client import WebHdfsClient
from asynccopy.storage.webhdfs.nameservice import Nameservice, servers
from asynccopy.storage.webhdfs.source import WebHdfsSource
from testbed import fetch
from testbed.gateways import HttpFs, Router
from testbed.hdfs import Hdfs
from tests.knox import Basic, Knox
from tests.real.test_suites import TestWebHdfsSource as WebHdfsExam
from tests.servers import require
from tests.suites.source import SourceSuite

_numbers = count()

PAGED = {
    "test_list_pages_are_complete_and_unique",
    "test_two_listings_at_once_do_not_mix",
    "test_what_was_there_all_along_is_listed_though_others_come",
    "test_a_cursor_outlives_the_source",
}


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hdfs]:
    require(fetch.HADOOP, fetch.GATEWAYS)
    with Hdfs(
        tmp_path_factory.mktemp("hdfs") / "behind",
        block_size=SourceSuite.block_size,
        properties={
            "dfs.ls.limit": SourceSuite.page_size,
            "dfs.namenode.snapshotdiff.listing.limit": SourceSuite.page_size,
        },
    ) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def httpfs(behind: Hdfs) -> Iterator[HttpFs]:
    server = HttpFs(behind)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="module")
def router(behind: Hdfs) -> Iterator[Router]:
    server = Router(behind, {"/mounted": "/suite"})
    try:
        server.start()
        yield server
    finally:
        server.kill()


class _Exam(WebHdfsExam):
    """What is written goes to the NameNode, what is read comes through the gateway."""

    url = ""

    @pytest.fixture(autouse=True)
    def _without_pages(self, request: pytest.FixtureRequest) -> None:
        if request.node.originalname in PAGED:
            pytest.xfail("lists a directory in one answer: HttpFS pays no heed to startafter, a Router knows no pages")

    async def test_a_directory_comes_whole(self, source: Source) -> None:
        names = [f"d/{number:04d}" for number in range(2 * self.page_size + 1)]
        await self.fill(dict.fromkeys(names, b""))
        page = await source.list("d")
        assert (sorted(entry.path for entry in page.entries), page.after) == (names, None)

    def _open(self, path: str) -> Source:
        return open_source(self.url + path, Settings(cluster=Cluster(user=self.hdfs.user)))


class TestHttpFs(_Exam):
    @pytest.fixture
    async def source(self, behind: Hdfs, httpfs: HttpFs) -> AsyncIterator[Source]:
        self.hdfs, self.root, self.url = behind, f"/suite/{next(_numbers)}", httpfs.url
        await self.fill({"": b""})
        await self._do("allow_snapshots", self.root)
        async with aclosing(self._open(self.root)) as source:
            yield source


class TestRouter(_Exam):
    """Read below a mount."""

    has_snapshots = False

    @pytest.fixture
    async def source(self, behind: Hdfs, router: Router) -> AsyncIterator[Source]:
        number = next(_numbers)
        self.hdfs, self.root, self.url = behind, f"/suite/{number}", router.url
        await self.fill({"": b""})
        async with aclosing(self._open(self.root)) as source:
            yield source

    def _open(self, path: str) -> Source:
        return super()._open(path.replace("/suite/", "/mounted/", 1))

    async def snapshots(self, source: Source) -> Snapshots:
        assert source.snapshots is not None and await source.snapshots.names() is None
        pytest.xfail("a Router's WebHDFS knows no snapshots")


class TestKnox(WebHdfsExam):
    """A stand-in for Knox before the real NameNode and its DataNodes."""

    @pytest.fixture
    async def source(self, behind: Hdfs) -> AsyncIterator[Source]:
        self.hdfs, self.root = behind, f"/suite/{next(_numbers)}"
        await self.fill({"": b""})
        await self._do("allow_snapshots", self.root)
        async with Knox(behind.address, behind.user) as self.knox, aclosing(self._open(self.root)) as source:
            yield source

    def _open(self, path: str) -> Source:
        client = WebHdfsClient(Nameservice(servers([self.knox.url])), Basic(), connections=16)
        return WebHdfsSource(client, "hdfs://prod", path)


async def test_two_httpfs_share_the_load_and_one_is_enough(behind: Hdfs, httpfs: HttpFs) -> None:
    second = HttpFs(behind, "second")
    await asyncio.to_thread(second.start)
    try:
        with behind.client() as client:
            for number in range(20):
                client.put(f"/shared/{number}", b"body")
        settings = Settings(cluster=Cluster(user=behind.user, servers=(httpfs.url, second.url)))
        async with aclosing(open_source(f"{httpfs.url}/shared", settings)) as source:
            opened = asked(source)
            await read_all(source)
            counts = Counter(opened)
            print(f"20 files: {dict(counts)}")
            assert sorted(counts.values()) == [10, 10]
            second.kill()
            with pytest.raises(Unreachable):  # of one of the first two, for which the wrapper asks again
                for _ in range(2):
                    await read_all(source)
            opened.clear()
            await read_all(source)
            assert {origin.port for origin in opened} == {int(httpfs.url.rpartition(":")[2])}
    finally:
        second.kill()


def asked(source: Source) -> list[Origin]:
    """Where bytes are asked for from now on."""
    assert isinstance(source, WebHdfsSource)
    door, opened = source.client._data, []

    async def download(origin: Origin, *arguments: Any, **options: Any) -> Any:
        opened.append(origin)
        return await type(door).download(door, origin, *arguments, **options)

    door.download = download  # type: ignore[method-assign]
    return opened


async def read_all(source: Source) -> None:
    for entry in (await source.list("")).entries:
        reader = await source.open(entry.path, ByteRange(0, entry.length))
        body = bytearray(entry.length)
        assert await reader.readinto(memoryview(body)) == entry.length
        reader.close()
        assert body == b"body"


del WebHdfsExam, _Exam
