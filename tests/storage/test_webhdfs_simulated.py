"""WebHDFS sits the exam, against the simulator."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager

import pytest

from asynccopy.config.cluster import Cluster
from asynccopy.simulators.namespace import TreeNamespace
from asynccopy.simulators.webhdfs import WebHdfsSimulator
from asynccopy.storage.interface import Source
from asynccopy.storage.registry import Settings, open_source
from tests.suites.source import SourceSuite

ROOT = "/data/tree"


class TestWebHdfsSource(SourceSuite):
    tells_open = has_snapshots = True

    @pytest.fixture
    async def source(self) -> AsyncIterator[Source]:
        self.namespace = TreeNamespace(block_size=self.block_size)
        self.namespace.mkdir(ROOT)
        self.namespace.snapshots[ROOT] = {}
        async with (
            WebHdfsSimulator(self.namespace, datanodes=2, page_size=self.page_size) as self.hdfs,
            aclosing(self._open(ROOT)) as source,
        ):
            yield source

    async def fill(self, tree: Mapping[str, bytes]) -> None:
        for path, body in tree.items():
            if path.endswith("/"):
                self.namespace.mkdir(f"{ROOT}/{path[:-1]}")
            else:
                self.namespace.put(f"{ROOT}/{path}", body)

    async def append(self, path: str, data: bytes) -> None:
        self.namespace.append(f"{ROOT}/{path}", data)

    async def rename(self, path: str, to: str) -> None:
        self.namespace.rename(f"{ROOT}/{path}", f"{ROOT}/{to}")

    async def remove(self, path: str) -> None:
        self.namespace.delete(f"{ROOT}/{path}")

    @asynccontextmanager
    async def writing(self, path: str, data: bytes) -> AsyncIterator[None]:
        inode = self.namespace.put(f"{ROOT}/{path}", b"")
        self.namespace.append(f"{ROOT}/{path}", data, close=False)
        yield
        (now,) = (at for at, other in self.namespace.descend(ROOT).items() if other.file_id == inode.file_id)
        self.namespace.close(f"{ROOT}/{now}")

    def at(self, path: str) -> Source:
        return self._open(f"{ROOT}/{path}")

    def _open(self, path: str) -> Source:
        return open_source(
            self.hdfs.url.replace("http://", "webhdfs://") + path, Settings(cluster=Cluster(user="hdfs"))
        )
