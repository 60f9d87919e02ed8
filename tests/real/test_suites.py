"""WebHDFS sits the exam on a real cluster, one whose NameNode lists three entries a page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from itertools import count

import pytest

from asynccopy.storage.interface import Source
from asynccopy.storage.registry import Settings, open_source
from testbed import fetch
from testbed.hdfs import Hdfs
from tests.servers import require
from tests.suites.source import SourceSuite

_numbers = count()


@pytest.fixture(scope="module")
def small_pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hdfs]:
    require(fetch.HADOOP)
    with Hdfs(
        tmp_path_factory.mktemp("hdfs") / "small-pages",
        block_size=SourceSuite.block_size,
        properties={"dfs.ls.limit": SourceSuite.page_size},
    ) as cluster:
        yield cluster


class TestWebHdfsSource(SourceSuite):
    @pytest.fixture
    async def source(self, small_pages: Hdfs) -> AsyncIterator[Source]:
        self.hdfs, self.root = small_pages, f"/suite/{next(_numbers)}"
        await self.fill({"": b""})
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

    def at(self, path: str) -> Source:
        return self._open(f"{self.root}/{path}")

    def _open(self, path: str) -> Source:
        return open_source(self.hdfs.url + path, Settings(user=self.hdfs.user))
