"""Snapshots of WebHDFS where servers are old, strange or in trouble; and pairing the two ends of renames."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from asynccopy.config.cluster import Cluster
from asynccopy.errors import AsyncCopyError, NotFound, Refused, ServerTrouble, SnapshotGone, WrongServer
from asynccopy.model import ByteRange, Change
from asynccopy.retry import RetryPolicy
from asynccopy.simulators.faults import Fault, Status
from asynccopy.simulators.namespace import TreeNamespace
from asynccopy.simulators.server import Reply
from asynccopy.simulators.synthetic import SyntheticNamespace
from asynccopy.simulators.webhdfs import WebHdfsSimulator
from asynccopy.simulators.webhdfs_messages import json, remote_exception
from asynccopy.storage.interface import Snapshots, Source
from asynccopy.storage.registry import Settings, open_source
from asynccopy.storage.retrying import RetryingSource
from asynccopy.storage.single import SingleFile
from asynccopy.storage.webhdfs import snapshots as webhdfs_snapshots
from asynccopy.storage.webhdfs.snapshot_messages import DiffEntry, DiffPage
from asynccopy.storage.webhdfs.snapshots import Renames
from tests.suites.source import assert_explains, diff_of, read, walk

ROOT = "/data/tree"
PAGED = ("GETSNAPSHOTDIFFLISTING",)
NONE = ("GETSNAPSHOTDIFFLISTING", "GETSNAPSHOTDIFF", "GETSNAPSHOTLIST", "CREATESNAPSHOT", "DELETESNAPSHOT")


@asynccontextmanager
async def opened(hdfs: WebHdfsSimulator, path: str = ROOT) -> AsyncIterator[Source]:
    async with aclosing(
        open_source(hdfs.url.replace("http://", "webhdfs://") + path, Settings(cluster=Cluster(user="hdfs")))
    ) as source:
        yield source


def of(source: Source) -> Snapshots:
    assert source.snapshots is not None
    return source.snapshots


@pytest.fixture
def tree() -> TreeNamespace:
    tree = TreeNamespace()
    for number in range(20):
        tree.put(f"{ROOT}/d{number % 3}/{number:02}", b"1")
    tree.snapshots[ROOT] = {}
    return tree


# --- what servers lack


async def test_a_server_that_pages_no_diff(tree: TreeNamespace) -> None:
    tree.freeze(ROOT, "s")
    tree.rename(f"{ROOT}/d0", f"{ROOT}/moved")
    tree.put(f"{ROOT}/moved/new", b"")
    tree.delete(f"{ROOT}/d1/01")
    tree.freeze(ROOT, "t")
    expected = {
        Change("modify", ""),
        Change("rename", "d0", "moved"),
        Change("modify", "d0"),
        Change("create", "d0/new"),
        Change("modify", "d1"),
        Change("delete", "d1/01"),
    }
    async with WebHdfsSimulator(tree, page_size=2) as hdfs, opened(hdfs) as source:
        assert set(await diff_of(of(source), "s", "t")) == expected
        assert (hdfs.counts["GETSNAPSHOTDIFFLISTING"], hdfs.counts["GETSNAPSHOTDIFF"]) == (4, 0)
    async with WebHdfsSimulator(tree, lacks=PAGED) as hdfs, opened(hdfs) as source:
        assert set(await diff_of(of(source), "s", "t")) == expected
        with pytest.raises(SnapshotGone):
            await diff_of(of(source), "s", "u")


async def test_a_server_that_lists_no_snapshots(tree: TreeNamespace) -> None:
    async with WebHdfsSimulator(tree, lacks=["GETSNAPSHOTLIST"]) as hdfs, opened(hdfs) as source:
        assert await of(source).names() == []
        await of(source).create("s")
        await of(source).create("s")
        assert await of(source).names() == ["s"]
        await of(source).delete("s")
        await of(source).delete("s")
        assert await of(source).names() == []
        async with opened(hdfs, f"{ROOT}/d0") as below:
            assert await of(below).names() is None


async def test_a_server_that_knows_no_snapshots() -> None:
    async with WebHdfsSimulator(SyntheticNamespace(1, 1, 1)) as hdfs, opened(hdfs, "/dir-0000000") as source:
        assert await of(source).names() is None
        with pytest.raises(Refused):
            await of(source).create("s")
        with pytest.raises(Refused):
            await diff_of(of(source), "s", "t")
        await of(source).delete("s")


async def test_the_root_lists_none_but_may_have_none(tree: TreeNamespace) -> None:
    async with WebHdfsSimulator(tree) as hdfs, opened(hdfs, "/") as source:
        assert await of(source).names() is None
        with pytest.raises(Refused, match="quota"):
            await of(source).create("s")
        tree.snapshots["/"] = {}
        assert await of(source).names() == []
        await of(source).create("s")
        assert await of(source).names() == ["s"]
        tree.put("/new", b"")
        await of(source).create("t")
        assert await diff_of(of(source), "s", "t") == [Change("modify", ""), Change("create", "new")]
        assert (await of(source).at("s").status("data/tree/d0/00")).length == 1


async def test_a_snapshot_that_waits_for_its_deletion_is_none(tree: TreeNamespace) -> None:
    """``dfs.namenode.snapshot.deletion.ordered``."""
    tree.freeze(ROOT, "s")
    async with WebHdfsSimulator(tree) as hdfs, opened(hdfs) as source:
        answer = hdfs._ops["GETSNAPSHOTLIST"]

        def deleted(*arguments: Any) -> Reply:
            reply = answer(*arguments)
            return Reply(200, reply.body.replace(b"ACTIVE", b"DELETED"), reply.headers)

        hdfs._ops["GETSNAPSHOTLIST"] = deleted
        assert await of(source).names() == []


async def test_a_server_without_block_locations_cannot_tell_what_is_open(tree: TreeNamespace) -> None:
    tree.append(f"{ROOT}/d0/00", b"more", close=False)
    async with WebHdfsSimulator(tree, lacks=["GET_BLOCK_LOCATIONS"]) as hdfs, opened(hdfs) as source:
        assert not await source.is_open("d0/00")
    async with WebHdfsSimulator(tree) as hdfs, opened(hdfs) as source:
        assert await source.is_open("d0/00")


# --- trouble


async def test_a_directory_that_is_not_snapshottable_any_more(tree: TreeNamespace) -> None:
    del tree.snapshots[ROOT]
    async with WebHdfsSimulator(tree) as hdfs, opened(hdfs) as source:
        with pytest.raises(SnapshotGone):
            await diff_of(of(source), "s", "t")
        with pytest.raises(Refused):
            await of(source).create("s")
        await of(source).delete("s")


async def test_a_refused_deletion_is_told(tree: TreeNamespace) -> None:
    tree.freeze(ROOT, "s")
    async with WebHdfsSimulator(tree) as hdfs, opened(hdfs) as source:
        refusal = remote_exception("org.apache.hadoop.hdfs.protocol.SnapshotException", "not today")
        hdfs.faults.append(Fault(Status(403, refusal), "DELETESNAPSHOT"))
        with pytest.raises(Refused, match="not today"):
            await of(source).delete("s")
        hdfs.faults.append(Fault(Status(403, refusal), "CREATESNAPSHOT"))
        with pytest.raises(Refused, match="not today"):
            await of(source).create("t")


async def test_a_file_missing_in_a_snapshot_is_no_missing_snapshot(tree: TreeNamespace) -> None:
    tree.freeze(ROOT, "s")
    async with WebHdfsSimulator(tree) as hdfs, opened(hdfs) as source:
        frozen = of(source).at("s")
        with pytest.raises(NotFound):
            await frozen.status("missing")
        tree.forget(ROOT, "s")
        with pytest.raises(SnapshotGone, match="snapshot s is gone"):
            await frozen.status("missing")
        with pytest.raises(SnapshotGone):
            await read(frozen, "d0/00", ByteRange(0, 1))


async def test_a_diff_that_does_not_advance(tree: TreeNamespace) -> None:
    tree.freeze(ROOT, "s")
    tree.delete(f"{ROOT}/d0")
    tree.delete(f"{ROOT}/d1")
    tree.freeze(ROOT, "t")
    async with WebHdfsSimulator(tree, page_size=1) as hdfs, opened(hdfs) as source:
        page = {"modifyList": [], "createList": [], "deleteList": [], "lastPath": "d", "lastIndex": 3}
        hdfs._ops["GETSNAPSHOTDIFFLISTING"] = lambda *_: json({"SnapshotDiffReportListing": page})
        with pytest.raises(WrongServer, match="does not advance"):
            await diff_of(of(source), "s", "t")


async def test_an_error_without_a_message(tree: TreeNamespace) -> None:
    """Hadoop 3.5.0 says so of the inode of a file that was renamed and deleted, and is in a snapshot still."""
    tree.freeze(ROOT, "s")
    async with WebHdfsSimulator(tree) as hdfs, opened(hdfs) as source:
        said = b'{"RemoteException":{"exception":"IllegalArgumentException","javaClassName":"x","message":null}}'
        hdfs.faults.append(Fault(Status(400, said), "GET_BLOCK_LOCATIONS"))
        assert not await of(source).at("s").is_open("d0/00")
        hdfs.faults.append(Fault(Status(400, said), "GETFILESTATUS"))
        with pytest.raises(Refused, match="no message"):
            await source.status("d0")


# --- the wrappers


def patient(source: Source, noticed: list[AsyncCopyError]) -> RetryingSource:
    return RetryingSource(source, RetryPolicy(first=0.001, most=0.002), lambda error, _: noticed.append(error))


async def test_snapshots_are_tried_again(tree: TreeNamespace) -> None:
    noticed: list[AsyncCopyError] = []
    async with WebHdfsSimulator(tree, page_size=2) as hdfs, opened(hdfs) as source:
        snapshots = of(patient(source, noticed))
        for op in ("CREATESNAPSHOT", "GETSNAPSHOTLIST", "GETFILESTATUS", "GET_BLOCK_LOCATIONS", "DELETESNAPSHOT"):
            hdfs.faults.append(Fault(Status(500), op, times=2))
        await snapshots.create("s")
        assert await snapshots.names() == ["s"]
        assert (await snapshots.at("s").status("d0/00")).length == 1
        assert not await patient(source, noticed).is_open("d0/00")
        await snapshots.delete("s")
        assert tree.snapshots[ROOT] == {}
    assert [type(error) for error in noticed] == [ServerTrouble] * 10


async def test_a_diff_that_breaks_begins_anew(tree: TreeNamespace) -> None:
    tree.freeze(ROOT, "s")
    for number in range(20):
        tree.delete(f"{ROOT}/d{number % 3}/{number:02}")
    tree.freeze(ROOT, "t")
    noticed: list[AsyncCopyError] = []
    async with WebHdfsSimulator(tree, page_size=3) as hdfs, opened(hdfs) as source:
        whole = await diff_of(of(source), "s", "t")
        for after in (2, 5, 7):
            hdfs.faults.append(Fault(Status(500), "GETSNAPSHOTDIFFLISTING", after=after))
        again = await diff_of(of(patient(source, noticed)), "s", "t")
    assert len(noticed) == 3
    assert set(again) == set(whole)
    assert len(again) > len(whole)


async def test_a_page_that_always_fails_ends_the_patience(tree: TreeNamespace) -> None:
    tree.freeze(ROOT, "s")
    tree.delete(f"{ROOT}/d0")
    tree.delete(f"{ROOT}/d1")
    tree.freeze(ROOT, "t")
    async with WebHdfsSimulator(tree, page_size=1) as hdfs, opened(hdfs) as source:
        page = hdfs._ops["GETSNAPSHOTDIFFLISTING"]

        def second_fails(path: str, query: Any) -> Reply:
            return page(path, query) if query["snapshotdiffindex"] == "-1" else Reply(500)

        hdfs._ops["GETSNAPSHOTDIFFLISTING"] = second_fails
        policy = RetryPolicy(first=0.001, most=0.01, patience=0.2)
        with pytest.raises(ServerTrouble):
            await diff_of(of(RetryingSource(source, policy, lambda *_: None)), "s", "t")


async def test_a_single_file_has_none(tree: TreeNamespace) -> None:
    tree.append(f"{ROOT}/d0/00", b"more", close=False)
    async with WebHdfsSimulator(tree) as hdfs, opened(hdfs, f"{ROOT}/d0/00") as source:
        single = SingleFile(source)
        assert single.snapshots is None
        assert await single.is_open("00")


# --- pairing


def raw(changes: list[tuple[str, int, str, str | None]]) -> DiffPage:
    """(list, id, path, target): a reference where there is a target, or ``""`` for the created end."""
    lists: dict[str, list[DiffEntry]] = {"modify": [], "create": [], "delete": []}
    for kind, file_id, path, target in changes:
        lists[kind].append(DiffEntry(path, file_id, target is not None, target or None))
    return DiffPage(lists["modify"], lists["create"], lists["delete"], "", -1)


ENDS = [
    ("create", 1, "b", ""),
    ("delete", 1, "a", "b"),
    ("create", 2, "x/new", ""),
    ("delete", 2, "old", "y/new"),
    ("create", 3, "came from elsewhere", ""),
    ("create", 4, "really new", None),
    ("delete", 5, "gone", None),
    ("modify", 6, "grown", None),
]
MEANT = {
    Change("rename", "a", "b"),
    Change("rename", "old", "y/new"),
    Change("create", "came from elsewhere"),
    Change("create", "really new"),
    Change("delete", "gone"),
    Change("modify", "grown"),
}


@pytest.mark.parametrize("seed", range(20))
def test_the_ends_of_a_rename_come_in_any_order_and_page(seed: int) -> None:
    chance = random.Random(seed)
    ends = chance.sample(ENDS, len(ENDS))
    cut = chance.randrange(len(ends))
    renames = Renames()
    found = [*renames.changes(raw(ends[:cut])), *renames.changes(raw(ends[cut:])), *renames.rest()]
    assert sorted(found, key=str) == sorted(MEANT, key=str)


def test_of_very_many_renames_not_all_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhdfs_snapshots, "HELD", 10)
    renames = Renames()
    found = renames.changes(raw([("create", n, f"new{n}", "") for n in range(11)]))
    assert set(found) == {Change("create", f"new{n}") for n in range(11)}
    found = renames.changes(raw([("delete", n, f"old{n}", f"new{n}") for n in range(11)]))
    assert set(found) == {Change("rename", f"old{n}", f"new{n}") for n in range(11)}
    assert renames.rest() == []
    assert not renames._deleted


async def test_both_diffs_explain_the_same(tree: TreeNamespace) -> None:
    tree.freeze(ROOT, "s")
    tree.rename(f"{ROOT}/d0/00", f"{ROOT}/kept")
    tree.rename(f"{ROOT}/d1/01", f"{ROOT}/d2/01")
    tree.delete(f"{ROOT}/d0")
    tree.rename(f"{ROOT}/d2", f"{ROOT}/d0")
    tree.put(f"{ROOT}/d2/02", b"other")
    tree.append(f"{ROOT}/d0/05", b"more")
    tree.freeze(ROOT, "t")
    for lacks in ((), PAGED):
        async with WebHdfsSimulator(tree, page_size=1, lacks=lacks) as hdfs, opened(hdfs) as source:
            old, new = await walk(of(source).at("s")), await walk(of(source).at("t"))
            assert_explains(await diff_of(of(source), "s", "t"), old, new)
