"""A NameNode whose redirects are hostile: nothing is sent to where they lead, no token is told, and good ones work."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, suppress
from typing import Any, Self

import pytest

from asynccopy.errors import AsyncCopyError, ServerTrouble, Unreachable, WrongServer
from asynccopy.logs import redact
from asynccopy.model import ByteRange
from asynccopy.simulators.faults import Fault, Status
from asynccopy.simulators.namespace import TreeNamespace
from asynccopy.simulators.server import Reply
from asynccopy.simulators.webhdfs import WebHdfsSimulator, _DataNode
from asynccopy.simulators.webhdfs_messages import Query, remote_exception
from asynccopy.storage.http import Headers, Response
from asynccopy.storage.pool import Origin, Pool
from asynccopy.storage.webhdfs.client import WebHdfsClient
from asynccopy.storage.webhdfs.nameservice import Nameservice, servers
from asynccopy.storage.webhdfs.redirects import Permitted

BODY = b"what the file holds"
TOKEN = "canary-delegation-token"
PASSWORD = "canary-password"
NAMES = {
    "metadata.evil.example": "169.254.169.254",
    "alibaba.evil.example": "100.100.100.200",
    "mapped.evil.example": "::ffff:169.254.169.254",
    "nat64.evil.example": "64:ff9b::a9fe:a9fe",
    "foreign.example": "127.0.0.1",
    "dn.good.example": "127.0.0.1",
    "dn.lying.good.example": "169.254.169.254",
}


class Canary:
    """Who we are: a token that belongs in queries to the cluster, a password that belongs in the NameNode's headers."""

    async def query(self, at: Origin | None = None) -> str:
        return f"&delegation={TOKEN}"

    async def headers(self, origin: Origin) -> Headers:
        return (("Authorization", f"Basic {PASSWORD}"),)

    def refused(self, who: str, response: Response) -> bool:
        return False

    async def ticket(self, host: str) -> str:
        return ""

    async def aclose(self) -> None:
        return


class Hostile(WebHdfsSimulator):
    """Its redirects go where ``location`` says: in a header, in a body, or in both."""

    location: str | None = None
    form = "body"

    def _location(self, path: str, query: Query, node: _DataNode, names: Collection[str]) -> Reply:
        good = super()._location(path, query, node, names)
        if self.location is None:
            return good
        if self.form == "header":
            return Reply(307, headers={"Location": self.location})
        body = json.dumps({"Location": self.location}).encode()
        headers = {"Content-Type": "application/json"}
        if self.form == "good body":
            return Reply(307, good.body, headers | {"Location": self.location})
        return Reply(200, body, headers)


class Trap:
    """Listens where nobody may connect to, and counts."""

    def __init__(self) -> None:
        self.connections = 0
        self.received = b""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._caught, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def _caught(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(TimeoutError):
            self.received += await asyncio.wait_for(reader.read(65536), 1)
        writer.close()

    async def __aexit__(self, *_: object) -> None:
        self._server.close()


class World:
    def __init__(self, hdfs: Hostile, trap: Trap) -> None:
        self.hdfs, self.trap = hdfs, trap
        self.connected: set[tuple[str, int]] = set()
        self.clients: list[WebHdfsClient] = []

    def client(self, *redirects: str, namenode: str | None = None) -> WebHdfsClient:
        nameservice = Nameservice(servers([namenode or self.hdfs.url]))
        self.clients.append(WebHdfsClient(nameservice, Canary(), connections=4, redirects=redirects))
        return self.clients[-1]

    @property
    def good(self) -> set[tuple[str, int]]:
        addresses = (self.hdfs.url.removeprefix("http://"), *self.hdfs.datanode_addresses)
        return {(host, int(port)) for host, _, port in (address.partition(":") for address in addresses)}


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    tree = TreeNamespace()
    tree.put("/file", BODY)
    tree.put("/empty", b"")
    async with Hostile(tree, datanodes=2, replication=2) as hdfs, Trap() as trap, AsyncExitStack() as stack:
        world = World(hdfs, trap)
        loop = asyncio.get_running_loop()
        look_up, connect = loop.getaddrinfo, Pool._open

        async def resolved(host: str, port: int, **more: Any) -> Any:
            address = NAMES.get(host)
            if address is None:
                return await look_up(host, port, **more)
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            return [(family, socket.SOCK_STREAM, 6, "", (address, port))]

        async def watched(pool: Pool, address: str, origin: Origin, *more: Any) -> Any:
            world.connected.add((address, origin.port))
            return await connect(pool, address, origin, *more)

        monkeypatch.setattr(loop, "getaddrinfo", resolved)
        monkeypatch.setattr(Pool, "_open", watched)
        yield world
        for client in world.clients:
            stack.push_async_callback(client.aclose)


async def read(client: WebHdfsClient) -> bytes:
    reader = await client.read("/file", ByteRange(0, len(BODY)))
    body = bytearray(len(BODY))
    await reader.readinto(memoryview(body))
    reader.close()
    return bytes(body)


async def do(client: WebHdfsClient, op: str) -> None:
    if op == "OPEN":
        assert await read(client) == BODY
    elif op == "GETFILECHECKSUM":
        await client.checksum("/file")
    else:
        await client.create("/new", "&overwrite=true", 3, b"new")


QUERY = f"op=OPEN&delegation={TOKEN}&namenoderpcaddress=nn:8020"
ATTACKS = {
    "foreign host": "http://foreign.example:{trap}/webhdfs/v1/file?{query}",
    "foreign port of a DataNode's host": "http://127.0.0.1:{trap}/webhdfs/v1/file?{query}",
    "the same by another name of it": "http://localhost:{trap}/webhdfs/v1/file?{query}",
    "port 22": "http://127.0.0.1:22/x?{query}",
    "no port": "http://127.0.0.1/x?{query}",
    "metadata": "http://169.254.169.254/latest/meta-data?{query}",
    "metadata, decimal": "http://2852039166/x?{query}",
    "metadata, hex": "http://0xa9fea9fe/x?{query}",
    "metadata, dotted hex": "http://0xa9.0xfe.0xa9.0xfe/x?{query}",
    "metadata, octal": "http://0251.0376.0251.0376/x?{query}",
    "metadata, two numbers": "http://169.16689662/x?{query}",
    "metadata, final dot": "http://169.254.169.254./x?{query}",
    "metadata, mapped": "http://[::ffff:169.254.169.254]/x?{query}",
    "metadata, mapped hex": "http://[::ffff:a9fe:a9fe]/x?{query}",
    "metadata, compatible": "http://[::a9fe:a9fe]/x?{query}",
    "metadata, 6to4": "http://[2002:a9fe:a9fe::1]/x?{query}",
    "metadata, NAT64": "http://[64:ff9b::a9fe:a9fe]/x?{query}",
    "metadata, Alibaba": "http://100.100.100.200/latest/meta-data?{query}",
    "metadata, Azure": "http://168.63.129.16/x?{query}",
    "metadata, IPv6": "http://[fd00:ec2::254]/x?{query}",
    "link-local": "http://[fe80::1]:9864/x?{query}",
    "a name of metadata's": "http://metadata.evil.example:9864/x?{query}",
    "a name of Alibaba's": "http://alibaba.evil.example:9864/x?{query}",
    "a name, mapped": "http://mapped.evil.example:9864/x?{query}",
    "a name, NAT64": "http://nat64.evil.example:9864/x?{query}",
    "loopback, decimal": "http://2130706433:{trap}/x?{query}",
    "unspecified": "http://0.0.0.0:{trap}/x?{query}",
    "IPv6 loopback": "http://[::1]:{trap}/x?{query}",
    "file": "file:///etc/passwd?{query}",
    "gopher": "gopher://127.0.0.1:{trap}/x?{query}",
    "no scheme": "//127.0.0.1:{trap}/x?{query}",
    "a path alone": "/webhdfs/v1/file?{query}",
    "empty": "",
    "user and password": "http://user:canary-password@127.0.0.1:{trap}/x?{query}",
    "a DataNode as user": "http://{datanode}@127.0.0.1:{trap}/x?{query}",
    "a backslash": "http://{datanode}\\@127.0.0.1:{trap}/x?{query}",
    "a fragment": "http://127.0.0.1:{trap}#@{datanode}/x?{query}",
    "very long": "http://" + "a" * 20_000 + ":{trap}/x?{query}",
    "a long name": "http://" + "a." * 130 + "example:9864/x?{query}",
    "unicode": "http://d\u00e9.example:{trap}/x?{query}",
    "full-width": "http://\uff11\uff12\uff17.0.0.1:{trap}/x?{query}",
    "a full-width dot": "http://127\u30020.0.1:{trap}/x?{query}",
    "port beyond": "http://127.0.0.1:65536/x?{query}",
    "port 0": "http://127.0.0.1:0/x?{query}",
    "no host": "http:///x?{query}",
}
IN_A_BODY_ONLY = {
    "CR LF in the query": "http://{datanode}/x?{query}\r\nHost: evil\r\n\r\nGET /",
    "CR LF in the host": "http://{datanode}\r\nX: y/x?{query}",
    "NUL in the query": "http://{datanode}/x?{query}\x00",
    "NUL in the host": "http://127.0.0.1\x00.example:{trap}/x?{query}",
    "a space": "http://{datanode}/x?{query} HTTP/1.0",
}


@pytest.mark.parametrize("form", ["header", "body", "good body"])
async def test_no_attack_reaches_anybody(world: World, form: str) -> None:
    attacks = ATTACKS if form != "body" else ATTACKS | IN_A_BODY_ONLY
    tried = 0
    for name, location in attacks.items():
        world.hdfs.form = form
        world.hdfs.location = location.format(
            trap=world.trap.port, datanode=world.hdfs.datanode_addresses[0], query=QUERY
        )
        if form != "body" and not world.hdfs.location.isascii():
            continue  # no header holds it
        for op in ("OPEN", "GETFILECHECKSUM", "CREATE"):
            with pytest.raises(AsyncCopyError) as caught:
                await do(world.client(), op)
            told = f"{caught.value} {caught.value.hint} {caught.value.__cause__}"
            assert isinstance(caught.value, WrongServer | Unreachable | ServerTrouble), (name, op, told)
            assert TOKEN not in told, (name, op)
            assert PASSWORD not in told, (name, op)
            assert told.isprintable(), (name, op)
            assert len(told) < 900, (name, op)
            tried += 1
    assert world.connected <= world.good
    assert (world.trap.connections, world.trap.received) == (0, b"")
    assert not any(world.hdfs.counts[f"{op}@DataNode"] for op in ("OPEN", "GETFILECHECKSUM", "CREATE"))
    world.hdfs.location = None
    for op in ("OPEN", "GETFILECHECKSUM", "CREATE"):
        await do(world.client(), op)
    print(f"{tried} hostile redirects in a {form}: {world.trap.connections} connections, 0 bytes, 0 tokens elsewhere")


async def test_a_200_is_read_from_its_body(world: World) -> None:
    """A Location header means something only beside a 3xx."""
    good = await world.client()._redirect("OPEN", "/file", "", 0, "asked")
    body = json.dumps({"Location": f"{good.origin}/webhdfs/v1/file?{good.query}"}).encode()
    headers = {"Content-Type": "application/json", "Location": f"http://127.0.0.1:{world.trap.port}/x?{QUERY}"}
    world.hdfs.faults.append(Fault(Status(200, body, headers), op="OPEN"))
    assert await read(world.client()) == BODY
    assert world.trap.connections == 0


async def test_no_way_back_from_tls(world: World) -> None:
    permitted = Permitted([Origin("https", "nn", 9871)], ["dn.good.example:9864"])
    assert permitted.leads(Origin("https", "dn.good.example", 9864))
    world.hdfs.location = f"ftp://{world.hdfs.datanode_addresses[0]}/x?{QUERY}"
    with pytest.raises(WrongServer, match="refused"):
        await read(world.client())


@pytest.mark.parametrize("op", ["OPEN", "GETFILECHECKSUM", "CREATE"])
async def test_a_datanode_that_redirects_once_more_is_not_followed(world: World, op: str) -> None:
    for target in (f"http://127.0.0.1:{world.trap.port}/x?{QUERY}", f"{world.hdfs.url}/webhdfs/v1/file?{QUERY}"):
        world.hdfs.faults[:] = [Fault(Status(307, b"", {"Location": target}), op=f"{op}@DataNode")]
        with pytest.raises(ServerTrouble, match="once more") as caught:
            await do(world.client(), op)
        assert TOKEN not in str(caught.value)
    assert world.trap.connections == 0


async def test_a_loop_ends_at_once(world: World) -> None:
    world.hdfs.location = f"{world.hdfs.url}/webhdfs/v1/file?{QUERY}"
    world.hdfs.form = "header"
    with pytest.raises(ServerTrouble, match="once more"):
        await read(world.client())
    assert world.hdfs.counts["OPEN"] == 2


async def test_credentials_for_the_namenode_stay_there(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    heads: dict[str, list[str]] = {"OPEN@DataNode": [], "GETFILECHECKSUM@DataNode": [], "CREATE@DataNode": []}
    serve = WebHdfsSimulator._serve_datanode

    async def seen(simulator: WebHdfsSimulator, request: Any) -> Any:
        op = re.search(r"op=(\w+)", request.raw_path)
        assert op is not None
        heads[f"{op[1]}@DataNode"].append(repr(request.raw_headers))
        return await serve(simulator, request)

    for node in world.hdfs._datanodes:
        monkeypatch.setattr(node.server, "_handler", seen.__get__(world.hdfs))
        node.server._web.request_handler = seen.__get__(world.hdfs)  # type: ignore[union-attr]
    for op in ("OPEN", "GETFILECHECKSUM", "CREATE"):
        await do(world.client(), op)
    assert all(heads.values())
    assert PASSWORD not in str(heads)


async def test_a_datanode_is_learnt_once(world: World) -> None:
    client = world.client()
    for _ in range(40):
        await read(client)
        await client.checksum("/file")
    await client.checksum("/empty")
    assert world.hdfs.counts["GET_BLOCK_LOCATIONS"] == 1
    assert world.hdfs.counts["jmx"] == 0
    for _ in range(4):
        await do(client, "CREATE")
    assert world.hdfs.counts["jmx"] == 0, "both DataNodes are known by their blocks"
    fresh = world.client()
    for _ in range(4):
        await do(fresh, "CREATE")
        await fresh.checksum("/empty")
    assert world.hdfs.counts["jmx"] == 1


async def test_who_is_refused_is_told_what_to_add_and_then_works(world: World) -> None:
    """DataNodes behind names that the NameNode does not know."""
    port = world.hdfs.datanode_addresses[0].partition(":")[2]
    world.hdfs.location = f"http://dn.good.example:{port}/webhdfs/v1/file?{QUERY}"
    with pytest.raises(WrongServer, match=f"dn.good.example:{port}, where the NameNode has reported no") as caught:
        await read(world.client())
    entry = f"dn.good.example:{port}"
    assert f'redirects = ["{entry}"]' in caught.value.hint
    # The port is one of those that the NameNode reports, so it need not be said.
    for allowed in (entry, "*.good.example", "DN.good.example.", "127.0.0.0/8", "127.0.0.1", f"127.0.0.1:{port}"):
        assert await read(world.client(allowed)) == BODY, allowed
    for other in ("good.example", "*.dn.good.example", "dn.good.example:9864", "10.0.0.0/8", f"127.0.0.2:{port}"):
        with pytest.raises(WrongServer):
            await read(world.client(other))


async def test_no_entry_makes_a_metadata_address_good(world: World) -> None:
    for name in ("dn.lying.good.example", "169.254.169.254"):
        world.hdfs.location = f"http://{name}:9864/webhdfs/v1/file?{QUERY}"
        for allowed in ("*.good.example", "169.254.0.0/16", "0.0.0.0/0", "dn.lying.good.example:9864"):
            with pytest.raises(WrongServer, match="refused"):
                await read(world.client(allowed))
    assert world.connected <= world.good


async def test_a_name_is_looked_at_again_when_its_address_changes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = world.hdfs.datanode_addresses[0].partition(":")[2]
    world.hdfs.location = f"http://dn.good.example:{port}/webhdfs/v1/file?{QUERY}"
    client = world.client("127.0.0.0/8")
    assert await read(client) == BODY
    client._data.pool._addresses.clear()  # what 30 s do
    monkeypatch.setitem(NAMES, "dn.good.example", "169.254.169.254")
    with pytest.raises(WrongServer, match=r"169\.254\.169\.254"):
        await read(client)
    assert world.connected <= world.good


def test_this_machine_is_no_datanode_of_a_cluster_elsewhere() -> None:
    from asynccopy.storage.webhdfs.messages import DataNode

    reported = DataNode("127.0.0.1", "localhost", 9864, 9866)
    here, there = (Permitted([Origin("http", host, 9870)]) for host in ("localhost", "nn.example"))
    for permitted in (here, there):
        permitted.report([reported])
    here.connects(Origin("http", "localhost", 9864), "127.0.0.1")
    with pytest.raises(WrongServer, match="refused"):
        there.connects(Origin("http", "localhost", 9864), "127.0.0.1")
    Permitted([Origin("http", "nn.example", 9870)], ["127.0.0.0/8"]).connects(
        Origin("http", "localhost", 9864), "127.0.0.1"
    )


async def test_a_server_that_reports_nothing_is_trusted_with_itself_alone(world: World) -> None:
    del world.hdfs._ops["GET_BLOCK_LOCATIONS"]
    world.hdfs.location = f"http://{world.hdfs.datanode_addresses[0]}/webhdfs/v1/file?{QUERY}"
    assert await read(world.client()) == BODY, "all DataNodes are told by the NameNode's JMX"
    world.hdfs.lives = False
    with pytest.raises(WrongServer, match="reported no DataNode"):
        await read(world.client())


async def test_an_empty_file_needs_no_stranger(world: World) -> None:
    """It has no blocks to tell of a DataNode; where /jmx is locked, it is proven by its version alone."""
    world.hdfs.lives = False
    world.hdfs.location = f"http://foreign.example:{world.trap.port}/x?{QUERY}"
    assert await world.client().checksum("/empty") is None
    with pytest.raises(WrongServer):
        await world.client().checksum("/file")
    with pytest.raises(WrongServer):
        await do(world.client(), "CREATE")
    assert world.trap.connections == 0
    world.hdfs.location = None
    client = world.client()
    await read(client)
    assert await client.checksum("/empty") is not None, "its DataNode is known by another file's blocks"


def test_what_a_server_says_is_redacted() -> None:
    from asynccopy.storage.webhdfs.messages import failure

    text = f"no such host: http://dn1:9864/webhdfs/v1/x?op=OPEN&delegation={TOKEN}&offset=0"
    body = remote_exception("java.io.IOException", text)
    assert TOKEN not in str(failure(Response(403, {}, body), "nn OPEN /x"))
    assert TOKEN not in redact(text)
