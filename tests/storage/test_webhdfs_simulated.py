"""WebHDFS sits the exam, against the simulator."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing

import pytest

from asynccopy.simulators.namespace import TreeNamespace
from asynccopy.simulators.webhdfs import WebHdfsSimulator
from asynccopy.storage.interface import Source
from asynccopy.storage.registry import Settings, open_source
from tests.suites.source import SourceSuite

ROOT = "/data/tree"


class TestWebHdfsSource(SourceSuite):
    @pytest.fixture
    async def source(self) -> AsyncIterator[Source]:
        self.namespace = TreeNamespace(block_size=self.block_size)
        self.namespace.mkdir(ROOT)
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

    def at(self, path: str) -> Source:
        return self._open(f"{ROOT}/{path}")

    def _open(self, path: str) -> Source:
        return open_source(self.hdfs.url.replace("http://", "webhdfs://") + path, Settings(user="hdfs"))
