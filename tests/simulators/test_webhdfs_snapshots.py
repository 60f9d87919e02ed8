"""The simulated NameNode sits the exam of the real one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from asynccopy.simulators.namespace import TreeNamespace
from asynccopy.simulators.webhdfs import WebHdfsSimulator
from tests.suites.snapshots import SnapshotWireSuite


class TestSimulator(SnapshotWireSuite):
    user = "hdfs"

    @pytest.fixture
    async def root(self) -> AsyncIterator[str]:
        self.tree = TreeNamespace()
        self.tree.mkdir("/root")
        async with WebHdfsSimulator(self.tree) as hdfs:
            self.address = f"{hdfs.url}/webhdfs/v1"
            yield "/root"

    async def fill(self, root: str) -> None:
        self.tree.put(f"{root}/file", b"")
        for name in ("plain", "snap"):
            self.tree.mkdir(f"{root}/{name}")


def test_a_renamed_directory_takes_along_what_is_below() -> None:
    tree = TreeNamespace()
    tree.put("/a/b/file", b"123")
    tree.put("/a.b", b"")
    before = tree.status("/a/b/file")
    tree.rename("/a", "/c")
    assert tree.status("/a") is tree.status("/a/b/file") is None
    assert tree.status("/c/b/file") == before
    assert tree.read("/c/b/file", 0, 3) == b"123"
    assert [inode.name for inode in tree.children("/", "", 10)[0]] == ["a.b", "c"]
    with pytest.raises(ValueError, match="cannot become"):
        tree.rename("/c", "/c/d")
    with pytest.raises(ValueError, match="cannot become"):
        tree.rename("/c", "/a.b")
