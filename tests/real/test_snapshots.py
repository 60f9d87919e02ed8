"""Snapshots as a real NameNode has them: its exact words, whose right they are, and what its diffs do not tell."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import cast

import pytest

from asynccopy.config.cluster import Cluster
from asynccopy.errors import PermissionDenied, Refused
from asynccopy.model import Change
from asynccopy.storage.interface import Snapshots, Source
from asynccopy.storage.registry import Settings, open_source
from testbed.hdfs import Hdfs
from tests.real.writer import Writer
from tests.suites.snapshots import SnapshotWireSuite
from tests.suites.source import diff_of


class TestNameNode(SnapshotWireSuite):
    @pytest.fixture
    async def root(self, hdfs: Hdfs, root: str) -> str:
        self.hdfs, self.address, self.user = hdfs, hdfs.http, hdfs.user
        return root

    async def fill(self, root: str) -> None:
        with self.hdfs.client() as client:
            client.put(f"{root}/file", b"")
            for name in ("plain", "snap"):
                client.mkdirs(f"{root}/{name}")


def connect(hdfs: Hdfs, path: str, user: str | None = None) -> Source:
    return open_source(hdfs.url + path, Settings(cluster=Cluster(user=user or hdfs.user)))


def of(source: Source) -> Snapshots:
    return cast("Snapshots", source.snapshots)


async def test_whose_right_they_are(hdfs: Hdfs, root: str) -> None:
    """Only the owner may create and delete; names and diff are for all who may read."""
    with hdfs.client() as client:
        client.allow_snapshots(root)
        client.create_snapshot(root, "s")
    async with aclosing(connect(hdfs, root, "alice")) as source:
        assert await of(source).names() == ["s"]
        assert await diff_of(of(source), "s", "s") == []
        assert (await of(source).at("s").check()).is_directory
        with pytest.raises(PermissionDenied, match="alice is not the owner"):
            await of(source).create("t")
        for name in ("s", "t"):
            with pytest.raises(PermissionDenied, match="alice is not the owner"):
                await of(source).delete(name)
        assert await of(source).names() == ["s"]


async def test_where_none_can_be(hdfs: Hdfs, root: str) -> None:
    with hdfs.client() as client:
        client.put(f"{root}/file", b"")
    for path in (root, f"{root}/file", "/"):
        async with aclosing(connect(hdfs, path)) as source:
            assert await of(source).names() is None, path
            with pytest.raises(Refused):
                await of(source).create("s")
            await of(source).delete("s")


async def test_what_a_diff_does_not_tell(hdfs: Hdfs, root: str) -> None:
    """Hence a full scan now and then, also of a tree that has snapshots."""
    with hdfs.client() as client:
        client.allow_snapshots(root)
        client.put(f"{root}/regrown", b"x" * 1000)
        client.put(f"{root}/touched", b"1")
        client.put(f"{root}/chmod", b"1")
    async with aclosing(connect(hdfs, root)) as source:
        await of(source).create("s")
        before = {name: await source.status(name) for name in ("regrown", "touched")}
        await asyncio.sleep(0.02)
        with hdfs.client() as client:
            client.truncate(f"{root}/regrown", 100)
            while await source.is_open("regrown"):  # until its last block is recovered
                await asyncio.sleep(0.1)
            client.append(f"{root}/regrown", b"y" * 900)
            client.set_times(f"{root}/touched", 1_700_000_000_000)
            client.set_permission(f"{root}/chmod", "600")
        await of(source).create("t")
        assert await diff_of(of(source), "s", "t") == [Change("modify", "chmod")]
        for name, status in before.items():
            now = await of(source).at("t").status(name)
            assert (now.length, now.file_id) == (status.length, status.file_id)
            assert now.version != status.version


async def test_of_a_file_appended_to_meanwhile_no_diff_speaks(hdfs: Hdfs, root: str) -> None:
    with hdfs.client() as client:
        client.allow_snapshots(root)
        client.put(f"{root}/file", b"12")
    writer = Writer(hdfs, f"{root}/file", 5, append=True)
    await asyncio.to_thread(writer.open)
    async with aclosing(connect(hdfs, root)) as source:
        await of(source).create("s")
        frozen = of(source).at("s")
        assert (await frozen.status("file")).length == 2
        assert await frozen.is_open("file")
        await asyncio.to_thread(writer.finish, b"34567")
        assert (await frozen.status("file")).length == 7
        assert not await frozen.is_open("file")
        await of(source).create("t")
        assert await diff_of(of(source), "s", "t") == []
