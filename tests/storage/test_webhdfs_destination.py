"""WebHDFS as a destination sits the exam, against the simulator; then what only HDFS has."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from asynccopy.errors import (
    NameRefused,
    NotFound,
    NotThere,
    Refused,
    ServerTrouble,
    ShortRead,
    Transient,
    UploadGone,
    WrongServer,
)
from asynccopy.model import MIB, FileStatus, PartReceipt
from asynccopy.simulators.faults import Delay, Fault, LostReply, Status
from asynccopy.simulators.namespace import TreeNamespace
from asynccopy.simulators.webhdfs import WebHdfsSimulator
from asynccopy.storage.interface import Destination
from asynccopy.storage.webhdfs import uploads
from asynccopy.storage.webhdfs.auth import Simple
from asynccopy.storage.webhdfs.client import WebHdfsClient
from asynccopy.storage.webhdfs.destination import WebHdfsDestination
from asynccopy.storage.webhdfs.nameservice import Nameservice, servers
from tests.suites import NASTY_NAMES
from tests.suites.destination import DestinationSuite, crc32c, listed, noise, put, send

ROOT = "/data/copy of it"


def opened(hdfs: WebHdfsSimulator, *, root: str = ROOT, page_size: int = 1000) -> WebHdfsDestination:
    client = WebHdfsClient(Nameservice(servers([hdfs.url])), Simple("hdfs"), connections=16)
    return WebHdfsDestination(client, hdfs.url.replace("http", "webhdfs"), root, page_size=page_size)


class TestWebHdfsDestination(DestinationSuite):
    @pytest.fixture
    async def destination(self, request: pytest.FixtureRequest) -> AsyncIterator[Destination]:
        if request.node.originalname.startswith("test_copy"):
            pytest.skip("HDFS copies nothing by itself")
        namespace = TreeNamespace(block_size=64 * 1024)
        async with (
            WebHdfsSimulator(namespace, datanodes=2, page_size=self.page_size) as hdfs,
            aclosing(opened(hdfs, page_size=self.page_size)) as destination,
        ):
            yield destination
        left = [path for path in namespace.descend("/") if ".asynccopy" in path]
        assert left == [] or any(".tmp" not in path for path in left), left


class Stage:
    """A simulated cluster, and destinations on it."""

    def __init__(self, namespace: TreeNamespace, hdfs: WebHdfsSimulator) -> None:
        self.namespace = namespace
        self.hdfs = hdfs
        self.destination = opened(hdfs)

    def held(self) -> dict[str, bytes]:
        """The files below the root, the staging directory's included."""
        found = self.namespace.descend(ROOT)
        return {
            path: self.namespace.read(f"{ROOT}/{path}", 0, inode.length)
            for path, inode in found.items()
            if not inode.is_directory
        }

    async def uploaded(self, key: str, pieces: list[bytes]) -> tuple[str, list[PartReceipt]]:
        upload = await self.destination.create_upload(key)
        parts, at = [], 0
        for number, piece in enumerate(pieces, start=1):
            parts.append(await send(self.destination, key, upload, number, at, piece))
            at += len(piece)
        return upload, parts


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    namespace = TreeNamespace(block_size=64 * 1024)
    async with WebHdfsSimulator(namespace, datanodes=2) as hdfs:
        stage = Stage(namespace, hdfs)
        async with aclosing(stage.destination):
            yield stage


def blocks(stage: Stage, key: str) -> list[int]:
    inode = stage.namespace.status(f"{ROOT}/{key}")
    assert inode is not None
    return [length for _, length in inode.blocks()]


async def test_a_file_takes_four_requests_to_the_namenode(stage: Stage) -> None:
    await put(stage.destination, "d/first", b"1")
    before = stage.hdfs.counts.copy()
    await put(stage.destination, "d/second", b"2")
    assert stage.hdfs.counts - before == {"CREATE": 1, "CREATE@DataNode": 1, "GETFILESTATUS": 1, "RENAME": 1}


async def test_nothing_is_deleted_to_replace_a_file(stage: Stage) -> None:
    await put(stage.destination, "key", b"old")
    upload, parts = await stage.uploaded("key", [b"ne", b"w"])
    await put(stage.destination, "key", b"newer")
    assert stage.hdfs.counts["DELETE"] == 0
    await stage.destination.complete_upload("key", upload, parts, crc32c(b"new"))
    assert stage.held() == {"key": b"new"}
    assert stage.hdfs.counts["DELETE"] == 1  # the upload's directory


async def test_parts_are_joined_in_their_order_by_several_requests(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "BATCH", 4)
    pieces = [bytes([n]) * (n + 1) for n in range(12)]
    upload, parts = await stage.uploaded("d/key", pieces)
    said = await stage.destination.complete_upload("d/key", upload, parts, 0)
    assert stage.hdfs.counts["CONCAT"] == 3
    assert stage.held() == {"d/key": b"".join(pieces)}
    assert blocks(stage, "d/key") == [len(piece) for piece in pieces]
    head = await stage.destination.head("d/key")
    assert head == said


@pytest.mark.parametrize(("op", "after"), [("CONCAT", 0), ("CONCAT", 1), ("CONCAT", 2), ("RENAME", 0), ("DELETE", 0)])
async def test_a_completion_that_was_cut_off_goes_on(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, op: str, after: int
) -> None:
    monkeypatch.setattr(uploads, "BATCH", 2)
    pieces = [b"one", b"two", b"three", b"four", b"five", b"six", b"seven"]
    upload, parts = await stage.uploaded("key", pieces)
    whole = b"".join(pieces)
    fault = Fault(LostReply(), op=op, after=after)
    stage.hdfs.faults.append(fault)
    for _ in range(2):
        try:
            await stage.destination.complete_upload("key", upload, parts, 0)
        except (Transient, UploadGone):
            continue
        break
    assert fault.hits == 1
    assert stage.held() == {"key": whole}
    assert await stage.destination.list_uploads("") == []


async def test_a_part_that_was_renamed_unheard_is_not_taken_for_missing(stage: Stage) -> None:
    """The request is repeated, and finds the part renamed already."""
    upload = await stage.destination.create_upload("key")
    fault = Fault(LostReply(), op="RENAME")
    stage.hdfs.faults.append(fault)
    part = await send(stage.destination, "key", upload, 1, 0, b"one")
    assert fault.hits == 1
    await stage.destination.complete_upload("key", upload, [part], 0)
    assert stage.held() == {"key": b"one"}


async def test_a_completion_beside_another_one_is_tried_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    upload, parts = await stage.uploaded("key", [b"one", b"two", b"three"])
    writer = stage.destination._writer
    concat = writer.concat

    async def beaten(path: str, files: Sequence[FileStatus]) -> None:
        await concat(path, files)
        await concat(path, files)

    monkeypatch.setattr(writer, "concat", beaten)
    with pytest.raises(ServerTrouble):
        await stage.destination.complete_upload("key", upload, parts, 0)
    await stage.destination.complete_upload("key", upload, parts, 0)
    assert stage.held() == {"key": b"onetwothree"}


async def test_a_completion_in_the_middle_is_known_by_the_first_parts_length() -> None:
    def file(number: int, file_id: int, length: int) -> FileStatus:
        return FileStatus(f"u/part-{number:05d}", length, 5, file_id)

    parts = [PartReceipt(n, 10 * (n - 1), 10, f"{100 + n}-5-10", 0) for n in (1, 2, 3)]
    first, second, third = (file(n, 100 + n, 10) for n in (1, 2, 3))
    assert uploads.to_join("k", parts, {1: first, 2: second, 3: third}) == [first, second, third]
    for length, rest in ((20, [third]), (30, [])):
        grown = file(1, 101, length)
        left = {uploads.part_number(each.path) or 0: each for each in rest}
        assert uploads.to_join("k", parts, {1: grown, **left}) == [grown, *rest]
    for found in (
        {},
        {1: first, 2: second},
        {1: file(1, 999, 10), 2: second, 3: third},
        {1: file(1, 101, 15), 2: second, 3: third},
        {1: first, 2: file(2, 999, 10), 3: third},
    ):
        with pytest.raises(Refused):
            uploads.to_join("k", parts, found)
    for wrong in ([], parts[1:], [parts[0], parts[2]]):
        with pytest.raises(Refused):
            uploads.to_join("k", wrong, {1: first, 2: second, 3: third})


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "/a",
        "a//b",
        "a/./b",
        "../a",
        "a/..",
        "a:b",
        "a\0",
        "d/.snapshot/x",
        ".asynccopy/x",
        "\ud800",
        "ü" * 128,
        "/".join(["ü" * 50] * 12),
    ],
)
async def test_names_that_hdfs_refuses(stage: Stage, key: str) -> None:
    with pytest.raises(NameRefused):
        await put(stage.destination, key, b"")
    with pytest.raises(NameRefused):
        await stage.destination.create_upload(key)
    assert not stage.hdfs.counts


async def test_something_is_in_the_way(stage: Stage) -> None:
    await put(stage.destination, "file", b"1")
    await put(stage.destination, "d/file", b"2")
    for key in ("file/below", "file/further/below", "d", "file/"):
        with pytest.raises(NameRefused):
            await put(stage.destination, key, b"")
        assert await stage.destination.head(key) is None
    with pytest.raises(Refused, match="no bytes"):
        await put(stage.destination, "e/", b"x")
    assert stage.held() == {"file": b"1", "d/file": b"2"}


async def test_only_an_empty_directory_is_deleted(stage: Stage) -> None:
    await put(stage.destination, "d/", b"")
    await stage.destination.delete("d")
    assert await stage.destination.head("d/") is not None
    await put(stage.destination, "d/file", b"1")
    await stage.destination.delete("d/")
    assert await listed(stage.destination) == ["d/file"]
    await stage.destination.delete("d/file")
    assert await listed(stage.destination) == ["d/"]


async def test_a_file_shorter_than_what_was_sent_is_not_published(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a DataNode leaves it, whose client went away; whatever it may answer."""
    writer = stage.destination._writer
    create = writer.create

    async def cut(path: str, size: int, body: bytes, **options: Any) -> None:
        await create(path, size - 1, body[:-1], **options)

    await put(stage.destination, "key", b"old")
    monkeypatch.setattr(writer, "create", cut)
    with pytest.raises(ShortRead):
        await put(stage.destination, "key", b"new, and longer")
    assert stage.held() == {"key": b"old"}


async def test_a_write_that_left_nothing_is_not_published(stage: Stage) -> None:
    await put(stage.destination, "key", b"old")
    stage.hdfs.faults.append(Fault(Status(201), op="CREATE@DataNode"))
    with pytest.raises(NotFound):
        await put(stage.destination, "key", b"new, and longer")
    assert stage.held() == {"key": b"old"}


async def test_what_a_cancelled_put_leaves_goes_at_the_end(stage: Stage) -> None:
    destination = opened(stage.hdfs)
    stage.hdfs.faults.append(Fault(Delay(5), op="RENAME"))
    putting = asyncio.create_task(put(destination, "key", b"body"), name="put")
    while not stage.hdfs.counts["RENAME"]:
        await asyncio.sleep(0.01)
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert [name for name in stage.held() if name.endswith(".tmp")]
    stage.hdfs.faults.clear()
    await destination.aclose()
    assert stage.namespace.status(f"{ROOT}/.asynccopy") is None


async def test_check_makes_the_root_and_tells_what_cannot_be_one(stage: Stage) -> None:
    assert (await stage.destination.check()).checksum is None
    assert list(stage.namespace.descend(ROOT)) == [""]
    stage.namespace.put("/data/file", b"")
    for root in ("/data/file", "/data/file/below"):
        async with aclosing(opened(stage.hdfs, root=root)) as destination:
            with pytest.raises(NotThere):
                await destination.check()


async def test_a_server_that_cannot_rename_over_a_file_is_refused() -> None:
    async with WebHdfsSimulator(TreeNamespace(), lacks=["RENAME"]) as hdfs, aclosing(opened(hdfs)) as destination:
        with pytest.raises(WrongServer, match="RENAME"):
            await destination.check()


async def test_nothing_is_copied_inside(stage: Stage) -> None:
    said = await put(stage.destination, "key", b"body")
    with pytest.raises(Refused):
        await stage.destination.copy("key", "to", 4, said.etag)
    assert stage.held() == {"key": b"body"}


async def test_a_server_that_lists_whole_directories(stage: Stage) -> None:
    keys = [f"d/{n}/{m}" for n in range(3) for m in ("a", "ü", "z")] + ["top"]
    for key in keys:
        await put(stage.destination, key, b"")
    async with (
        WebHdfsSimulator(stage.namespace, batch_listing=False) as old,
        aclosing(opened(old, page_size=2)) as destination,
    ):
        assert sorted(await listed(destination)) == sorted(keys)


async def test_from_hdfs_to_hdfs_by_the_command(tmp_path: Path) -> None:
    source, target = TreeNamespace(block_size=MIB), TreeNamespace(block_size=MIB)
    files = {name: name.encode() for name in NASTY_NAMES} | {"d/large": noise(3 * MIB + 7), "d/none": b""}
    for path, body in files.items():
        source.put(f"/x/{path}", body)
    source.mkdir("/x/empty")
    async with WebHdfsSimulator(source) as a, WebHdfsSimulator(target, datanodes=2) as b:
        urls = [f"webhdfs://{hdfs.url.removeprefix('http://')}" for hdfs in (a, b)]
        arguments = ["copy", f"{urls[0]}/x", f"{urls[1]}/y", "--part-size", "1MiB", "--processes", "1"]
        for _ in range(2):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "asynccopy", *arguments, cwd=tmp_path, stderr=asyncio.subprocess.PIPE
            )
            _, told = await process.communicate()
            assert process.returncode == 0, told.decode()
    copied = {path: inode for path, inode in target.descend("/y").items() if path and not inode.is_directory}
    assert {path: target.read(f"/y/{path}", 0, inode.length) for path, inode in copied.items()} == files
    assert set(target.descend("/y")) == set(source.descend("/x"))
    assert (b.counts["CONCAT"], b.counts["CREATE"]) == (1, len(files) + 3 + 4)  # 4 parts; two checks of two probes
