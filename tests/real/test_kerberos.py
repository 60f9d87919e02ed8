"""A secure cluster: Kerberos, delegation tokens that live for seconds, and a KDC that goes away.

``ASYNCCOPY_TOKEN_SECONDS`` is how long the long copy takes, 75 s without it; from 300 s on it is 20,000 files.
"""

from __future__ import annotations

import asyncio
import os
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import aclosing, closing
from pathlib import Path

import pytest

from asynccopy.config.cluster import Cluster
from asynccopy.model import ByteRange
from asynccopy.storage.interface import Source
from asynccopy.storage.pool import Origin
from asynccopy.storage.registry import Settings, open_source
from asynccopy.storage.webhdfs.auth import TokenEnded
from asynccopy.storage.webhdfs.delegation import AGAIN
from asynccopy.storage.webhdfs.kerberos import Identity
from testbed import fetch, hadoop, kdc
from testbed.content import small_files
from testbed.fill import Manifest, WebHdfs, fill
from testbed.hdfs import Hdfs
from testbed.kdc import Kdc, client_configuration
from testbed.s3 import Store
from tests.place import equal
from tests.program import Ended, Program, eventually
from tests.real.secure import MOST, RENEW, TICKET, TOKENS, issued, people, used
from tests.servers import require
from tests.service import Service

pytestmark = pytest.mark.timeout(300)

LONG = float(os.environ.get("ASYNCCOPY_TOKEN_SECONDS", "75"))


class Secure(Hdfs):
    """People: see ``secure.people``."""

    def __init__(self, directory: Path, realm: Kdc) -> None:
        properties = TOKENS | {
            # Nobody kills this NameNode, and each file that the tests write would have to wait for the disk.
            "dfs.namenode.edits.noeditlogchannelflush": "true",
            # A DataNode that keeps its connection to the NameNode does not see that a token was cancelled.
            "ipc.client.connection.maxidletime": 500,
            "hadoop.proxyuser.proxy.hosts": "*",
            "hadoop.proxyuser.proxy.users": "bob",
        }
        super().__init__(directory, properties=properties, kdc=realm)
        self.realm = realm

    def start(self) -> None:
        super().start()
        people(self, self.realm)
        self.realm.add("carol")

    def plant(self, root: str, count: int = 30, size: int = 3_000) -> Manifest:
        """Files as the superuser writes them, which alice may read."""
        return fill(self.http, self.user, root, small_files(count, size, directories=10), cookie=self.cookie)

    def keytab(self, name: str) -> str:
        return str(self.realm.keytab(name))

    def log(self) -> str:
        return self.namenode.log.read_text(errors="replace")


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    require(fetch.HADOOP)
    if reasons := kdc.missing():
        pytest.skip("; ".join(reasons))
    folder = tmp_path_factory.mktemp("secure")
    with Kdc(folder / "kdc") as realm, Secure(folder / "hdfs", realm) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def _kdc_runs(secure: Secure) -> Iterator[None]:
    yield
    if not secure.realm.server.alive:
        secure.realm.server.start()
    secure.repair()


@pytest.fixture
def root(secure: Secure, request: pytest.FixtureRequest) -> str:
    return f"/{request.node.name.partition('[')[0].removeprefix('test_').replace('_', '-')}"


@pytest.fixture
def program(secure: Secure, versitygw: Store, bucket: str, tmp_path: Path) -> Iterator[Program]:
    """The command line of somebody who can find the realm, and is nobody there."""
    configuration = {"KRB5_CONFIG": str(secure.realm.configuration), "KRB5CCNAME": f"FILE:{tmp_path}/nothing"}
    program = Program(tmp_path, versitygw.env() | configuration)
    yield program
    program.end()


def endpoint(secure: Secure, program: Program, **keys: object) -> tuple[str, str]:
    """``--config FILE`` with an endpoint ``dc`` of these keys."""
    lines = [f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}" for key, value in keys.items()]
    text = "\n".join(["[endpoints.dc]", 'type = "webhdfs"', f'url = "{secure.url}"', *lines])
    (program.folder / "c.toml").write_text(text + "\n")
    return "--config", str(program.folder / "c.toml")


def assert_copied(ended: Ended, store: Store, bucket: str, files: Manifest) -> None:
    assert ended.code == 0, ended.err
    assert ended.counted() == {"expected": len(files), "copied": len(files)}
    assert ended.result["verified"] == len(files)
    assert store.read_back(bucket) == files


def assert_silent(secure: Secure, program: Program, ended: Ended, before: str) -> None:
    """No token that was in use since then is anywhere that others may read."""
    secrets = used(secure.log()[len(before) :])
    assert secrets
    shown = ended.out + ended.err
    for path in program.folder.rglob("*"):
        shown += path.read_bytes().decode(errors="replace") if path.is_file() and path.suffix != ".cache" else ""
    assert [secret[:8] for secret in secrets if secret in shown] == []
    assert "Negotiate Y" not in shown
    assert "delegation=" not in shown


# --- who we are ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["keytab", "cache", "endpoint", "mutual"])
def test_a_secure_cluster_is_copied(
    secure: Secure, root: str, way: str, program: Program, versitygw: Store, bucket: str
) -> None:
    """Also in worker processes: one token for all of them."""
    root = f"{root}-{way}"
    files = secure.plant(root)
    before, cache = secure.log(), program.folder / "alice.cache"
    source, options, environment = secure.url + root, ("-v", "--processes", "2"), {}
    match way:
        case "keytab":
            environment = {"KRB5_CLIENT_KTNAME": secure.keytab("alice"), "KRB5CCNAME": "MEMORY:mine"}
        case "cache":
            secure.realm.kinit("alice", cache)
            environment = {"KRB5CCNAME": f"FILE:{cache}"}
        case "endpoint":
            source, config = f"dc:{root}", endpoint(secure, program, principal="alice", keytab=secure.keytab("alice"))
            options = (*options, *config)
        case "mutual":
            keys = {"principal": "alice", "keytab": secure.keytab("alice"), "mutual": True}
            source, config = f"dc:{root}", endpoint(secure, program, **keys)
            options = (*options, *config)
    ended = program.copy(source, f"s3://{bucket}", *options, **environment)
    assert_copied(ended, versitygw, bucket, files)
    assert_silent(secure, program, ended, before)
    log = secure.log()[len(before) :]
    assert issued(log) == 1
    assert log.count("Token cancellation requested") == 1
    assert not (program.folder / "nothing").exists()


@pytest.mark.parametrize("way", ["token_file", "HADOOP_TOKEN_FILE_LOCATION", "ASYNCCOPY_DELEGATION_TOKEN"])
def test_a_token_is_enough(
    secure: Secure, root: str, way: str, program: Program, versitygw: Store, bucket: str
) -> None:
    """Written by Hadoop's own client; nothing of Kerberos is at hand."""
    root = f"{root}-{way.lower()}"
    files = secure.plant(root)
    file, before = program.folder / "token", secure.log()
    text = fetch_token(secure, file, program.folder)
    nowhere = {"KRB5_CONFIG": "/nonexistent", "KRB5CCNAME": "FILE:/nonexistent"}
    if way == "token_file":
        ended = program.copy(
            f"dc:{root}", f"s3://{bucket}", *endpoint(secure, program, token_file=str(file)), **nowhere
        )
    else:
        value = str(file) if way.startswith("HADOOP") else text
        ended = program.copy(secure.url + root, f"s3://{bucket}", "--processes", "2", **{way: value}, **nowhere)
    assert_copied(ended, versitygw, bucket, files)
    assert "Token cancellation requested" not in secure.log()[len(before) :]
    file.unlink()
    assert text not in ended.err


def fetch_token(secure: Secure, file: Path, folder: Path) -> str:
    """Write a Hadoop token file; the text of its token."""
    cache = folder / "fetch.cache"
    secure.realm.kinit("alice", cache)
    command = secure.daemon_command(hadoop.Jvm(128), "org.apache.hadoop.hdfs.tools.DelegationTokenFetcher")
    environment = hadoop.environment() | {"KRB5CCNAME": f"FILE:{cache}"}
    subprocess.run([*command, "--renewer", "alice", str(file)], env=environment, check=True, capture_output=True)
    cache.unlink()
    from asynccopy.storage.webhdfs.tokens import parse_file

    [token] = parse_file(file.read_bytes())
    assert token.kind == "HDFS_DELEGATION_TOKEN"
    return token.text


def test_a_proxy_user_acts_for_others(secure: Secure, program: Program, bucket: str) -> None:
    """What bob alone may read is read for him; for alice it is not allowed, and the cluster says so."""
    with secure.client() as client:
        client.put("/home/bob/his", b"bob's")
    for doas, code in (("bob", 0), ("alice", 3)):
        config = endpoint(secure, program, principal="proxy", keytab=secure.keytab("proxy"), doas=doas)
        ended = program.copy(f"dc:/home/{doas}", f"s3://{bucket}/{doas}", *config)
        assert ended.code == code, ended.err
    assert "User: proxy is not allowed to impersonate alice" in ended.err
    assert "hadoop.proxyuser" in ended.err


def test_a_given_token_is_used_for_nobody_else(secure: Secure, program: Program, bucket: str) -> None:
    """The server would not look at ``doas`` beside it, and give alice's files for bob's."""
    file = program.folder / "token"
    fetch_token(secure, file, program.folder)
    for doas, code in (("alice", 0), ("bob", 2)):
        config = endpoint(secure, program, token_file=str(file), doas=doas)
        ended = program.copy("dc:/home/alice", f"s3://{bucket}/{doas}", *config)
        assert ended.code == code, ended.err
    assert "is that of alice, and `doas` says bob" in ended.err


def test_two_endpoints_are_two_people(secure: Secure, program: Program) -> None:
    """From what only alice may read to where only bob may write, in one process."""
    with secure.client() as client:
        for number in range(20):
            client.put(f"/home/alice/hers-{number}", b"alice's")
            client.set_owner(f"/home/alice/hers-{number}", "alice", "users")
    secure.realm.kinit("bob", program.folder / "bob.cache")
    text = "".join(
        f'[endpoints.{name}]\ntype = "webhdfs"\nurl = "{secure.url}"\n{line}\n'
        for name, line in (
            ("hers", f'principal = "alice"\nkeytab = "{secure.keytab("alice")}"'),
            ("his", f'ccache = "FILE:{program.folder}/bob.cache"'),
        )
    )
    (program.folder / "c.toml").write_text(text)
    ended = program.copy(
        "hers:/home/alice", "his:/home/bob/copy", "--processes", "2", "--config", str(program.folder / "c.toml")
    )
    assert ended.code == 0, ended.err
    with secure.client() as client:
        assert client.status("/home/bob/copy/hers-19")["owner"] == "bob"


def test_from_a_secure_cluster_to_one_without_security(secure: Secure, hdfs: Hdfs, root: str, program: Program) -> None:
    files = {f"d/{number}": b"alice's" * number for number in range(20)} | {"large": bytes(range(256)) * 40_000}
    with secure.client() as client:
        for path, body in files.items():
            client.put(f"/home/alice/out/{path}", body)
        for path in ("", "/d", *(f"/{path}" for path in files)):
            client.set_owner(f"/home/alice/out{path}", "alice", "users")
    (program.folder / "c.toml").write_text(
        f'[endpoints.from]\ntype = "webhdfs"\nurl = "{secure.url}"\nprincipal = "alice"\n'
        f'keytab = "{secure.keytab("alice")}"\n'
        f'[endpoints.to]\ntype = "webhdfs"\nurl = "{hdfs.url}"\nuser = "{hdfs.user}"\n'
    )
    ended = program.copy("from:/home/alice/out", f"to:{root}", "--config", str(program.folder / "c.toml"))
    assert ended.code == 0, ended.err
    assert ended.result["verified"] == ended.counted()["copied"] == len(files)
    with hdfs.client() as client:
        assert {path: client.read(f"{root}/{path}") for path in files} == files


async def test_realms_do_not_mix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Kdc(tmp_path / "a", "A.TEST") as first, Kdc(tmp_path / "b", "B.TEST") as second:
        for realm in (first, second):
            realm.add("HTTP/localhost", "alice")
        (tmp_path / "krb5.conf").write_text(client_configuration(first, second))
        monkeypatch.setenv("KRB5_CONFIG", str(tmp_path / "krb5.conf"))
        people = [Identity(keytab=str(realm.keytab("alice"))) for realm in (first, second)]
        for _ in range(2):
            greetings = [await person.greeting(Origin("http", "localhost", 9870)) for person in people]
            assert [greeting.principal for greeting in greetings] == ["alice@A.TEST", "alice@B.TEST"]


# --- what goes wrong ----------------------------------------------------------------------------------------------


def test_errors_say_what_to_do(secure: Secure, root: str, program: Program, bucket: str) -> None:
    secure.plant(root, 1)
    mine, cache = secure.realm, program.folder / "c.cache"

    def refused(*words: str, environment: dict[str, str] | None = None, code: int = 3, **keys: object) -> None:
        config = endpoint(secure, program, **keys)
        ended = program.copy(f"dc:{root}", f"s3://{bucket}", *config, **(environment or {}))
        assert ended.code == code, ended.err
        assert [word for word in words if word not in ended.err] == [], ended.err
        assert ended.err.count("\n") <= 3, ended.err

    refused("No Kerberos credentials available", "run kinit")
    refused("holds no key of bob", "klist -kt", principal="bob", keytab=secure.keytab("alice"))
    refused("No such file", "check `keytab`", principal="alice", keytab="/nonexistent/k")
    outdated = mine.keytab("carol")
    mine.change_key("carol")
    refused("Preauthentication failed", "klist -kt", principal="carol", keytab=str(outdated))
    mine.kinit("bob", cache, "-l", "2s")
    time.sleep(2.5)
    refused("expired", "run kinit", ccache=f"FILE:{cache}")
    mine.kinit("bob", cache)
    ours = program.folder / "skewed.cache"
    ours.write_bytes(skewed(cache.read_bytes(), 3600))
    refused("Clock skew", "NTP", ccache=f"FILE:{ours}")
    refused("neither a Hadoop token file", code=2, token_file=__file__)
    refused("delegation token", "not valid", environment={"ASYNCCOPY_DELEGATION_TOKEN": stale(secure, program)})
    secure.realm.server.kill()
    refused("Cannot contact any KDC", "check the KDC", principal="alice", keytab=secure.keytab("alice"))


def skewed(cache: bytes, seconds: int) -> bytes:
    """A credential cache of a machine whose clock differs so much from the KDC's: what libkrb5 notes in its header."""
    assert cache[:2] == b"\x05\x04"
    length = int.from_bytes(cache[2:4], "big")
    header = struct.pack(">HHii", 1, 8, seconds, 0)
    return cache[:2] + len(header).to_bytes(2, "big") + header + cache[4 + length :]


def stale(secure: Secure, program: Program) -> str:
    """A token that was cancelled: what a run has left behind in the NameNode's request log."""
    program.copy(
        "dc:/", "/tmp", "--dry-run", *endpoint(secure, program, principal="alice", keytab=secure.keytab("alice"))
    )
    return min(used(secure.log()))


# --- in the long run ----------------------------------------------------------------------------------------------


def test_a_daemon_has_one_token_and_gives_it_back(
    secure: Secure, root: str, program: Program, versitygw: Store, bucket: str
) -> None:
    for name in ("one", "two"):
        secure.plant(f"{root}/{name}", 5)
    endpoint(secure, program, principal="alice", keytab=secure.keytab("alice"))
    mirrors = (program.folder / "c.toml").read_text() + "".join(
        f'[mirrors.{name}]\nsource = "dc:{root}/{name}"\ndestination = "s3://{bucket}/{name}"\n'
        'interval = "1s"\nsettle = "0s"\n'
        for name in ("one", "two")
    )
    before = secure.log()
    service = Service(program, mirrors)
    service.start()
    for name in ("one", "two"):
        service.until(equal, mirror=name)
    assert issued(secure.log()[len(before) :]) == 1
    ended = service.stop()
    assert ended.code == 0, ended.err
    assert secure.log()[len(before) :].count("Token cancellation requested") == 1
    assert_silent(secure, program, ended, before)


async def test_a_datanode_refuses_a_token_that_has_ended(
    secure: Secure, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked by a redirect that it gave before, and the read comes again with another token."""
    secure.plant(root, 1)
    monkeypatch.setenv("KRB5_CONFIG", str(secure.realm.configuration))
    before = secure.log()
    source = open_source(f"{secure.url}{root}/d00", Settings(cluster=Cluster(keytab=secure.keytab("alice"))))
    async with aclosing(source):
        first = await contents(source, "f00000")
        [token] = used(secure.log()[len(before) :])
        with cancelling(secure) as alice:
            alice.cancel_token(token)
        await asyncio.sleep(AGAIN + 1)
        with pytest.raises(TokenEnded, match="OPEN"):
            await contents(source, "f00000")
        assert await contents(source, "f00000") == first
    assert issued(secure.log()[len(before) :]) == 2


async def contents(source: Source, path: str) -> bytes:
    buffer = bytearray(3_000)
    reader = await source.open(path, ByteRange(0, len(buffer)))
    with closing(reader):
        assert await reader.readinto(memoryview(buffer)) == len(buffer)
    return bytes(buffer)


def cancelling(secure: Secure) -> WebHdfs:
    """Alice, who may cancel her tokens."""
    return WebHdfs(secure.http, "", cookie=secure.realm.cookie("alice", f"{secure.http}/?op=GETHOMEDIRECTORY"))


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_token_that_is_cancelled_under_a_copy_is_replaced(
    secure: Secure, root: str, processes: str, program: Program, versitygw: Store, bucket: str
) -> None:
    """Who meets it first, NameNode or DataNode, is a matter of chance; what was refused comes again."""
    root = f"{root}-{processes}"
    files = secure.plant(root, 200, 32_768)
    before = secure.log()
    config = endpoint(secure, program, principal="alice", keytab=secure.keytab("alice"))
    options = ("-v", "--processes", processes, "--bandwidth", "400KiB/s", *config)
    running = program.start_copy(f"dc:{root}", f"s3://{bucket}", *options)
    eventually(lambda: used(secure.log()[len(before) :]))
    time.sleep(7)  # one that was just issued is not replaced
    [token] = used(secure.log()[len(before) :])
    with cancelling(secure) as alice:
        alice.cancel_token(token)
    ended = running.wait()
    assert_copied(ended, versitygw, bucket, files)
    assert issued(secure.log()[len(before) :]) == 2
    assert "the delegation token was refused" in ended.err
    assert_silent(secure, program, ended, before)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_tokens_and_tickets_end_and_the_kdc_goes_away(
    secure: Secure, root: str, program: Program, versitygw: Store, bucket: str
) -> None:
    """A copy outlives many tokens and tickets, and an outage of the KDC that is longer than both: no file fails."""
    count = 20_000 if LONG >= 300 else 1_500
    outage = 60.0 if LONG >= 300 else 30.0
    started = time.monotonic()
    files = secure.plant(root, count, 4_096)
    print(f"{count} files written in {time.monotonic() - started:.0f} s")
    before, started = secure.log(), time.monotonic()
    rate = f"{count * 4 / (LONG - outage / 3):.0f}KiB/s"
    config = endpoint(secure, program, principal="alice", keytab=secure.keytab("alice"))
    running = program.start_copy(f"dc:{root}", f"s3://{bucket}", "-v", "--processes", "2", "--bandwidth", rate, *config)
    eventually(lambda: not running.runs or time.monotonic() - started > LONG / 3, LONG)
    assert running.runs, running.so_far()
    lines = [
        Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
        for pid in family(running.pid)
    ]
    secure.realm.server.kill()
    time.sleep(outage)
    secure.realm.server.start()
    ended = running.wait(LONG * 3)
    took = time.monotonic() - started
    assert_copied(ended, versitygw, bucket, files)
    log = secure.log()[len(before) :]
    renewals = log.count("Token renewal for identifier: (token for alice:")
    tokens = used(log)
    print(
        f"{count} files in {took:.0f} s, 0 failed; tokens of {RENEW} s, {MOST} s at most: {issued(log)} issued, "
        f"{renewals} renewals, {len(tokens)} used; tickets of {TICKET} s; KDC away for {outage:.0f} s; "
        f"{ended.err.count('retrying')} retries"
    )
    assert issued(log) <= took / (MOST * 0.7) + 3
    assert [line for line in lines for token in tokens if token.encode() in line] == []
    assert len(lines) >= 3, "the workers were looked at too"
    assert ended.err.count("cannot be renewed") == 1
    assert_silent(secure, program, ended, before)


def family(pid: int) -> list[int]:
    """A process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]
