"""Owners, permissions, times and blocks of what is written to HDFS, against the simulator."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from pathlib import Path
from typing import Any, get_args

import pytest
from msgspec.structs import replace

from asynccopy.config.cluster import Cluster
from asynccopy.errors import CredentialsRefused, PermissionDenied, Refused, Transient
from asynccopy.journal import Journal
from asynccopy.mirror.mirror import CopyOptions, Mirror
from asynccopy.mirror.progress import Progress
from asynccopy.mirror.selection import Selection
from asynccopy.model import MIB, Attributes, FileStatus, PartReceipt, Preserved
from asynccopy.simulators.faults import Fault, LostReply, Status
from asynccopy.simulators.namespace import Inode, TreeNamespace
from asynccopy.simulators.webhdfs import WebHdfsSimulator
from asynccopy.simulators.webhdfs_messages import remote_exception
from asynccopy.storage.registry import Settings, open_destination, open_source
from asynccopy.storage.webhdfs.auth import Simple
from asynccopy.storage.webhdfs.client import WebHdfsClient
from asynccopy.storage.webhdfs.destination import WebHdfsDestination
from asynccopy.storage.webhdfs.nameservice import Nameservice, servers
from asynccopy.storage.webhdfs.uploads import same_blocks
from tests.suites.destination import Body, crc32c, noise

ROOT = "/data"
BLOCK = 64 * 1024
ALL: tuple[Preserved, ...] = get_args(Preserved)
HAS = Attributes("hive", "warehouse", 0o440, 1_500_000_000_000, 2)
DENIED = Status(
    403,
    remote_exception("org.apache.hadoop.security.AccessControlException", "alice is not a super user"),
    {"Content-Type": "application/json"},
)


def status(path: str, length: int, **more: Any) -> FileStatus:
    return replace(FileStatus(path, length, 1_400_000_000_000, 7, False, 2 * BLOCK, HAS), **more)


class Stage:
    def __init__(self, tree: TreeNamespace, hdfs: WebHdfsSimulator) -> None:
        self.tree = tree
        self.hdfs = hdfs
        self._opened: list[WebHdfsDestination] = []

    def destination(self, words: Iterable[Preserved] = ALL, *, checksums: bool = False) -> WebHdfsDestination:
        client = WebHdfsClient(Nameservice(servers([self.hdfs.url])), Simple("hdfs"), connections=8)
        base = self.hdfs.url.replace("http", "webhdfs")
        opened = WebHdfsDestination(client, base, ROOT, preserve=frozenset(words), checksums=checksums)
        self._opened.append(opened)
        return opened

    def inode(self, path: str) -> Inode:
        found = self.tree.status(f"{ROOT}/{path}")
        assert found is not None, path
        return found

    def paths(self) -> list[str]:
        return sorted(path for path, inode in self.tree.descend(ROOT).items() if not inode.is_directory)

    async def aclose(self) -> None:
        for opened in self._opened:
            await opened.aclose()


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    tree = TreeNamespace(block_size=BLOCK)
    async with WebHdfsSimulator(tree, datanodes=2) as hdfs, aclosing(Stage(tree, hdfs)) as stage:
        yield stage


def kept(inode: Inode) -> tuple[object, ...]:
    return (
        inode.owner,
        inode.group,
        inode.permission,
        inode.modification_time,
        inode.access_time,
        inode.replication,
        inode.block_size,
    )


WHOLE = ("hive", "warehouse", 0o440, 1_400_000_000_000, 1_500_000_000_000, 2, 2 * BLOCK)


async def put(destination: WebHdfsDestination, file: FileStatus, body: bytes = b"body") -> Any:
    return await destination.put(file.path, body, crc32c(body), file)


async def upload(destination: WebHdfsDestination, file: FileStatus, pieces: list[bytes]) -> Any:
    upload_id, parts, at = await destination.create_upload(file.path, file), [], 0
    for number, piece in enumerate(pieces, start=1):
        reply = await destination.upload_part(file.path, upload_id, number, len(piece), Body(piece), file)
        parts.append(PartReceipt(number, at, len(piece), reply.etag, crc32c(piece)))
        at += len(piece)
    return upload_id, parts


async def test_a_file_has_all_before_it_has_its_name(stage: Stage) -> None:
    destination = stage.destination()
    for number in range(6):  # until every DataNode is known
        await put(destination, status(f"d/first{number}", 4))
    before = stage.hdfs.counts.copy()
    said = await put(destination, status("d/f", 4))
    assert kept(stage.inode("d/f")) == WHOLE
    assert said == await destination.head("d/f")  # the ETag, which has the time, included
    assert stage.hdfs.counts - before == {
        "CREATE": 1,
        "CREATE@DataNode": 1,
        "GETFILESTATUS": 2,
        "SETOWNER": 1,
        "SETTIMES": 1,
        "SETPERMISSION": 1,
        "RENAME": 1,
    }


@pytest.mark.parametrize("op", ["SETOWNER", "SETTIMES", "SETPERMISSION"])
async def test_a_file_that_cannot_have_them_does_not_appear(stage: Stage, op: str) -> None:
    destination = stage.destination()
    await put(destination, status("f", 3), b"old")
    stage.hdfs.faults.append(Fault(DENIED, op=op))
    with pytest.raises(PermissionDenied) as caught:
        await put(destination, status("f", 3), b"new")
    assert op in caught.value.message
    assert ("superuser" in caught.value.hint) == (op == "SETOWNER")
    assert stage.paths() == ["f"] and stage.tree.read(f"{ROOT}/f", 0, 3) == b"old"


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("owner",), ("hive", "supergroup", 0o644, 1, BLOCK)),
        (("group",), ("hdfs", "warehouse", 0o644, 1, BLOCK)),
        (("permission",), ("hdfs", "supergroup", 0o440, 1, BLOCK)),
        (("replication",), ("hdfs", "supergroup", 0o644, 2, BLOCK)),
        (("block-size",), ("hdfs", "supergroup", 0o644, 1, 2 * BLOCK)),
        ((), ("hdfs", "supergroup", 0o644, 1, BLOCK)),
    ],
)
async def test_only_what_was_asked_for(stage: Stage, words: tuple[Preserved, ...], wanted: tuple[object, ...]) -> None:
    destination = stage.destination(words)
    await put(destination, status("f", 4))
    upload_id, parts = await upload(destination, status("g", 4), [b"bo", b"dy"])
    await destination.complete_upload("g", upload_id, parts, crc32c(b"body"), status("g", 4))
    for inode in (stage.inode("f"), stage.inode("g")):
        assert (inode.owner, inode.group, inode.permission, inode.replication, inode.block_size) == wanted
        assert inode.modification_time != 1_400_000_000_000


async def test_a_file_joined_of_parts(stage: Stage) -> None:
    destination = stage.destination()
    file = status("d/big", 6)
    upload_id, parts = await upload(destination, file, [b"123", b"45", b"6"])
    said = await destination.complete_upload("d/big", upload_id, parts, crc32c(b"123456"), file)
    assert kept(stage.inode("d/big")) == WHOLE
    assert said == await destination.head("d/big") and stage.paths() == ["d/big"]


@pytest.mark.parametrize("op", ["CONCAT", "SETOWNER", "SETTIMES", "SETPERMISSION", "RENAME"])
async def test_a_completion_that_was_cut_off_goes_on(stage: Stage, op: str) -> None:
    destination = stage.destination(checksums=True)
    file = status("big", 6)
    upload_id, parts = await upload(destination, file, [b"123", b"456"])
    stage.tree.mkdir(ROOT)
    fault = Fault(LostReply(), op=op, times=2)  # a request whose connection was kept is repeated by the door
    stage.hdfs.faults.append(fault)
    for _ in range(3):
        try:
            await destination.complete_upload("big", upload_id, parts, crc32c(b"123456"), file)
        except Transient:
            continue
        break
    assert fault.hits
    assert kept(stage.inode("big")) == WHOLE
    assert stage.paths() == ["big"] and stage.tree.read(f"{ROOT}/big", 0, 6) == b"123456"


async def test_a_directory_has_owner_and_permission(stage: Stage) -> None:
    destination = stage.destination()
    await put(destination, status("d/", 0, is_directory=True), b"")
    inode = stage.inode("d")
    assert (inode.owner, inode.group, inode.permission) == ("hive", "warehouse", 0o440)
    said = await destination.head("d/")
    await put(destination, status("d/f", 4))
    assert await destination.head("d/") == replace(said, modification_time=stage.inode("d").modification_time)


async def test_a_cluster_that_keeps_no_access_times(stage: Stage) -> None:
    refusal = remote_exception(
        "java.io.IOException",
        "Access time for hdfs is not configured.  Please set dfs.namenode.accesstime.precision ...",
    )
    stage.hdfs.faults.append(Fault(Status(403, refusal, {"Content-Type": "application/json"}), op="SETTIMES"))
    destination = stage.destination()
    await put(destination, status("f", 4))
    await put(destination, status("g", 4))
    assert [stage.inode(path).modification_time for path in "fg"] == [1_400_000_000_000] * 2
    assert stage.hdfs.counts["SETTIMES"] == 3  # once refused, and not asked for again


@pytest.mark.parametrize(("words", "refused"), [(("owner",), True), (ALL, True), (("group", "times"), False)])
async def test_owners_are_the_superusers_to_give(stage: Stage, words: tuple[Preserved, ...], refused: bool) -> None:
    stage.hdfs.faults.append(Fault(DENIED, op="SETOWNER", times=99))
    destination = stage.destination(words)
    if refused:
        with pytest.raises(CredentialsRefused, match="not a super user") as caught:
            await destination.check()
        assert "superuser" in caught.value.hint and "preserve neither owner" in caught.value.hint
    else:
        await destination.check()
    assert stage.paths() == []


async def test_a_source_that_tells_no_attributes(stage: Stage) -> None:
    destination = stage.destination()
    with pytest.raises(Refused, match="tells no attributes"):
        await put(destination, status("f", 4, attributes=None))
    assert stage.paths() == []
    await put(destination, status("g", 4, attributes=replace(HAS, replication=0)))  # erasure-coded
    assert stage.inode("g").replication == 1
    await destination.put("h", b"body", crc32c(b"body"))  # of no file
    assert kept(stage.inode("h"))[:3] == ("hdfs", "supergroup", 0o644)


# --- a whole copy


async def copied(stage: Stage, journal: Journal, *, preserving: bool = True) -> Counter[str]:
    """What the NameNode was asked for files of the source."""
    settings = Settings(cluster=Cluster(user="hdfs"), preserve=ALL if preserving else (), file_checksums=True)
    url = stage.hdfs.url.replace("http", "webhdfs")
    asked: Counter[str] = Counter()
    async with (
        aclosing(open_source(f"{url}/src", settings)) as source,
        aclosing(open_destination(f"{url}{ROOT}", settings)) as destination,
    ):
        status = source.status

        async def counted(path: str) -> FileStatus:
            asked[path] += 1
            return await status(path)

        source.status = counted  # type: ignore[method-assign]
        progress = Progress()
        options = CopyOptions(preserving=preserving)
        await Mirror(
            source,
            destination,
            journal,
            selection=Selection(),
            options=options,
            stop=asyncio.Event(),
            progress=progress,
        ).copy()
        assert not progress.failures
    return asked - Counter([""])


async def test_a_tree_with_its_directories(stage: Stage, tmp_path: Path) -> None:
    for path in ("/src/a", "/src/d/b", "/src/d/e/c"):
        stage.tree.put(path, b"body", block_size=2 * BLOCK)
    stage.tree.mkdir("/src/d/empty")
    given = {"owner": "hive", "group": "warehouse", "access_time": 1_500_000_000_000}
    for path, inode in stage.tree.descend("/src").items():
        mode = 0o750 if inode.is_directory else 0o440
        stage.tree.set_attributes(f"/src/{path}".rstrip("/"), permission=mode, replication=2, **given)
    journal = await Journal.open(tmp_path / "journal", source="src", destination="dst")
    # Of files the listing has told all; directories are asked for when their turn comes.
    assert await copied(stage, journal) == {"d": 1, "d/e": 1, "d/empty": 1}
    found = stage.tree.descend(ROOT)
    assert {path for path, inode in found.items() if path and inode.is_directory} == {"d", "d/e", "d/empty"}
    for path, inode in stage.tree.descend("/src").items():
        if path:
            there = found[path]
            assert (there.owner, there.group, there.permission) == ("hive", "warehouse", inode.permission)
            if not inode.is_directory:
                assert kept(there) == kept(inode)
    rows = {row.path: row async for row in journal.ledger()}
    assert rows.keys() == {"a", "d/", "d/b", "d/e/", "d/e/c", "d/empty/"}
    assert {row.method for path, row in rows.items() if not path.endswith("/")} == {"checksum"}
    assert rows["a"].object_checksum == rows["a"].source_checksum != ""
    assert await copied(stage, journal) == {}
    await journal.reopen(["d/b"])
    assert await copied(stage, journal) == {}  # it is listed again first
    assert kept(stage.inode("d/b")) == kept(found["d/b"])
    await journal.close()


async def test_a_mirror_that_begins_to_preserve_looks_at_every_directory(stage: Stage, tmp_path: Path) -> None:
    stage.tree.put("/src/d/f", b"body")
    stage.tree.set_attributes("/src/d", permission=0o700)
    journal = await Journal.open(tmp_path / "journal", source="src", destination="dst")
    await copied(stage, journal, preserving=False)
    assert stage.inode("d").permission == 0o755
    await copied(stage, journal)
    assert stage.inode("d").permission == 0o700
    await copied(stage, journal, preserving=False)
    assert stage.inode("d").permission == 0o700 and stage.paths() == ["d/f"]
    await journal.close()


# --- checksums


async def test_the_checksum_is_told_where_the_blocks_are_the_sources(stage: Stage) -> None:
    body = noise(3 * BLOCK)
    stage.tree.put("/source", body, block_size=2 * BLOCK)
    destination, plain = stage.destination(checksums=True), stage.destination((), checksums=True)
    file = status("f", len(body))
    wanted = await plain._files.client.checksum("/source")
    said = await destination.put("f", body, crc32c(body), file)
    assert said.file_checksum is not None and said.file_checksum.value.encode() in wanted.body
    assert (await plain.put("g", body, crc32c(body), file)).file_checksum is None  # other blocks
    upload_id, parts = await upload(destination, file, [body[: 2 * BLOCK], body[2 * BLOCK :]])
    joined = await destination.complete_upload("f", upload_id, parts, crc32c(body), file)
    assert joined.file_checksum == said.file_checksum
    upload_id, parts = await upload(destination, file, [body[:BLOCK], body[BLOCK:]])
    uneven = await destination.complete_upload("f", upload_id, parts, crc32c(body), file)
    assert uneven.file_checksum is None
    assert kept(stage.inode("f"))[4] == HAS.access_time
    assert (await stage.destination().put("h", body, crc32c(body), file)).file_checksum is None  # not wanted


@pytest.mark.parametrize(
    ("length", "block", "parts", "same"),
    [
        (10, MIB, (), True),
        (MIB, 3 * MIB, (), True),
        (0, MIB, (), False),
        (MIB, 1000, (), False),
        (5 * MIB, 2 * MIB, (4 * MIB, MIB), True),
        (5 * MIB, 2 * MIB, (2 * MIB, 2 * MIB, MIB), True),
        (5 * MIB, 2 * MIB, (3 * MIB, 2 * MIB), False),
        (5 * MIB, 3 * MIB, (3 * MIB, 2 * MIB), False),
        (2 * MIB, 2 * MIB, (MIB, MIB), False),
        (MIB, 0, (), False),
    ],
)
def test_same_blocks(length: int, block: int, parts: tuple[int, ...], same: bool) -> None:
    written = FileStatus("f", length, 1, 1, False, 2 * MIB)
    receipts = [PartReceipt(number, 0, size, "e", 0) for number, size in enumerate(parts, start=1)]
    assert same_blocks(written, status("f", length, block_size=block), receipts) is same
