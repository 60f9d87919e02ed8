"""The simulators in a process of their own, so that a client's CPU and memory are measured apart from the servers'.

``python -m asynccopy.simulators`` prints one JSON line with the addresses, serves until its standard input closes, and
prints a second line with the request counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop

from asynccopy.simulators.namespace import DEFAULT_BLOCK
from asynccopy.simulators.object_server import MIB
from asynccopy.simulators.oss import OssSimulator
from asynccopy.simulators.s3 import S3Simulator
from asynccopy.simulators.synthetic import SyntheticNamespace
from asynccopy.simulators.webhdfs import WebHdfsSimulator


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m asynccopy.simulators", description=__doc__)
    parser.add_argument(
        "--serve", choices=("both", "webhdfs", "s3", "oss"), default="both", help="both: WebHDFS and S3"
    )
    parser.add_argument("--latency", type=float, default=0.0, metavar="MS", help="added to every request")
    hdfs = parser.add_argument_group("the namespace")
    hdfs.add_argument("--directories", type=int, default=10)
    hdfs.add_argument("--files-per-directory", type=int, default=100)
    hdfs.add_argument("--file-length", type=int, default=4096, metavar="BYTES")
    hdfs.add_argument("--block-size", type=int, default=DEFAULT_BLOCK, metavar="BYTES")
    hdfs.add_argument("--seed", type=int, default=0)
    hdfs.add_argument("--datanodes", type=int, default=1)
    hdfs.add_argument("--page-size", type=int, default=1000, help="dfs.ls.limit")
    s3 = parser.add_argument_group("S3, and OSS where it has the same")
    s3.add_argument("--bucket", default="bucket")
    s3.add_argument("--access-key", default="simulator")
    s3.add_argument("--secret-key", default="simulator-secret")
    s3.add_argument("--region", default="us-east-1")
    s3.add_argument("--min-part", type=int, default=5 * MIB, metavar="BYTES")
    s3.add_argument("--weak", action="store_true", help="ignore checksum headers")
    s3.add_argument("--etag", choices=("md5", "opaque"), default="md5")
    s3.add_argument("--per-second", type=int, help="requests a second for the bucket")
    s3.add_argument("--per-prefix", type=int, help="requests a second for one directory of keys")
    oss = parser.add_argument_group("OSS")
    oss.add_argument("--oss-region", default="cn-hangzhou")
    where = s3.add_mutually_exclusive_group()
    where.add_argument("--discard", action="store_true", help="keep sizes and digests only")
    where.add_argument("--directory", type=Path, help="keep bodies in files here")
    return parser.parse_args(argv)


async def _serve(options: argparse.Namespace) -> None:
    latency = options.latency / 1000
    bucket = ([options.bucket], options.access_key, options.secret_key)
    told = {key: getattr(options, key) for key in ("etag", "per_second", "per_prefix", "discard", "directory")}
    told["latency"] = latency
    urls: dict[str, str] = {}
    servers: list[WebHdfsSimulator | S3Simulator | OssSimulator] = []
    async with AsyncExitStack() as stack:
        if options.serve in ("both", "webhdfs"):
            namespace = SyntheticNamespace(
                options.directories,
                options.files_per_directory,
                options.file_length,
                block_size=options.block_size,
                seed=options.seed,
            )
            hdfs = WebHdfsSimulator(namespace, options.datanodes, page_size=options.page_size, latency=latency)
            servers.append(await stack.enter_async_context(hdfs))
            urls["webhdfs"] = hdfs.url
        if options.serve in ("both", "s3"):
            weak, least = options.weak, options.min_part
            s3 = S3Simulator(*bucket, options.region, weak=weak, min_part=least, **told)
            servers.append(await stack.enter_async_context(s3))
            urls["s3"] = s3.url
        if options.serve == "oss":
            oss = OssSimulator(*bucket, options.oss_region, **told)
            servers.append(await stack.enter_async_context(oss))
            urls |= {"oss": oss.url, "oss-cname": oss.cname}
        _say(urls)
        await asyncio.to_thread(sys.stdin.buffer.read)
    counts = {op: count for server in servers for op, count in server.counts.items()}
    _say({"counts": counts})


def _say(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def main(argv: list[str] | None = None) -> None:
    """Serve until standard input closes."""
    uvloop.run(_serve(_arguments(argv)))


class Child:
    """A running child: its addresses and process id; ``counts`` is there once it has stopped."""

    def __init__(self, urls: dict[str, str], pid: int) -> None:
        self.urls = urls
        self.pid = pid
        self.counts: dict[str, int] = {}


@asynccontextmanager
async def child(*arguments: str) -> AsyncIterator[Child]:
    """Run the simulators in a child process with these options; it ends with the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "asynccopy.simulators",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        first: dict[str, Any] = json.loads(await process.stdout.readline())
        running = Child(first, process.pid)
        yield running
        process.stdin.close()
        last = await process.stdout.readline()
        running.counts = json.loads(last)["counts"]
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
