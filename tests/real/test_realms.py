"""Two secure clusters, each with a realm of its own: one has two NameNodes, before the other stand HttpFS servers."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import aclosing, closing
from itertools import count
from pathlib import Path

import pytest

from asynccopy.config.cluster import Cluster
from asynccopy.errors import Unreachable
from asynccopy.model import ByteRange
from asynccopy.storage.interface import Source
from asynccopy.storage.registry import Settings, open_source
from asynccopy.storage.webhdfs.delegation import AGAIN
from testbed import fetch, kdc
from testbed.content import big_files, small_files
from testbed.fill import Manifest, fill
from testbed.gateways import HttpFs
from testbed.ha import HaHdfs
from testbed.hdfs import MIB, SUPERUSER, Hdfs
from testbed.kdc import Kdc, client_configuration
from testbed.s3 import Store
from tests.program import Program
from tests.real.generate import BLOCK_SIZE
from tests.real.secure import MOST, RENEW, TOKENS, issued, people, used
from tests.real.test_hdfs_to_hdfs import attributes, checksums, tree, wishes, write
from tests.servers import require
from tests.service import Service

pytestmark = pytest.mark.timeout(300)

_numbers = count()


@pytest.fixture(scope="module")
def realms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Kdc, Kdc]]:
    require(fetch.HADOOP, fetch.GATEWAYS)
    if reasons := kdc.missing():
        pytest.skip("; ".join(reasons))
    folder = tmp_path_factory.mktemp("realms")
    with Kdc(folder / "a", "A.TEST") as first, Kdc(folder / "b", "B.TEST") as second:
        yield first, second


@pytest.fixture(scope="module")
def pair(realms: tuple[Kdc, Kdc], tmp_path_factory: pytest.TempPathFactory) -> Iterator[HaHdfs]:
    directory = tmp_path_factory.mktemp("hdfs") / "ha"
    with HaHdfs(directory, block_size=BLOCK_SIZE, properties=TOKENS, kdc=realms[0]) as cluster:
        people(cluster, realms[0])
        yield cluster


@pytest.fixture
def ha(pair: HaHdfs) -> Iterator[HaHdfs]:
    """In the realm A.TEST."""
    yield pair
    pair.repair()


@pytest.fixture(scope="module")
def single(realms: tuple[Kdc, Kdc], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hdfs]:
    """In the realm B.TEST."""
    with Hdfs(tmp_path_factory.mktemp("hdfs") / "b", block_size=BLOCK_SIZE, kdc=realms[1]) as cluster:
        people(cluster, realms[1])
        yield cluster


@pytest.fixture(scope="module")
def httpfs(single: Hdfs) -> Iterator[list[HttpFs]]:
    """Two in front of ``single``, whose tokens live for seconds too."""
    properties = {
        "httpfs.authentication.delegation-token.renew-interval.sec": RENEW,
        "httpfs.authentication.delegation-token.max-lifetime.sec": MOST,
        "httpfs.proxyuser.proxy.hosts": "*",
        "httpfs.proxyuser.proxy.users": "bob",
    }
    servers = [HttpFs(single, name, properties) for name in ("first", "second")]
    try:
        for server in servers:
            server.launch()
        for server in servers:
            server.wait_ready()
        yield servers
    finally:
        for server in servers:
            server.kill()


@pytest.fixture
def root() -> str:
    return f"/tests/{next(_numbers)}"


@pytest.fixture
def program(realms: tuple[Kdc, Kdc], versitygw: Store, bucket: str, tmp_path: Path) -> Iterator[Program]:
    """Nobody in either realm but by keytabs."""
    (tmp_path / "krb5.conf").write_text(client_configuration(*realms))
    environment = {"KRB5_CONFIG": f"{tmp_path}/krb5.conf", "KRB5CCNAME": f"FILE:{tmp_path}/nothing"}
    program = Program(tmp_path, versitygw.env() | environment)
    yield program
    program.end()


def plant(cluster: Hdfs, root: str, count: int, size: int, big: int = 0) -> Manifest:
    tree = small_files(count, size, directories=10) | big_files(big, 8 * MIB)
    return fill(cluster.http, cluster.user, root, tree, cookie=cluster.cookie)


def endpoint(name: str, urls: list[str] | tuple[str, ...], realm: Kdc, principal: str, **keys: str) -> str:
    table = {"principal": f"{principal}@{realm.realm}", "keytab": str(realm.keytab(principal)), **keys}
    lines = "".join(f'{key} = "{value}"\n' for key, value in table.items())
    return f'[endpoints.{name}]\ntype = "webhdfs"\nurls = {list(urls)!r}\n{lines}'


def configured(program: Program, *tables: str) -> tuple[str, str]:
    (program.folder / "c.toml").write_text("\n".join(tables))
    return "--config", str(program.folder / "c.toml")


# --- HttpFS ---------------------------------------------------------------------------------------------------------


class Requests:
    """What HttpFS servers are asked from now on, by their request logs."""

    def __init__(self, servers: list[HttpFs]) -> None:
        self._logs = [(server.log, server.log.stat().st_size) for server in servers]

    def lines(self) -> list[list[str]]:
        """Per server; each line ends with status and length."""
        texts = [log.read_bytes()[before:].decode(errors="replace") for log, before in self._logs]
        return [re.findall(r'"(?:GET|PUT) /webhdfs/v1.*', text) for text in texts]

    def with_tickets(self) -> list[int]:
        """Per server, how many requests carried no token."""
        return [sum("delegation=" not in line for line in lines) for lines in self.lines()]


@pytest.mark.parametrize("processes", ["1", "2"])
def test_each_httpfs_has_a_token_of_its_own(
    single: Hdfs,
    httpfs: list[HttpFs],
    realms: tuple[Kdc, Kdc],
    root: str,
    processes: str,
    program: Program,
    versitygw: Store,
    bucket: str,
) -> None:
    files = plant(single, root, 300, 3_000, big=1)
    requests = Requests(httpfs)
    config = configured(program, endpoint("b", [each.url for each in httpfs], realms[1], "alice"))
    ended = program.copy(f"b:{root}", f"s3://{bucket}", "-v", "--processes", processes, *config)
    assert ended.code == 0, ended.err
    assert ended.counted() == {"expected": len(files), "copied": len(files)}
    assert ended.result["verified"] == len(files)
    assert versitygw.read_back(bucket) == files
    asked, tickets = [len(lines) for lines in requests.lines()], requests.with_tickets()
    print(f"{len(files)} files by {processes} processes: requests {asked}, of which with SPNEGO {tickets}")
    assert tickets == [3, 3], "issued, renewed for its life to be known, cancelled"
    assert min(asked) > len(files) / 2, "they share the load"
    assert [line for lines in requests.lines() for line in lines if re.search(r'" 40[13] ', line)] == []
    secrets = used("".join(line for lines in requests.lines() for line in lines))
    assert len(secrets) == 2
    assert [secret for secret in secrets if secret in ended.out + ended.err] == []
    assert "retrying" not in ended.err


async def test_httpfs_servers_that_restart_have_forgotten_their_tokens(
    single: Hdfs, httpfs: list[HttpFs], realms: tuple[Kdc, Kdc], root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = await asyncio.to_thread(plant, single, root, 4, 3_000)
    monkeypatch.setenv("KRB5_CONFIG", str(realms[1].configuration))
    who = Cluster(servers=tuple(each.url for each in httpfs), keytab=str(realms[1].keytab("alice")))
    requests = Requests(httpfs)
    async with aclosing(open_source(f"{httpfs[0].url}{root}", Settings(cluster=who))) as source:
        before = [await contents(source, path) for path in files]
        assert [len(used("".join(lines))) for lines in requests.lines()] == [1, 1]
        for server in httpfs:
            await asyncio.to_thread(server.restart)
        await asyncio.sleep(AGAIN)  # one that was just issued is not replaced
        assert len((await source.list("")).entries) > 0, "each was asked, refused, and asked anew"
        assert [await contents(source, path) for path in files] == before
    assert [len(used("".join(lines))) for lines in requests.lines()] == [2, 2]


async def test_an_httpfs_that_gives_no_token_is_left_out(
    single: Hdfs, httpfs: list[HttpFs], realms: tuple[Kdc, Kdc], root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = await asyncio.to_thread(plant, single, root, 8, 3_000)
    monkeypatch.setenv("KRB5_CONFIG", str(realms[1].configuration))
    who = Cluster(servers=tuple(each.url for each in httpfs), keytab=str(realms[1].keytab("alice")))
    async with aclosing(open_source(f"{httpfs[0].url}{root}", Settings(cluster=who))) as source:
        first, *others = files
        await contents(source, first)  # the first server is HttpFS: the second will be too, but has given no token yet
        httpfs[1].kill()
        try:
            failed = 0
            for path in others:
                try:
                    await contents(source, path)
                except Unreachable:
                    failed += 1
            assert failed == 1, "it rests then, and the other one is asked"
        finally:
            await asyncio.to_thread(httpfs[1].start)


async def contents(source: Source, path: str) -> bytes:
    buffer = bytearray(3_000)
    with closing(await source.open(path, ByteRange(0, len(buffer)))) as reader:
        assert await reader.readinto(memoryview(buffer)) == len(buffer)
    return bytes(buffer)


def test_a_proxy_user_at_httpfs(
    single: Hdfs, httpfs: list[HttpFs], realms: tuple[Kdc, Kdc], program: Program, versitygw: Store, bucket: str
) -> None:
    with single.client() as client:
        client.put("/home/bob/his", b"bob's")
        client.set_owner("/home/bob/his", "bob", "users")
    urls = [each.url for each in httpfs]
    for doas, code, says in (("alice", 3, "proxy is not allowed to impersonate alice"), ("bob", 0, "1 verified")):
        config = configured(program, endpoint("b", urls, realms[1], "proxy", doas=doas))
        ended = program.copy("b:/home/bob", f"s3://{bucket}", *config)
        assert ended.code == code, ended.err
        assert says in ended.err
    assert set(versitygw.read_back(bucket)) == {"his"}


# --- two NameNodes --------------------------------------------------------------------------------------------------


def test_a_token_outlives_failovers(
    ha: HaHdfs, realms: tuple[Kdc, Kdc], root: str, program: Program, versitygw: Store, bucket: str
) -> None:
    """The active one is killed, then the other one steps down: one token is good, and renewed, at both."""
    files = plant(ha, root, 200, 65_536, big=1)
    before = {each: each.log.stat().st_size for each in ha.namenodes}
    table = f'[mirrors.m]\nsource = "a:{root}"\ndestination = "s3://{bucket}"\nbandwidth = "300KiB/s"\nwatch = "off"\n'
    service = Service(program, endpoint("a", ha.urls, realms[0], "alice") + table)
    begun = time.monotonic()
    service.start()
    service.until(lambda status: status["files"]["done"] > 0)
    ha.fail_over()
    done = service.until(lambda status: True)["files"]["done"]
    service.until(lambda status: status["files"]["done"] > done + 40)  # a DataNode is asked for most of them
    first, second = ha.namenode, ha.other()
    ha.make_standby(first)
    ha.make_active(second)
    assert service.until(lambda status: True)["files"]["pending"] > 0, "the copy ended before all was over"
    assert service.ask("limit", "m", "--bandwidth", "1GiB/s").code == 0
    status = service.until(lambda each: each["state"] == "watching" and each["files"]["done"] == len(files), 60)
    took = time.monotonic() - begun
    logs = [each.log.read_bytes()[before[each] :].decode(errors="replace") for each in ha.namenodes]
    made, tokens = [issued(log) for log in logs], [len(used(log)) for log in logs]
    renewals = [log.count("Token renewal for identifier: (token for alice:") for log in logs]
    print(
        f"{len(files)} files in {took:.0f} s, 2 failovers; issued {made}, renewals {renewals}, tokens used {tokens}; "
        f"{status['retries']} retries"
    )
    assert status["failed"] == 0, service.errors()
    assert versitygw.read_back(bucket) == files
    assert sum(made) <= 1 + took // (MOST / 2), "one is replaced when it cannot be renewed, and not for a failover"
    assert min(tokens) >= 1, "both have taken it"
    assert service.stop().code == 0
    refused = service.errors().count("the delegation token was refused")
    assert refused < sum(made), "each is replaced once, where a failover outlasts its renewal"


# --- from one realm to the other ------------------------------------------------------------------------------------


def test_from_one_realm_to_another(
    ha: HaHdfs, single: Hdfs, realms: tuple[Kdc, Kdc], root: str, program: Program
) -> None:
    """With all attributes, which takes the superuser of each; the second time with an outdated keytab of one."""
    write(ha, root, wishes(200))
    before = tree(ha, root)  # reading moves access times
    tables = [
        endpoint(name, urls, realm, SUPERUSER)
        for name, urls, realm in (("a", ha.urls, realms[0]), ("b", (single.url,), realms[1]))
    ]
    options = ("--preserve", "all", "--part-size", "2MiB")
    ended = program.copy(f"a:{root}", f"b:{root}", "--processes", "2", *options, *configured(program, *tables))
    assert ended.code == 0, ended.err
    files = [path for path, status in before.items() if status["type"] == "FILE"]
    assert ended.counted() == {"expected": len(files), "copied": len(files)}
    assert ended.result["verified"] == len(files)
    assert attributes(tree(single, root)) == attributes(before)
    assert checksums(single, root, files) == checksums(ha, root, files)
    print(f"{len(files)} files from {realms[0].realm} to {realms[1].realm} in {ended.result['duration_seconds']:.1f} s")


def test_whose_credentials_are_refused_is_said(
    ha: HaHdfs, single: Hdfs, realms: tuple[Kdc, Kdc], root: str, program: Program
) -> None:
    plant(ha, root, 1, 100)
    realms[1].add("dave")
    outdated = endpoint("b", (single.url,), realms[1], "dave")
    realms[1].change_key("dave")
    foreign = endpoint("b", (single.url,), realms[1], "alice", keytab=str(realms[0].keytab("alice")))
    elsewhere = endpoint("b", (single.url,), realms[0], "alice")
    b = single.address.removeprefix("http://")
    for table, says in (
        (outdated, "Kerberos: Preauthentication failed"),
        (foreign, "holds no key of alice@B.TEST"),
        (elsewhere, "the server refuses our ticket"),
    ):
        config = configured(program, endpoint("a", ha.urls, realms[0], "alice"), table)
        ended = program.copy(f"a:{root}", f"b:{root}", *config)
        first, hint = ended.err.splitlines()
        assert ended.code == 3, ended.err
        assert first.startswith(f"asynccopy: {b}") and says in first and hint.startswith("hint: "), ended.err
