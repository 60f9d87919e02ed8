"""The real servers as fixtures, each started at most once per worker process.

A pytest plugin (see tests/conftest.py), so that every folder shares the same servers. A test that uses one is ``real``,
and gets a directory and a bucket of its own.

What cannot run is skipped with the reason, unless ASYNCCOPY_REQUIRE_REAL=1: then it fails, so that nobody takes an
empty run for a passed one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from asynccopy.storage.bucket import PROBE_KEY
from testbed import fetch
from testbed.hdfs import Hdfs
from testbed.s3 import S3Proxy, Store, VersityGw
from testbed.signed import S3Client
from tests.program import Program
from tests.real.generate import BLOCK_SIZE

_numbers = count()


class LoggedGateway(VersityGw):
    """versitygw with an access log, and a secret that is easy to look for."""

    secret_key = "canary-secret-key-that-must-never-be-shown"

    @property
    def access_log(self) -> Path:
        return self.directory / "access.log"

    def _command(self) -> list[str]:
        program, *options = super()._command()
        return [program, "--access-log", str(self.access_log), *options]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if {"cluster", "start_store"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.real)


def require(*components: fetch.Component) -> None:
    reasons = fetch.missing(*components)
    if reasons and os.environ.get("ASYNCCOPY_REQUIRE_REAL") == "1":
        pytest.fail("; ".join(reasons), pytrace=False)
    if reasons:
        pytest.skip("; ".join(reasons))


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hdfs]:
    """Two DataNodes that each hold everything, blocks of 1 MiB; ``hdfs`` is what tests use."""
    require(fetch.HADOOP)
    with Hdfs(
        tmp_path_factory.mktemp("hdfs") / "cluster",
        datanodes=2,
        replication=2,
        block_size=BLOCK_SIZE,
        # On one machine every DataNode looks local, so that a DataNode reads from a frozen one what it has itself: in
        # the few threads that serve WebHDFS, for a minute each by default.
        properties={"dfs.client.socket-timeout": 5000},
    ) as cluster:
        yield cluster


@pytest.fixture
def hdfs(cluster: Hdfs) -> Iterator[Hdfs]:
    """The cluster. A test may kill, suspend and restart its servers: they are brought back afterwards."""
    yield cluster
    cluster.repair()


@pytest.fixture
def root(hdfs: Hdfs, request: pytest.FixtureRequest) -> str:
    """An HDFS directory of the test's own, absolute; it exists and is empty."""
    path = f"/tests/{_named(request)}"
    with hdfs.client() as client:
        client.mkdirs(path)
    return path


@pytest.fixture(scope="session")
def start_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[type[Store]], Store]]:
    """Starts a kind of store when it is first asked for."""
    started: dict[type[Store], Store] = {}

    def start(kind: type[Store]) -> Store:
        if kind not in started:
            require(kind.component)
            store = kind(tmp_path_factory.mktemp(kind.name))
            store.start()
            started[kind] = store
        return started[kind]

    yield start
    for store in started.values():
        store.stop()


@pytest.fixture(params=[VersityGw, S3Proxy], ids=lambda kind: kind.name)
def store(request: pytest.FixtureRequest, start_store: Callable[[type[Store]], Store]) -> Iterator[Store]:
    """Each S3 server in turn; brought back when the test left it dead or suspended."""
    store = start_store(request.param)
    yield store
    _revive(store)


@pytest.fixture
def versitygw(start_store: Callable[[type[Store]], Store]) -> Iterator[Store]:
    """The strict S3 server alone."""
    store = start_store(VersityGw)
    yield store
    _revive(store)


@pytest.fixture
def gateway(start_store: Callable[[type[Store]], Store]) -> Iterator[LoggedGateway]:
    """A versitygw of its own kind: see LoggedGateway."""
    store = start_store(LoggedGateway)
    assert isinstance(store, LoggedGateway)
    yield store
    _revive(store)


@pytest.fixture
def bucket(request: pytest.FixtureRequest) -> str:
    """A new bucket, in the test's ``store`` or ``gateway`` where it has one, else in ``versitygw``."""
    kind = next((kind for kind in ("store", "gateway") if kind in request.fixturenames), "versitygw")
    store: Store = request.getfixturevalue(kind)
    name = _named(request)
    store.make_bucket(name)
    return name


@pytest.fixture
def program(hdfs: Hdfs, bucket: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Program]:
    """The command line, in the surroundings of a user who may use both servers."""
    kind = next((kind for kind in ("store", "gateway") if kind in request.fixturenames), "versitygw")
    store: Store = request.getfixturevalue(kind)
    program = Program(tmp_path, store.env() | {"HADOOP_USER_NAME": hdfs.user})
    yield program
    program.end()


def uploading(store: Store, bucket: str) -> list[str]:
    """The keys of files that are on their way in parts; the probe that a run begins with is none."""
    return [key for key, _ in store.open_uploads(bucket) if not key.endswith(PROBE_KEY)]


def abandoned(store: Store, bucket: str) -> list[str]:
    """The keys of uploads that nobody goes on with.

    s3proxy 4.0.0, killed while it begins or ends an upload, lists it from then on, and knows no such upload when it is
    to be aborted: then it is none.
    """
    left = store.open_uploads(bucket)
    if isinstance(store, S3Proxy):
        client = store.client()
        left = [each for each in left if _abort(client, bucket, *each) != 404]
    return [key for key, _ in left]


def _abort(client: S3Client, bucket: str, key: str, upload: str) -> int:
    return client.request("DELETE", bucket, key, query={"uploadId": upload}).status


def _revive(store: Store) -> None:
    store.server.resume()
    if not store.server.alive:
        store.restart()


def _named(request: pytest.FixtureRequest) -> str:
    """The test's name, as short and plain as a bucket's name must be, and never the same twice."""
    plain = re.sub("[^a-z0-9]+", "-", request.node.name.lower().removeprefix("test_"))
    return f"{plain[:40].strip('-')}-{next(_numbers)}"
