"""Replication 1: the only DataNode that has a block restarts while it is read. It is waited for, and no file fails."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from testbed import fetch
from testbed.content import Content, small_files
from testbed.hdfs import Hdfs
from testbed.s3 import Store
from tests.program import Program
from tests.real.test_daemon_outages import Watched
from tests.real.test_faults import copy_through
from tests.servers import require

MIB = 1 << 20


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hdfs]:
    require(fetch.HADOOP)
    with Hdfs(tmp_path_factory.mktemp("hdfs") / "one", datanodes=1, replication=1, block_size=4 * MIB) as cluster:
        yield cluster


def restart(cluster: Hdfs) -> None:
    cluster.datanodes[0].kill()
    time.sleep(3.0)
    cluster.repair()


def test_a_copy(single: Hdfs, versitygw: Store, bucket: str, program: Program) -> None:
    copy_through(single, "/copy", versitygw, bucket, program, lambda: restart(single))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_daemon(single: Hdfs, versitygw: Store, bucket: str, program: Program) -> None:
    watched = Watched(single, "/watched", versitygw, bucket, program, watch="scan")
    watched.fill({**small_files(40, 20_000, directories=4), **{f"big/{n}": Content(n, 16 * MIB + n) for n in range(3)}})
    watched.start()
    pid = watched.pid
    watched.in_the_middle()
    restart(single)
    watched.is_equal(pid)
