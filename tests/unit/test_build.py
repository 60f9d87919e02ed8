"""What a mirror's keys mean to the sides that are opened for it."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

import pytest

from asynccopy.config import Config, load
from asynccopy.daemon.build import open_sides, rules
from asynccopy.errors import UsageError
from asynccopy.storage.registry import NameNodes
from asynccopy.storage.webhdfs.destination import WebHdfsDestination


def configured(tmp_path: Path, destination: str, *lines: str) -> Config:
    path = tmp_path / "config.toml"
    head = f'[mirrors.m]\nsource = "webhdfs://nn:9870/a"\ndestination = "{destination}"\n'
    path.write_text(head + "\n".join(lines))
    return load(path)


async def test_a_mirror_that_preserves(tmp_path: Path) -> None:
    config = configured(tmp_path, "webhdfs://other:9870/b", 'preserve = ["owner", "times"]')
    source, destination = await open_sides(config, config.mirrors["m"])
    async with aclosing(source), aclosing(destination):
        assert isinstance(destination, WebHdfsDestination)
        assert destination._preserving.words == {"owner", "times"} and destination._checksums
    assert rules(config.mirrors["m"]).options.preserving


async def test_a_mirror_that_does_not(tmp_path: Path) -> None:
    config = configured(tmp_path, "webhdfs://other:9870/b", 'verify = "size"')
    source, destination = await open_sides(config, config.mirrors["m"])
    async with aclosing(source), aclosing(destination):
        assert isinstance(destination, WebHdfsDestination)
        assert not destination._preserving.words and not destination._checksums
    assert not rules(config.mirrors["m"]).options.preserving


async def test_only_hdfs_preserves(tmp_path: Path) -> None:
    config = configured(tmp_path, "s3://lake/b", 'preserve = ["owner"]')
    with pytest.raises(UsageError, match=r"s3://lake/b: preserve \(owner\) is for copies from HDFS to HDFS"):
        await open_sides(config, config.mirrors["m"])


async def test_a_side_that_is_of_no_use_alone_is_closed(tmp_path: Path) -> None:
    """Else who we are there would have one user for ever, and its token would not be given back at the end."""
    good = configured(tmp_path, "file:///b")
    namenodes = NameNodes()
    source, destination = await open_sides(good, good.mirrors["m"], namenodes=namenodes)
    bad = configured(tmp_path, "s3://lake/b", 'preserve = ["owner"]')
    with pytest.raises(UsageError):
        await open_sides(bad, bad.mirrors["m"], namenodes=namenodes)
    [shared] = namenodes._identities.values()
    async with aclosing(source), aclosing(destination):
        assert shared._users == 1
    assert shared._users == 0
