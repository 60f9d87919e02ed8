"""Every kind of side to every other, on a real HDFS and a real S3 server; of OSS there is the simulator alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path

import pytest

from asynccopy.simulators.oss import OssSimulator
from testbed.hdfs import Hdfs
from testbed.s3 import Store
from tests.pairs import (
    LocalSide,
    RealBucket,
    RealHdfs,
    Side,
    SimulatedBucket,
    prove_a_mirror,
    prove_a_pair,
    prove_a_resumption,
)
from tests.program import Program

KINDS = ("webhdfs", "s3", "oss", "local")
_numbers = count()


class Pairs:
    def __init__(self, hdfs: Hdfs, store: Store, oss: OssSimulator, folder: Path) -> None:
        self._hdfs, self._store, self._oss = hdfs, store, oss
        self.folder = folder
        environment = dict(store.env())
        for kind in ("webhdfs", "oss"):
            environment |= self.side(kind, "none").environment
        self.program = Program(folder, environment)

    def side(self, kind: str, name: str) -> Side:
        if kind == "webhdfs":
            return RealHdfs(self._hdfs, f"/pairs/{name}-{next(_numbers)}")
        if kind == "local":
            return LocalSide(self.folder / name)
        if kind == "oss":
            return SimulatedBucket(self._oss, name)
        bucket = f"pairs-{name}-{next(_numbers)}"
        self._store.make_bucket(bucket)
        return RealBucket(self._store, bucket, name)


@pytest.fixture
async def pairs(hdfs: Hdfs, versitygw: Store, tmp_path: Path) -> AsyncIterator[Pairs]:
    async with OssSimulator(["bucket"]) as oss:
        pairs = Pairs(hdfs, versitygw, oss, tmp_path)
        yield pairs
        pairs.program.end()


@pytest.mark.parametrize("destination", KINDS)
@pytest.mark.parametrize("source", KINDS)
async def test_a_pair(pairs: Pairs, source: str, destination: str) -> None:
    result = await prove_a_pair(pairs.program, pairs.side(source, "from"), pairs.side(destination, "to"))
    one_store = source == destination and source in ("s3", "oss")
    assert (result["copied_in_store"] > 0) == one_store


@pytest.mark.parametrize("destination", KINDS)
async def test_a_killed_copy_goes_on(pairs: Pairs, destination: str) -> None:
    source = "webhdfs" if destination != "webhdfs" else "s3"
    await prove_a_resumption(pairs.program, pairs.side(source, "from"), pairs.side(destination, "to"))


async def test_each_hdfs_side_has_its_own_user(pairs: Pairs, hdfs: Hdfs) -> None:
    """What the one may read the other may not, and may write what the first may not."""
    source, destination = pairs.side("webhdfs", "hers"), pairs.side("webhdfs", "his")
    assert isinstance(source, RealHdfs)
    assert isinstance(destination, RealHdfs)
    await source.fill({"file": b"hers", "d/other": b"too"})
    with hdfs.client() as client:
        for side, user in ((source, "alice"), (destination, "bob")):
            client.set_owner(side.root, user, "users")
            client.set_permission(side.root, "700")
    config = pairs.folder / "users.toml"
    config.write_text(
        "".join(
            f'[endpoints.{name}]\ntype = "webhdfs"\nurl = "{hdfs.url}"\nuser = "{user}"\n'
            for name, user in (("hers", "alice"), ("his", "bob"))
        )
    )
    sides = (f"hers:{source.root}", f"his:{destination.root}", "--config", str(config))
    ended = await asyncio.to_thread(pairs.program.copy, *sides)
    assert ended.code == 0, ended.err
    assert await destination.held() == await source.held()
    with hdfs.client() as client:
        assert client.status(f"{destination.root}/file")["owner"] == "bob"
    wrong = await asyncio.to_thread(
        pairs.program.copy, f"his:{source.root}", f"his:{destination.root}/2", "--config", str(config)
    )
    assert (wrong.code, wrong.failed) == (1, {"/": "PermissionDenied"}), wrong.err


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("source", "destination", "deletions"),
    [("s3", "oss", "delete"), ("oss", "s3", "trash"), ("s3", "webhdfs", "delete"), ("s3", "s3", "keep")],
)
async def test_a_mirror_of_changing_objects(pairs: Pairs, source: str, destination: str, deletions: str) -> None:
    await prove_a_mirror(pairs.program, pairs.side(source, "from"), pairs.side(destination, "to"), deletions, 24)
