"""Two NameNodes, of which now one is active, now the other, and now none: nothing is lost, nothing fails."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import aclosing
from itertools import count
from pathlib import Path
from typing import Self

import pytest

from asynccopy.config.cluster import Cluster
from asynccopy.errors import AsyncCopyError, NoActiveNameNode
from asynccopy.retry import RetryPolicy
from asynccopy.storage.registry import Settings, open_destination, open_source
from asynccopy.storage.retrying import RetryingSource
from testbed import fetch
from testbed.content import Content, big_files, small_files
from testbed.fill import Manifest, fill
from testbed.ha import HaHdfs
from tests.program import Program, eventually
from tests.real.generate import BLOCK_SIZE
from tests.real.mirrors import INTERVAL, at_destination, difference
from tests.servers import LoggedGateway, require, uploading
from tests.service import Service

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MIB = 1 << 20
KILLS = 5
PAGE = 50
PREFIX = "k/"

_numbers = count()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HaHdfs]:
    require(fetch.HADOOP)
    with HaHdfs(
        tmp_path_factory.mktemp("hdfs") / "ha",
        datanodes=2,
        replication=2,
        block_size=BLOCK_SIZE,
        properties={"dfs.ls.limit": PAGE, "dfs.client.socket-timeout": 5000},
    ) as cluster:
        yield cluster


@pytest.fixture
def ha(pair: HaHdfs) -> Iterator[HaHdfs]:
    yield pair
    pair.repair()


@pytest.fixture
def root(ha: HaHdfs) -> str:
    path = f"/tests/{next(_numbers)}"
    with ha.client() as client:
        client.mkdirs(path)
    return path


@pytest.fixture
def program(ha: HaHdfs, gateway: LoggedGateway, bucket: str, tmp_path: Path) -> Iterator[Program]:
    program = Program(tmp_path, gateway.env() | {"HADOOP_USER_NAME": ha.user})
    (tmp_path / "sides.toml").write_text(endpoint(ha))
    yield program
    program.end()


def endpoint(ha: HaHdfs) -> str:
    return f'[endpoints.ha]\ntype = "webhdfs"\nurls = ["{ha.urls[0]}", "{ha.urls[1]}"]\n'


def mirror(root: str, bucket: str, **keys: str) -> str:
    """The mirror ``m`` from the endpoint ``ha``."""
    lines = "".join(f'{key} = "{value}"\n' for key, value in ({"settle": "1s", "part_size": "5MiB"} | keys).items())
    return f'[mirrors.m]\nsource = "ha:{root}"\ndestination = "s3://{bucket}/{PREFIX[:-1]}"\n{lines}'


def settings(ha: HaHdfs) -> Settings:
    return Settings(cluster=Cluster(servers=ha.urls, user=ha.user))


class Pause:
    """The longest time in which the store's access log did not grow."""

    def __init__(self, log: Path) -> None:
        self.longest = 0.0
        self._log = log
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="pauses")

    def _look(self) -> None:
        size, since = 0, time.monotonic()
        while not self._over.wait(0.05):
            now = self._log.stat().st_size if self._log.exists() else 0
            if now != size:
                size, since = now, time.monotonic()
            elif size:
                self.longest = max(self.longest, time.monotonic() - since)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()


def test_the_active_namenode_is_killed_five_times_during_one_copy(
    ha: HaHdfs, root: str, program: Program, gateway: LoggedGateway, bucket: str
) -> None:
    """In a daemon that makes one pass, for its limit can be lifted once all is over."""
    tree = small_files(1200, 64 << 10) | big_files(2, 16 * MIB)
    wanted = fill(ha.http, ha.user, root, tree)
    service = Service(program, endpoint(ha) + mirror(root, bucket, bandwidth="512KiB/s", watch="off"))
    service.start()
    service.until(lambda status: status["files"]["done"] > 0)
    with Pause(gateway.access_log) as pause:
        for number in range(KILLS):
            dead, begun = ha.namenode, time.monotonic()
            dead.kill()
            time.sleep(1 + number % 3)
            ha.make_active(ha.other())
            print(f"{dead.id} killed, {ha.namenode.id} active after {time.monotonic() - begun:.1f} s")
            dead.start()
    status = service.until(lambda status: True)
    assert status["files"]["pending"] > 0, "the copy ended before all was over"
    assert service.ask("limit", "m", "--bandwidth", "1GiB/s").code == 0
    status = service.until(lambda each: each["state"] == "watching" and each["files"]["done"] == len(tree), 60)
    print(f"{KILLS} failovers; longest pause {pause.longest:.1f} s; {status['files']}, {status['retries']} retries")
    assert (status["failed"], status["files"]["done"]) == (0, len(tree)), service.errors()[-3000:]
    assert service.stop().code == 0
    assert difference(at_destination(gateway, bucket), wanted) == {}
    assert pause.longest < 60


def test_a_hung_namenode(ha: HaHdfs, root: str, program: Program, gateway: LoggedGateway, bucket: str) -> None:
    tree = small_files(300, 64 << 10) | big_files(2, 24 * MIB)
    wanted = fill(ha.http, ha.user, root, tree)
    arguments = [f"ha:{root}", f"s3://{bucket}/{PREFIX[:-1]}", "--config", "sides.toml"]
    running = program.start_copy(*arguments, "--bandwidth", "2MiB/s", "--part-size", "5MiB")
    eventually(lambda: uploading(gateway, bucket), 60)
    hung = ha.namenode
    with Pause(gateway.access_log) as pause:
        hung.suspend()
        time.sleep(1)
        ha.make_active(ha.other())
        time.sleep(10)
        hung.kill()  # as fencing does: before, every DataNode waits for it too
        ended = running.wait(200)
    print(f"one NameNode hung; longest pause {pause.longest:.1f} s; {ended.counted()}")
    assert (ended.code, ended.result["errors"]) == (0, []), ended.err[-3000:]
    assert difference(at_destination(gateway, bucket), wanted) == {}
    assert pause.longest < 90


def test_none_is_active_for_a_while(
    ha: HaHdfs, root: str, program: Program, gateway: LoggedGateway, bucket: str
) -> None:
    """A daemon says what it waits for, and goes on."""
    tree: dict[str, bytes | Content] = {**small_files(300, 64 << 10), **big_files(2, 24 * MIB)}
    wanted: Manifest = fill(ha.http, ha.user, root, tree)
    service = Service(program, endpoint(ha) + mirror(root, bucket, bandwidth="2MiB/s", interval=f"{INTERVAL:.0f}s"))
    service.start()
    eventually(lambda: uploading(gateway, bucket), 60)
    active = ha.namenode
    begun = time.monotonic()
    ha.make_standby(active)
    expected = "waiting for an active NameNode: "
    # A DataNode that is asked first says it in its own words.
    waiting = service.until(lambda each: each["state"] == "waiting" and each["reason"].startswith(expected), 60)
    print(f"after {time.monotonic() - begun:.1f} s: {waiting['state']}: {waiting['reason']}")
    names = [url.removeprefix("http://") for url in ha.urls]
    assert all(f"{name} is standby" in waiting["reason"] for name in names)
    time.sleep(max(0.0, 10 - (time.monotonic() - begun)))
    ha.make_active(active)
    settled = service.until(lambda each: each["state"] == "watching" and each["files"]["pending"] == 0, 200)
    assert settled["failed"] == 0 and settled["files"]["done"] == len(tree)
    ended = service.stop()
    assert ended.code == 0
    assert difference(at_destination(gateway, bucket), wanted) == {}


async def test_a_run_gives_up_after_its_patience(ha: HaHdfs, root: str) -> None:
    policy, noticed = RetryPolicy(patience=3), list[AsyncCopyError]()
    await asyncio.to_thread(ha.make_standby, ha.namenode)
    async with aclosing(open_source(ha.urls[0].replace("http", "webhdfs") + root, settings(ha))) as source:
        retrying = RetryingSource(source, policy, lambda error, delay: noticed.append(error))
        for call in (lambda: retrying.status(""), lambda: retrying.list("")):
            begun = time.monotonic()
            with pytest.raises(NoActiveNameNode) as raised:
                await call()
            assert raised.value.exit_code == 3
            assert 3 <= time.monotonic() - begun < 15
    assert {type(error) for error in noticed} == {NoActiveNameNode}


async def test_a_failover_in_the_middle_of_a_listing(ha: HaHdfs, root: str) -> None:
    names = [f"{number:04d}" for number in range(6 * PAGE + 7)]
    await asyncio.to_thread(fill, ha.http, ha.user, root, dict.fromkeys(names, b""))
    async with aclosing(open_source(ha.urls[0].replace("http", "webhdfs") + root, settings(ha))) as bare:
        source = RetryingSource(bare, RetryPolicy(), lambda error, delay: None)
        listed, pages, after = list[str](), 0, ""
        failing: asyncio.Task[None] | None = None
        async with asyncio.TaskGroup() as group:
            while True:
                page = await source.list("", after)
                listed += [entry.path for entry in page.entries]
                pages += 1
                if pages in (2, 4):
                    failing = group.create_task(asyncio.to_thread(ha.fail_over), name="failover")
                    await asyncio.sleep(0.2)  # it is dead by now
                if page.after is None:
                    break
                if failing is not None and pages == 3:
                    await failing
                after = page.after
    assert pages == 7
    assert listed == names


def test_a_destination_during_failovers(ha: HaHdfs, root: str, program: Program, tmp_path: Path) -> None:
    tree = small_files(400, 64 << 10) | big_files(3, 12 * MIB)
    local = tmp_path / "from"
    for path, content in tree.items():
        (local / path).parent.mkdir(parents=True, exist_ok=True)
        (local / path).write_bytes(b"".join(content))
    arguments = [str(local), f"ha:{root}", "--config", "sides.toml", "--bandwidth", "1MiB/s", "--part-size", "5MiB"]
    running = program.start_copy(*arguments)
    for _ in range(2):
        time.sleep(4)
        assert running.runs, "the copy ended before all was over"
        ha.fail_over()
    ended = running.wait(300)
    print(f"2 failovers; {ended.counted()}")
    assert (ended.code, ended.result["errors"]) == (0, []), ended.err[-3000:]
    assert ended.counted() == {"expected": len(tree), "copied": len(tree)}
    with ha.client() as client:
        assert all(client.read(f"{root}/{path}") == b"".join(content) for path, content in tree.items())
        assert ".asynccopy" not in client.names(root)


async def test_safe_mode_is_told(ha: HaHdfs, root: str) -> None:
    def safe_mode(verb: str) -> None:
        ha.dfsadmin("-safemode", verb)

    await asyncio.to_thread(safe_mode, "enter")
    try:
        url = ha.urls[0].replace("http", "webhdfs") + root
        async with aclosing(open_destination(url, settings(ha))) as destination:
            with pytest.raises(NoActiveNameNode) as raised:
                await destination.check()
        assert f"{ha.namenode.address.removeprefix('http://')} is in safe mode" in raised.value.message
        assert f"{ha.other().address.removeprefix('http://')} is standby" in raised.value.message
    finally:
        await asyncio.to_thread(safe_mode, "leave")
