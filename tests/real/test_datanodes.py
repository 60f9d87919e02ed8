"""Three real DataNodes, of which one dies, freezes or crawls in the middle of a copy; and erasure-coded files."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from testbed import fetch
from testbed.content import Content, small_files
from testbed.fill import fill
from testbed.hdfs import Hdfs
from testbed.process import Server
from testbed.s3 import Store
from tests.program import Program, eventually
from tests.real.generate import BLOCK_SIZE
from tests.servers import require, uploading

MIB = 1 << 20


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hdfs]:
    """Three DataNodes, each block on two of them."""
    require(fetch.HADOOP)
    with Hdfs(
        tmp_path_factory.mktemp("hdfs") / "three",
        datanodes=3,
        replication=2,
        block_size=4 * BLOCK_SIZE,
        properties={"dfs.client.socket-timeout": 5000},
    ) as cluster:
        yield cluster


@contextmanager
def crawling(server: Server) -> Iterator[None]:
    """It runs for 2 ms in every three seconds: slow, but not silent for as long as a stall takes."""
    over = threading.Event()

    def crawl() -> None:
        while not over.is_set():
            server.suspend()
            over.wait(3.0)
            server.resume()
            time.sleep(0.002)

    thread = threading.Thread(target=crawl, name="crawl")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        server.resume()


def copied(hdfs: Hdfs, root: str, store: Store, bucket: str, program: Program, fault: str) -> float:
    """Seconds that the copy of 130 MiB took with one DataNode at fault since its first parts."""
    files = small_files(60, 20_000, directories=4) | {f"big/{n}": Content(30 + n, 32 * MIB + n) for n in range(4)}
    manifest = fill(hdfs.http, hdfs.user, root, files)
    running = program.start_copy(
        hdfs.url + root, f"s3://{bucket}", "--part-size", "8MiB", "--bandwidth", "20MiB/s", "--concurrency", "8", "-v"
    )
    eventually(lambda: uploading(store, bucket))
    time.sleep(1.0)
    node = hdfs.datanodes[1]
    if fault == "killed":
        node.kill()
    elif fault == "frozen":
        node.suspend()
    if fault == "crawling":
        with crawling(node):
            ended = running.wait(300)
    else:
        ended = running.wait(300)
    assert ended.code == 0, ended.err[-3000:]
    assert ended.counted() == {"expected": len(manifest), "copied": len(manifest)}
    assert ended.result["verified"] == len(manifest)
    assert store.read_back(bucket) == manifest
    assert store.open_uploads(bucket) == []
    seconds: float = ended.result["duration_seconds"]
    print(f"{fault}: {seconds:.1f} s, 0 failed, 0 wrong; {ended.err.count('bytes/s for')} slow")
    return seconds


@pytest.mark.timeout(400)
@pytest.mark.parametrize("fault", ["none", "killed"])
def test_one_of_three_datanodes(
    hdfs: Hdfs, root: str, versitygw: Store, bucket: str, program: Program, fault: str
) -> None:
    copied(hdfs, root, versitygw, bucket, program, fault)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("fault", ["frozen", "crawling"])
def test_one_of_three_datanodes_is_slow(
    hdfs: Hdfs, root: str, versitygw: Store, bucket: str, program: Program, fault: str
) -> None:
    copied(hdfs, root, versitygw, bucket, program, fault)


def test_erasure_coded_files(hdfs: Hdfs, root: str, versitygw: Store, bucket: str, program: Program) -> None:
    """HDFS's checksum of them is of their stripes: what was read and what the store holds are compared without it."""

    def put(path: str, op: str) -> None:
        url = f"{hdfs.http}{path}?op={op}&ecpolicy=XOR-2-1-1024k&user.name={hdfs.user}"
        with urllib.request.urlopen(urllib.request.Request(url, method="PUT")) as reply:
            assert reply.status == 200

    with hdfs.client() as client:
        client.mkdirs(f"{root}/ec")
    put("/", "ENABLEECPOLICY")
    put(f"{root}/ec", "SETECPOLICY")
    files = {f"ec/{n}": Content(70 + n, size) for n, size in enumerate((0, 1, 700_000, 3 * MIB, 17 * MIB + 5))}
    files["plain"] = Content(80, 3 * MIB)
    manifest = fill(hdfs.http, hdfs.user, root, files)
    with urllib.request.urlopen(f"{hdfs.http}{root}/ec/4?op=GETFILESTATUS&user.name={hdfs.user}") as reply:
        assert json.load(reply)["FileStatus"]["ecBit"] is True
    places = (hdfs.url + root, f"s3://{bucket}")
    ended = program.copy(*places, "--part-size", "5MiB")
    assert ended.code == 0, ended.err
    assert versitygw.read_back(bucket) == manifest
    methods = {path: row["method"] for path, row in program.ledger(*places).items()}
    print(methods)
    assert methods["plain"] == "checksum"
    assert methods["ec/4"] == "stream"
    again = program.run("check", *places)
    assert again.code == 0, again.out
