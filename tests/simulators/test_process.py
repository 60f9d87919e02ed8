"""The simulators in a process of their own."""

from __future__ import annotations

import asyncio
import json
import os
import urllib.request

import pytest

from asynccopy.simulators.process import child


async def test_a_child_serves_and_ends_with_the_block() -> None:
    async with child("--directories", "3", "--files-per-directory", "2", "--latency", "200") as running:
        assert {*running.urls} == {"webhdfs", "s3"}
        url = f"{running.urls['webhdfs']}/webhdfs/v1/?op=LISTSTATUS"
        begun = asyncio.get_running_loop().time()
        listing = json.loads(await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=5).read()))
        assert asyncio.get_running_loop().time() - begun >= 0.2
        assert len(listing["FileStatuses"]["FileStatus"]) == 3
        os.kill(running.pid, 0)
    assert running.counts == {"LISTSTATUS": 1}
    with pytest.raises(ProcessLookupError):
        os.kill(running.pid, 0)


async def test_one_server_each() -> None:
    async with child("--serve", "webhdfs") as hdfs, child("--serve", "s3", "--discard") as s3:
        assert {*hdfs.urls} == {"webhdfs"}
        assert {*s3.urls} == {"s3"}
        assert hdfs.pid != s3.pid
