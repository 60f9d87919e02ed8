"""WebHDFS through a stand-in for Knox: a topology in the path, a password, and redirects that only it can read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from asynccopy.errors import AsyncCopyError, CredentialsRefused
from asynccopy.model import ByteRange
from asynccopy.simulators.namespace import TreeNamespace
from asynccopy.simulators.webhdfs import WebHdfsSimulator
from asynccopy.storage.interface import Source
from asynccopy.storage.webhdfs.auth import Simple
from asynccopy.storage.webhdfs.client import WebHdfsClient
from asynccopy.storage.webhdfs.nameservice import Nameservice, servers
from asynccopy.storage.webhdfs.source import WebHdfsSource
from tests.knox import Basic, Knox
from tests.storage.test_webhdfs_simulated import ROOT
from tests.storage.test_webhdfs_simulated import TestWebHdfsSource as WebHdfsExam


def client(*knox: Knox) -> WebHdfsClient:
    return WebHdfsClient(Nameservice(servers([each.url for each in knox])), Basic(), connections=16)


class TestKnox(WebHdfsExam):
    @pytest.fixture
    async def source(self) -> AsyncIterator[Source]:
        self.namespace = TreeNamespace(block_size=self.block_size)
        self.namespace.mkdir(ROOT)
        self.namespace.snapshots[ROOT] = {}
        async with (
            WebHdfsSimulator(self.namespace, datanodes=2, page_size=self.page_size) as hdfs,
            Knox(hdfs.url, "hdfs") as self.knox,
            aclosing(self._open(ROOT)) as source,
        ):
            yield source
            assert self.knox.refused == 0

    def _open(self, path: str) -> Source:
        return WebHdfsSource(client(self.knox), "hdfs://prod", path)


del WebHdfsExam


@pytest.fixture
async def hdfs() -> AsyncIterator[WebHdfsSimulator]:
    namespace = TreeNamespace(block_size=1 << 20)
    namespace.put("/file", b"body")
    async with WebHdfsSimulator(namespace) as hdfs:
        yield hdfs


async def read(source: Source) -> bytes:
    reader = await source.open("file", ByteRange(0, 4))
    body = bytearray(4)
    try:
        assert await reader.readinto(memoryview(body)) == 4
    finally:
        reader.close()
    return bytes(body)


async def test_two_share_the_load(hdfs: WebHdfsSimulator) -> None:
    async with Knox(hdfs.url, "hdfs") as one, Knox(hdfs.url, "hdfs") as two:
        async with aclosing(WebHdfsSource(client(one, two), "hdfs://prod", "")) as source:
            for _ in range(20):
                assert await read(source) == b"body"
        assert sorted([len(one.headers), len(two.headers)]) == [10, 10]


async def test_a_missing_password_is_told(hdfs: WebHdfsSimulator) -> None:
    async with Knox(hdfs.url, "hdfs") as knox:
        nameservice = Nameservice(servers([knox.url]))
        stranger = WebHdfsClient(nameservice, Simple("me"), connections=16)
        async with aclosing(WebHdfsSource(stranger, "hdfs://prod", "")) as source:
            with pytest.raises(CredentialsRefused):
                await source.check()


async def test_the_password_goes_to_no_other_origin(hdfs: WebHdfsSimulator) -> None:
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.close()

    listener = await asyncio.start_server(listen, "127.0.0.1", 0)
    async with Knox(hdfs.url, "hdfs") as knox, listener:
        knox.elsewhere = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        async with aclosing(WebHdfsSource(client(knox), "hdfs://prod", "")) as source:
            for call in (read(source), source.checksum("file")):
                with pytest.raises(AsyncCopyError):
                    await call
    assert heard == []
