"""What is said of objects, as a user asks for it: by options and by the configuration file, against the simulators."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from asynccopy.simulators.namespace import EPOCH, Generated, TreeNamespace
from asynccopy.simulators.oss import OssSimulator
from asynccopy.simulators.s3 import S3Simulator
from asynccopy.simulators.store import StoredObject
from asynccopy.simulators.webhdfs import WebHdfsSimulator
from tests.program import Ended, Program
from tests.storage.test_object_sources import Simulator, oss_environment, s3_environment

MIB = 1 << 20


class Sides:
    """An HDFS and both kinds of store, and the command line in the surroundings of a user of all."""

    def __init__(
        self, tree: TreeNamespace, hdfs: WebHdfsSimulator, s3: S3Simulator, oss: OssSimulator, folder: Path
    ) -> None:
        self.tree = tree
        self.source = "webhdfs" + hdfs.url.removeprefix("http") + "/data"
        self.stores: dict[str, Simulator] = {"s3": s3, "oss": oss}
        self.folder = folder
        self.program = Program(folder, s3_environment(s3) | oss_environment(oss) | {"HADOOP_USER_NAME": "hdfs"})

    def held(self, kind: str) -> dict[str, StoredObject]:
        return dict(self.stores[kind].buckets["bucket"].objects)

    def told(self, kind: str, key: str) -> dict[str, str]:
        """The headers of an object without what the kind of store puts before their names."""
        headers = self.held(kind)[key].headers
        return {name.removeprefix("x-amz-").removeprefix("x-oss-"): value for name, value in headers.items()}

    async def copy(self, *arguments: str) -> Ended:
        return await asyncio.to_thread(self.program.copy, *arguments)

    def configured(self, kind: str, *lines: str) -> tuple[str, ...]:
        """A configuration file with one endpoint, as options."""
        file = self.folder / "config.toml"
        file.write_text("\n".join([f'[endpoints.lake]\ntype = "{kind}"\nbucket = "bucket"', *lines]))
        return "--config", str(file)


@pytest.fixture
async def sides(tmp_path: Path) -> AsyncIterator[Sides]:
    tree = TreeNamespace(block_size=MIB)
    tree.put("/data/small", b"1")
    tree.put("/data/large", Generated(6 * MIB))
    tree.mkdir("/data/nothing")
    async with (
        WebHdfsSimulator(tree) as hdfs,
        S3Simulator(["bucket"]) as s3,
        OssSimulator(["bucket"]) as oss,
    ):
        sides = Sides(tree, hdfs, s3, oss, tmp_path)
        yield sides
        sides.program.end()


KEYS = ("x/small", "x/large", "x/nothing/")


@pytest.mark.parametrize("processes", ["1", "2"])
@pytest.mark.parametrize(("kind", "storage_class"), [("s3", "GLACIER"), ("oss", "ColdArchive")])
async def test_options_of_the_command_line(sides: Sides, kind: str, storage_class: str, processes: str) -> None:
    options = ("--storage-class", storage_class, "--processes", processes)
    ended = await sides.copy(sides.source, f"{kind}://bucket/x", *options)
    assert ended.code == 0, ended.err
    assert ended.result["verified"] == 2
    assert sorted(sides.held(kind)) == sorted(KEYS)
    for key in KEYS:
        told = sides.told(kind, key)
        assert told["storage-class"] == storage_class, key
        assert (told["meta-hdfs-owner"], told["meta-hdfs-group"]) == ("hdfs", "supergroup"), key
        assert told["meta-hdfs-permission"] == ("755" if key.endswith("/") else "644"), key
        assert ("meta-hdfs-mtime" in told) != key.endswith("/"), key
        assert int(told.get("meta-hdfs-mtime", EPOCH)) >= EPOCH, key
    assert sides.stores[kind].counts["GetObject"] == 0


@pytest.mark.parametrize("kind", ["s3", "oss"])
async def test_options_go_before_the_file(sides: Sides, kind: str) -> None:
    first, second = ("STANDARD_IA", "GLACIER_IR") if kind == "s3" else ("IA", "Archive")
    lines = (f'storage_class = "{first}"', 'tags = { origin = "dc1" }', "file_metadata = true")
    file = sides.configured(kind, *lines)
    for options, expected in (((), first), (("--storage-class", second, "--no-file-metadata"), second)):
        prefix = "y" if options else "x"
        ended = await sides.copy(sides.source, f"lake:/{prefix}", *file, *options)
        assert ended.code == 0, ended.err
        told = sides.told(kind, f"{prefix}/small")
        assert told["storage-class"] == expected
        assert ("meta-hdfs-owner" in told) == (not options)
        assert sides.held(kind)[f"{prefix}/small"].tags == {"origin": "dc1"}


@pytest.mark.parametrize("kind", ["s3", "oss"])
async def test_a_changed_file_fails_by_name_where_nothing_may_be_overwritten(sides: Sides, kind: str) -> None:
    file = sides.configured(kind, "forbid_overwrite = true")
    assert (await sides.copy(sides.source, "lake:/x", *file)).code == 0
    sides.tree.put("/data/small", b"other")
    sides.tree.put("/data/large", Generated(6 * MIB, version=1))
    ended = await sides.copy(sides.source, "lake:/x", *file)
    assert ended.code == 1
    assert ended.failed == {"small": "AlreadyThere", "large": "AlreadyThere"}
    assert all("forbid_overwrite" in error["hint"] for error in ended.result["errors"])
    assert sides.stores[kind].buckets["bucket"].uploads == {}
    assert sides.held(kind)["x/small"].size == 1
    # With a new journal everything that is unchanged counts as copied.
    sides.tree.put("/data/small", b"1")
    ended = await sides.copy(sides.source, "lake:/x", *file, "--journal", str(sides.folder / "new.journal"))
    assert ended.failed == {"large": "AlreadyThere"}
    assert ended.counted() == {"expected": 2, "copied": 1, "failed": 1}


@pytest.mark.parametrize(
    ("destination", "options", "says"),
    [
        ("oss://bucket/x", ("--storage-class", "GLACIER"), "must be one of Standard, IA, Archive"),
        ("s3://bucket/x", ("--storage-class", "standard"), "must be in capitals"),
        ("./folder", ("--storage-class", "STANDARD"), "only s3:// and oss:// have storage classes"),
    ],
)
async def test_a_class_that_cannot_be(sides: Sides, destination: str, options: tuple[str, ...], says: str) -> None:
    ended = await sides.copy(sides.source, destination, *options)
    assert ended.code == 2
    assert says in ended.err
    assert sides.held("s3") == sides.held("oss") == {}


async def test_a_class_that_the_store_does_not_have(sides: Sides) -> None:
    ended = await sides.copy(sides.source, "s3://bucket/x", "--storage-class", "MAZ_STANDARD")
    assert ended.code == 3
    assert "InvalidStorageClass" in ended.err
    assert sides.held("s3") == {}
