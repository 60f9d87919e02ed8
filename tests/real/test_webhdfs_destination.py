"""HDFS as a destination sits the exam on a real cluster, one whose NameNode lists three entries a page."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from itertools import count
from pathlib import Path

import pytest

from asynccopy.config.cluster import Cluster
from asynccopy.errors import NameRefused, NotFound, NotThere, Refused
from asynccopy.model import MIB, FileStatus
from asynccopy.storage.interface import Destination
from asynccopy.storage.registry import Settings, open_source
from asynccopy.storage.webhdfs import uploads
from asynccopy.storage.webhdfs.auth import Simple
from asynccopy.storage.webhdfs.client import WebHdfsClient
from asynccopy.storage.webhdfs.destination import WebHdfsDestination
from asynccopy.storage.webhdfs.nameservice import Nameservice, servers
from testbed import fetch
from testbed.content import Content
from testbed.fill import Manifest, WebHdfsError, fill
from testbed.hdfs import Hdfs
from tests.program import Program, eventually
from tests.real.generate import ODD_NAMES, odd_tree
from tests.servers import require
from tests.suites.destination import DestinationSuite, content, crc32c, listed, noise, put, send

_numbers = count()


@pytest.fixture(scope="module")
def small_pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hdfs]:
    require(fetch.HADOOP)
    with Hdfs(
        tmp_path_factory.mktemp("hdfs") / "written",
        block_size=MIB,
        properties={"dfs.ls.limit": DestinationSuite.page_size},
    ) as cluster:
        yield cluster


@pytest.fixture
def root() -> str:
    return f"/written by us/{next(_numbers)}"


def opened(hdfs: Hdfs, root: str, page_size: int = 1000) -> WebHdfsDestination:
    client = WebHdfsClient(Nameservice(servers([hdfs.url])), Simple(hdfs.user), connections=16)
    return WebHdfsDestination(client, hdfs.url, root, page_size=page_size)


@pytest.fixture
async def destination(small_pages: Hdfs, root: str) -> AsyncIterator[WebHdfsDestination]:
    async with aclosing(opened(small_pages, root, DestinationSuite.page_size)) as destination:
        yield destination


class TestWebHdfsDestination(DestinationSuite):
    @pytest.fixture
    async def destination(
        self, small_pages: Hdfs, root: str, request: pytest.FixtureRequest
    ) -> AsyncIterator[Destination]:
        if request.node.originalname.startswith("test_copy"):
            pytest.xfail("HDFS copies nothing by itself")
        async with aclosing(opened(small_pages, root, self.page_size)) as destination:
            yield destination


async def test_many_parts_are_joined(destination: WebHdfsDestination, monkeypatch: pytest.MonkeyPatch) -> None:
    """By several requests, over blocks of all lengths."""
    monkeypatch.setattr(uploads, "BATCH", 5)
    sizes = [MIB, 1, 300_000, 2 * MIB + 1, *range(1, 10)]
    body, parts, at = noise(sum(sizes)), [], 0
    upload = await destination.create_upload("d/key")
    for number, size in enumerate(sizes, start=1):
        parts.append(await send(destination, "d/key", upload, number, at, body[at : at + size]))
        at += size
    said = await destination.complete_upload("d/key", upload, parts, crc32c(body))
    assert said == await destination.head("d/key")
    assert await content(destination, "d/key") == body
    assert await destination.list_uploads("") == []


async def test_as_many_sources_as_one_request_takes(small_pages: Hdfs, root: str) -> None:
    """To the longest path there may be: refused for what is missing, not for the length of the request."""
    key = "/".join(["ü" * 100] * 5 + ["k" * 200] * 2)
    async with aclosing(opened(small_pages, root)) as destination:
        upload = await destination.create_upload(key)
        part = await send(destination, key, upload, 1, 0, b"x")
        first = uploads.part_path(uploads.directory(key, upload), part.number)
        absent = [FileStatus(f"{first}-{n:05}", 1, 0) for n in range(2000)]
        for batch in uploads.batches(root, absent):
            with pytest.raises(NotFound):
                await destination._writer.concat(first, batch)
        said = await destination.complete_upload(key, upload, [part], crc32c(b"x"))
        assert (said.key, said.size) == (key, 1)


async def test_a_file_is_replaced_without_a_moment_of_none(destination: WebHdfsDestination) -> None:
    await put(destination, "key", b"0")
    done = asyncio.Event()

    async def look() -> int:
        looks = 0
        while not done.is_set():
            assert await destination.head("key") is not None
            looks += 1
        return looks

    async with asyncio.TaskGroup() as group:
        looking = group.create_task(look(), name="look")
        for number in range(1, 31):
            await put(destination, "key", b"%d" % number)
        done.set()
    assert looking.result() >= 30
    assert await content(destination, "key") == b"30"


async def test_something_is_in_the_way(destination: WebHdfsDestination) -> None:
    await put(destination, "file", b"1")
    await put(destination, "d/file", b"2")
    for key in ("file/below", "file/further/below", "d", "file/"):
        with pytest.raises(NameRefused):
            await put(destination, key, b"")
        assert await destination.head(key) is None, key
    await destination.delete("file/below")
    await destination.delete("d/")
    assert sorted(await listed(destination)) == ["d/file", "file"]


async def test_check_makes_the_root_and_tells_what_cannot_be_one(
    small_pages: Hdfs, destination: WebHdfsDestination, root: str
) -> None:
    assert (await destination.check()).checksum is None
    assert await listed(destination) == []
    await put(destination, "file", b"")
    for below in ("file", "file/below"):
        async with aclosing(opened(small_pages, f"{root}/{below}")) as wrong:
            with pytest.raises(NotThere):
                await wrong.check()


async def test_nothing_is_copied_inside(destination: WebHdfsDestination) -> None:
    said = await put(destination, "key", b"body")
    with pytest.raises(Refused):
        await destination.copy("key", "to", 4, said.etag)
    assert await listed(destination) == ["key"]


# --- the command, from HDFS to HDFS


@pytest.fixture
def program(small_pages: Hdfs, tmp_path: Path) -> Iterator[Program]:
    program = Program(tmp_path, {"HADOOP_USER_NAME": small_pages.user})
    yield program
    program.end()


def held(hdfs: Hdfs, root: str, paths: list[str]) -> Manifest:
    with hdfs.client() as client:
        bodies = {path: client.read(f"{root}/{path}") for path in paths}
    return {path: (len(body), hashlib.sha256(body).hexdigest()) for path, body in bodies.items()}


def test_odd_names(small_pages: Hdfs, root: str, program: Program) -> None:
    manifest = fill(small_pages.http, small_pages.user, f"{root}/x", odd_tree(ODD_NAMES))
    arguments = (f"{small_pages.url}{root}/x", f"{small_pages.url}{root}/y +%é")
    ended = program.copy(*arguments)
    assert (ended.code, ended.counted()) == (0, {"expected": len(manifest), "copied": len(manifest)}), ended.err
    assert held(small_pages, f"{root}/y +%é", list(manifest)) == manifest
    again = program.copy(*arguments)
    assert (again.code, again.counted()) == (0, {"expected": len(manifest), "skipped": len(manifest)}), again.err
    checked = program.run("check", *arguments, "--journal", "none.journal")
    assert (checked.code, checked.out) == (0, ""), checked.err


def test_a_killed_copy_goes_on_with_its_parts(small_pages: Hdfs, root: str, program: Program) -> None:
    files = {"large, and wide": Content(1, 24 * MIB + 5), "d/small": Content(2, 1000)}
    manifest = fill(small_pages.http, small_pages.user, f"{root}/x", files)
    source, target = f"{small_pages.url}{root}/x", f"{small_pages.url}{root}/y"
    options = (source, target, "--part-size", "1MiB", "--processes", "1")
    running = program.start_copy(*options, "--bandwidth", "4MiB/s")

    def parts() -> int:
        with small_pages.client() as client:
            staged = f"{root}/y/.asynccopy"
            try:
                ids = [name for name in client.names(staged) if not name.endswith(".tmp")]
                names = [name for upload in ids for name in client.names(f"{staged}/{upload}")]
            except WebHdfsError:  # not there yet
                return 0
        return sum(uploads.part_number(name) is not None for name in names)

    eventually(lambda: parts() > 6)
    running.kill()
    ended = program.copy(*options)
    assert ended.code == 0, ended.err
    assert ended.result["resumed_parts"] >= 3
    assert held(small_pages, f"{root}/y", list(manifest)) == manifest
    with small_pages.client() as client:
        assert {"d", "large, and wide"} <= set(client.names(f"{root}/y")) <= {"d", "large, and wide", ".asynccopy"}
        if ".asynccopy" in client.names(f"{root}/y"):  # the killed run was writing the small file
            assert all(name.endswith(".tmp") for name in client.names(f"{root}/y/.asynccopy"))
    assert asyncio.run(checksum(small_pages, f"{root}/x")) == asyncio.run(checksum(small_pages, f"{root}/y"))


async def checksum(hdfs: Hdfs, root: str) -> object:
    async with aclosing(open_source(hdfs.url + root, Settings(cluster=Cluster(user=hdfs.user)))) as source:
        return await source.checksum("large, and wide")
