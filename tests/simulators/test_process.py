"""The simulators in a process of their own."""

from __future__ import annotations

import asyncio
import json
import os
import urllib.request
from urllib.parse import urlsplit

import alibabacloud_oss_v2 as sdk
import pytest

from asynccopy.simulators.process import child
from tests.oracles import oss_client


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


async def test_oss() -> None:
    async with child("--serve", "oss", "--bucket", "shelf", "--oss-region", "cn-beijing", "--discard") as oss:
        client = oss_client(oss.urls["oss-cname"], "simulator", "simulator-secret", region="cn-beijing", use_cname=True)
        request = sdk.PutObjectRequest(bucket="shelf", key="k", body=b"1")
        assert (await asyncio.to_thread(client.put_object, request)).status_code == 200
        assert urlsplit(oss.urls["oss"]).hostname == "oss-cn-beijing.localhost"
    assert oss.counts == {"PutObject": 1}
