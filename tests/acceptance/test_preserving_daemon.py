"""A daemon from HDFS to HDFS that keeps attributes and deletes, against the simulator."""

from __future__ import annotations

import asyncio
from pathlib import Path

from asynccopy.simulators.namespace import TreeNamespace
from asynccopy.simulators.webhdfs import WebHdfsSimulator
from testbed.fill import WebHdfs
from tests.preserved import BLOCK, prove_a_preserving_mirror
from tests.program import Program


async def test_a_mirror_that_preserves_and_deletes(tmp_path: Path) -> None:
    async with WebHdfsSimulator(TreeNamespace(block_size=BLOCK), 2) as hdfs:
        program = Program(tmp_path, {"HADOOP_USER_NAME": "hdfs"})
        try:
            client = WebHdfs(f"{hdfs.url}/webhdfs/v1", "hdfs")
            url = hdfs.url.replace("http://", "webhdfs://")
            await asyncio.to_thread(prove_a_preserving_mirror, program, client, url, "/p")
        finally:
            program.end()
