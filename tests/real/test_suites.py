"""WebHDFS sits the exam on a real cluster, one whose NameNode lists three entries a page."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from itertools import count

import pytest

from asynccopy.config.cluster import Cluster
from asynccopy.storage.interface import Source
from asynccopy.storage.registry import Settings, open_source
from asynccopy.storage.webhdfs.messages import UnknownOperation
from asynccopy.storage.webhdfs.snapshots import WebHdfsSnapshots
from testbed import fetch
from testbed.hdfs import Hdfs
from tests.real.writer import Writer
from tests.servers import require
from tests.suites.source import SourceSuite, assert_explains, diff_of, walk

_numbers = count()


@pytest.fixture(scope="module")
def small_pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hdfs]:
    require(fetch.HADOOP)
    with Hdfs(
        tmp_path_factory.mktemp("hdfs") / "small-pages",
        block_size=SourceSuite.block_size,
        properties={
            "dfs.ls.limit": SourceSuite.page_size,
            "dfs.namenode.snapshotdiff.listing.limit": SourceSuite.page_size,
        },
    ) as cluster:
        yield cluster


class TestWebHdfsSource(SourceSuite):
    tells_open = has_snapshots = True

    @pytest.fixture
    async def source(self, small_pages: Hdfs) -> AsyncIterator[Source]:
        self.hdfs, self.root = small_pages, f"/suite/{next(_numbers)}"
        await self.fill({"": b""})
        await self._do("allow_snapshots", self.root)
        async with aclosing(self._open(self.root)) as source:
            yield source

    async def fill(self, tree: Mapping[str, bytes]) -> None:
        await asyncio.to_thread(self._fill, tree)

    def _fill(self, tree: Mapping[str, bytes]) -> None:
        with self.hdfs.client() as client:
            for path, body in tree.items():
                if path and not path.endswith("/"):
                    client.put(f"{self.root}/{path}", body)
                else:
                    client.mkdirs(f"{self.root}/{path}".rstrip("/"))

    async def append(self, path: str, data: bytes) -> None:
        await self._do("append", f"{self.root}/{path}", data)

    async def rename(self, path: str, to: str) -> None:
        await self._do("rename", f"{self.root}/{path}", f"{self.root}/{to}")

    async def remove(self, path: str) -> None:
        await self._do("delete", f"{self.root}/{path}")

    @asynccontextmanager
    async def writing(self, path: str, data: bytes) -> AsyncIterator[None]:
        writer = Writer(self.hdfs, f"{self.root}/{path}", len(data))
        await asyncio.to_thread(writer.open)
        yield
        await asyncio.to_thread(writer.finish, data)

    async def _do(self, operation: str, *arguments: object) -> None:
        def do() -> None:
            with self.hdfs.client() as client:
                getattr(client, operation)(*arguments)

        await asyncio.to_thread(do)

    async def test_the_diff_in_one_answer_tells_the_same(self, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
        async def unknown(*_: object) -> None:
            raise UnknownOperation("as an older server says")

        snapshots = await self.snapshots(source)
        chance = random.Random(5)
        await self.fill({f"{d}/{e}/{f}": b"x" for d in "abc" for e in "de" for f in "fgh"})
        await snapshots.create("s")
        await self.change(source, chance, 30)
        await snapshots.create("t")
        old, new = await walk(snapshots.at("s")), await walk(snapshots.at("t"))
        paged = await diff_of(snapshots, "s", "t")
        monkeypatch.setattr(WebHdfsSnapshots, "_page", unknown)
        whole = await diff_of(snapshots, "s", "t")
        for changes in (paged, whole):
            assert_explains(changes, old, new)

    def at(self, path: str) -> Source:
        return self._open(f"{self.root}/{path}")

    def _open(self, path: str) -> Source:
        return open_source(self.hdfs.url + path, Settings(cluster=Cluster(user=self.hdfs.user)))
