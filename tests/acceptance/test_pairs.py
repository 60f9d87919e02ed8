"""Every kind of side to every other, from the command line, against the simulators and the local disk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from asynccopy.model import MIB
from asynccopy.simulators.namespace import TreeNamespace
from asynccopy.simulators.oss import OssSimulator
from asynccopy.simulators.s3 import S3Simulator
from asynccopy.simulators.webhdfs import WebHdfsSimulator
from tests.pairs import (
    LocalSide,
    Side,
    SimulatedBucket,
    SimulatedHdfs,
    prove_a_mirror,
    prove_a_pair,
    prove_a_resumption,
)
from tests.program import Program

KINDS = ("webhdfs", "s3", "oss", "local")


class Pairs:
    """One server of each kind; where both sides are of one, they share it."""

    def __init__(self, hdfs: WebHdfsSimulator, s3: S3Simulator, oss: OssSimulator, folder: Path) -> None:
        self._hdfs, self._s3, self._oss = hdfs, s3, oss
        self.folder = folder
        environment: dict[str, str] = {}
        for kind in KINDS:
            environment |= self.side(kind, "none").environment
        self.program = Program(folder, environment)

    def side(self, kind: str, name: str) -> Side:
        if kind == "webhdfs":
            return SimulatedHdfs(self._hdfs, f"/{name}")
        if kind == "local":
            return LocalSide(self.folder / name)
        return SimulatedBucket(self._s3 if kind == "s3" else self._oss, name)


@pytest.fixture
async def pairs(tmp_path: Path) -> AsyncIterator[Pairs]:
    tree = TreeNamespace(block_size=MIB)
    async with WebHdfsSimulator(tree, 2) as hdfs, S3Simulator(["bucket"]) as s3, OssSimulator(["bucket"]) as oss:
        pairs = Pairs(hdfs, s3, oss, tmp_path)
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
    source = "local" if destination != "local" else "s3"
    await prove_a_resumption(pairs.program, pairs.side(source, "from"), pairs.side(destination, "to"))
    assert not pairs._s3.buckets["bucket"].uploads
    assert not pairs._oss.buckets["bucket"].uploads


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "destination", "deletions"),
    [
        ("s3", "oss", "delete"),
        ("oss", "s3", "trash"),
        ("s3", "webhdfs", "delete"),
        ("s3", "s3", "keep"),
    ],
)
async def test_a_mirror_of_changing_objects(pairs: Pairs, source: str, destination: str, deletions: str) -> None:
    await prove_a_mirror(pairs.program, pairs.side(source, "from"), pairs.side(destination, "to"), deletions, 12)
    if deletions == "trash":
        assert any(key.startswith(".asynccopy-trash/") for key in pairs._s3.buckets["bucket"].objects)
