"""``s3://`` and ``oss://`` as the source of a copy, from the command line, against the simulators."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from pathlib import Path

import pytest

from asynccopy.model import MIB
from asynccopy.simulators.faults import Fault, FlipBit
from asynccopy.simulators.oss import OssSimulator
from asynccopy.simulators.s3 import S3Simulator
from asynccopy.simulators.store import joined_crc64
from tests.program import Ended, Program
from tests.service import Service
from tests.storage.test_object_sources import Simulator, destination_of, oss_environment, s3_environment
from tests.suites.destination import put
from tests.suites.source import noise

TREE = {
    "top": b"top",
    "empty": b"",
    "d/small": noise(300_000),
    "d/large": noise(3 * MIB),
    "d/e/with space+%41?": b"odd",
    "hollow/": b"",
    "twice": b"a file",
    "twice/file": b"and a directory",
}


class Stores:
    """An S3 and an OSS, each with a bucket, and the command line in the surroundings of a user of both."""

    def __init__(self, s3: S3Simulator, oss: OssSimulator, folder: Path) -> None:
        self.sides: dict[str, Simulator] = {"s3": s3, "oss": oss}
        self.program = Program(folder, s3_environment(s3) | oss_environment(oss))

    async def fill(self, kind: str, tree: Mapping[str, bytes]) -> None:
        async with aclosing(destination_of(self.sides[kind])) as store:
            for path, body in tree.items():
                await put(store, f"from/{path}", body)

    def held(self, kind: str, prefix: str) -> dict[str, int]:
        """CRC-64s by key."""
        objects = self.sides[kind].buckets["bucket"].objects
        return {
            key[len(prefix) :]: joined_crc64(each.bodies) for key, each in objects.items() if key.startswith(prefix)
        }

    async def copy(self, *arguments: str) -> Ended:
        return await asyncio.to_thread(self.program.copy, *arguments)


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[Stores]:
    async with S3Simulator(["bucket"]) as s3, OssSimulator(["bucket"]) as oss:
        stores = Stores(s3, oss, tmp_path)
        yield stores
        stores.program.end()


@pytest.mark.parametrize(("source", "destination"), [("s3", "s3"), ("s3", "oss"), ("oss", "s3"), ("oss", "oss")])
async def test_a_copy_between_stores(stores: Stores, source: str, destination: str) -> None:
    await stores.fill(source, TREE)
    sides = (f"{source}://bucket/from", f"{destination}://bucket/to")
    ended = await stores.copy(*sides, "--part-size", "1MiB" if destination == "oss" else "5MiB")
    assert ended.code == 0, ended.err
    files = sum(not path.endswith("/") for path in TREE)
    assert ended.counted() == {"expected": files, "copied": files}
    assert ended.result["verified"] == files
    assert stores.held(destination, "to/") == stores.held(source, "from/")
    algorithm = {"s3": "CRC32C", "oss": "CRC64"}[source]
    rows = await asyncio.to_thread(stores.program.ledger, *sides)
    assert {row["source_checksum"].partition(":")[0] for path, row in rows.items() if path != "hollow/"} == {algorithm}
    checked = await asyncio.to_thread(stores.program.run, "check", *sides)
    assert checked.code == 0, checked.out + checked.err
    await stores.fill(source, {"d/small": b"other"})
    again = await stores.copy(*sides)
    assert (again.code, again.counted()) == (0, {"expected": files, "copied": 1, "skipped": files - 1})
    assert stores.held(destination, "to/") == stores.held(source, "from/")


@pytest.mark.parametrize("source", ["s3", "oss"])
async def test_a_copy_to_a_directory(stores: Stores, tmp_path: Path, source: str) -> None:
    """Where a name cannot be a file and a directory: one of them is refused, by name."""
    await stores.fill(source, TREE | {"d//odd": b"1"})
    ended = await stores.copy(f"{source}://bucket/from", str(tmp_path / "to"), "--processes", "2")
    assert ended.code == 1
    [refused] = ended.failed.keys() - {"d/"}
    assert refused in ("twice", "twice/file")
    assert set(ended.failed.values()) == {"NameRefused"}
    assert any("from/d//" in error["message"] for error in ended.result["errors"])
    for path, body in TREE.items():
        if not path.endswith("/") and path != refused:
            assert (tmp_path / "to" / path).read_bytes() == body
    assert (tmp_path / "to" / "hollow").is_dir()


@pytest.mark.parametrize("source", ["s3", "oss"])
async def test_one_object_as_the_source(stores: Stores, tmp_path: Path, source: str) -> None:
    await stores.fill(source, TREE)
    ended = await stores.copy(f"{source}://bucket/from/d/large", str(tmp_path / "to"))
    assert ended.code == 0, ended.err
    assert (tmp_path / "to" / "large").read_bytes() == TREE["d/large"]


@pytest.mark.parametrize("size", [1000, 3 * MIB])
@pytest.mark.parametrize("source", ["s3", "oss"])
async def test_bytes_damaged_on_the_way_are_read_again(stores: Stores, tmp_path: Path, source: str, size: int) -> None:
    await stores.fill(source, {"file": noise(size)})
    stores.sides[source].faults.append(Fault(FlipBit(10), "GetObject", times=1))
    ended = await stores.copy(f"{source}://bucket/from", str(tmp_path / "to"))
    assert (ended.code, ended.result["verified"]) == (0, 1), ended.err
    assert (tmp_path / "to" / "file").read_bytes() == noise(size)
    assert stores.sides[source].counts["GetObject"] > 1


@pytest.mark.parametrize(("source", "destination"), [("s3", "oss"), ("oss", "s3")])
async def test_an_object_replaced_in_the_middle_is_copied_anew(stores: Stores, source: str, destination: str) -> None:
    """No part of the one is ever joined with a part of the other."""
    await stores.fill(source, {"large": noise(12 * MIB), "small": b"1"})
    sides = (f"{source}://bucket/from", f"{destination}://bucket/to")
    command = (*sides, "--part-size", "5MiB", "--concurrency", "1")
    running = stores.program.start_copy(*command, "--bandwidth", "6MiB/s")
    uploads = stores.sides[destination].buckets["bucket"].uploads
    async with asyncio.timeout(60):
        while not any(upload.parts for upload in uploads.values() if "large" in upload.key):
            await asyncio.sleep(0.01)
    await stores.fill(source, {"large": noise(13 * MIB)[MIB:]})
    ended = await asyncio.to_thread(running.wait)
    assert ended.code == 0, ended.err
    assert stores.held(destination, "to/") == stores.held(source, "from/")
    assert not [key for key in uploads if "large" in key]


async def test_more_keys_than_a_page_holds(stores: Stores) -> None:
    tree = {f"{number % 3}/{number:05}": b"%d" % number for number in range(3400)}
    await stores.fill("s3", tree)
    ended = await stores.copy("s3://bucket/from", "oss://bucket/to", "--concurrency", "32")
    assert (ended.code, ended.counted()["copied"]) == (0, 3400), ended.err
    assert stores.held("oss", "to/") == stores.held("s3", "from/")


async def test_keys_that_cannot_be_paths_hold_up_nothing_else(stores: Stores) -> None:
    """They are named by every run; and in a mirror what is gone is deleted nevertheless."""
    odd = ["from/d//x", "from//y", "from/d/./z", "from/d/../z", "from/bytes/"]
    await stores.fill("s3", {"a": b"1", "d/b": b"2", "d/c": b"3"})
    async with aclosing(destination_of(stores.sides["s3"])) as store:
        for key in odd:
            await put(store, key, b"odd")
    service = Service(
        stores.program,
        '[mirrors.m]\nsource = "s3://bucket/from"\ndestination = "oss://bucket/to"\ninterval = "1s"\nsettle = "0s"\n'
        'watch = "scan"\ndeletions = "delete"\nmax_delete = "100%"\n',
    )
    service.start()
    await _until(lambda: stores.held("oss", "to/").keys() == {"a", "d/b", "d/c"})
    async with aclosing(destination_of(stores.sides["s3"])) as store:
        await store.delete("from/d/c")
    await _until(lambda: stores.held("oss", "to/").keys() == {"a", "d/b"})
    await asyncio.to_thread(service.stop)
    for _ in range(2):
        ended = await stores.copy("s3://bucket/from", "oss://bucket/again")
        assert ended.code == 1
        said = " ".join(error["message"] for error in ended.result["errors"])
        assert set(ended.failed.values()) == {"NameRefused"}
        for name in ("from/d//", "from//", "from/d/./", "from/d/../", "from/bytes/"):
            assert f"s3://bucket/{name}" in said
    checked = await asyncio.to_thread(stores.program.run, "check", "s3://bucket/from", "oss://bucket/again")
    assert checked.code == 1
    assert "from/d//" in checked.out


async def _until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not what():
            await asyncio.sleep(0.1)
