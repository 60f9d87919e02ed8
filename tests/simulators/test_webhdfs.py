"""The simulated HDFS as a bare HTTP client sees it, held against what Hadoop does and a slow checksum of our own."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import socket
from collections.abc import AsyncIterator
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import pytest

from asynccopy.simulators import Generated, TreeNamespace, WebHdfsSimulator
from asynccopy.simulators.faults import (
    Cut,
    Delay,
    ErrorInBody,
    Fault,
    FlipBit,
    LostReply,
    Reset,
    Slow,
    Stall,
    Status,
    WrongRange,
)
from asynccopy.simulators.webhdfs_messages import remote_exception

MIB = 1 << 20


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def fetch_blocking(url: str, method: str = "GET", timeout: float = 10) -> Answer:
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.netloc, timeout=timeout)
    try:
        connection.request(method, url.removeprefix(f"http://{address.netloc}"))
        response = connection.getresponse()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
    finally:
        connection.close()


async def fetch(url: str, method: str = "GET", timeout: float = 10) -> Answer:
    return await asyncio.to_thread(fetch_blocking, url, method, timeout)


def address(hdfs: WebHdfsSimulator, path: str, op: str, **query: object) -> str:
    more = "".join(f"&{name}={quote(str(value), safe='')}" for name, value in query.items())
    return f"{hdfs.url}/webhdfs/v1{quote(path, safe='/')}?op={op}&user.name=me{more}"


async def read(hdfs: WebHdfsSimulator, path: str, **query: object) -> Answer:
    return await fetch((await fetch(address(hdfs, path, "OPEN", **query))).headers["location"])


@pytest.fixture
async def tree() -> TreeNamespace:
    return TreeNamespace(block_size=MIB)


@pytest.fixture
async def hdfs(tree: TreeNamespace) -> AsyncIterator[WebHdfsSimulator]:
    async with WebHdfsSimulator(tree, datanodes=2, page_size=3) as simulator:
        yield simulator


# --- metadata


async def test_status(hdfs: WebHdfsSimulator, tree: TreeNamespace) -> None:
    inode = tree.put("/d/f", b"12345")
    status = (await fetch(address(hdfs, "/d/f", "GETFILESTATUS"))).json()["FileStatus"]
    assert status == status | {
        "length": 5,
        "modificationTime": inode.modification_time,
        "fileId": inode.file_id,
        "type": "FILE",
        "pathSuffix": "",
        "blockSize": MIB,
    }
    directory = (await fetch(address(hdfs, "//d/", "getfilestatus"))).json()["FileStatus"]
    assert (directory["type"], directory["childrenNum"]) == ("DIRECTORY", 1)


async def test_only_lower_case_startafter_pages(hdfs: WebHdfsSimulator, tree: TreeNamespace) -> None:
    names = ["a b", "a+b", "a%2Fb", "é", "b", "c", "日本"]
    for name in names:
        tree.put(f"/d/{name}", b"")
    seen: list[str] = []
    remaining = 1
    while remaining:
        listing = (await fetch(address(hdfs, "/d", "LISTSTATUS_BATCH", startafter=seen[-1] if seen else ""))).json()
        page = listing["DirectoryListing"]["partialListing"]["FileStatuses"]["FileStatus"]
        remaining = listing["DirectoryListing"]["remainingEntries"]
        seen += [entry["pathSuffix"] for entry in page]
        assert 0 < len(page) <= 3
        assert len(seen) + remaining == len(names)
    assert seen[:2] == ["é", "日本"]
    assert sorted(seen) == sorted(names)
    for spelling in ("startAfter", "STARTAFTER"):
        again = (await fetch(address(hdfs, "/d", "LISTSTATUS_BATCH", **{spelling: seen[2]}))).json()
        page = again["DirectoryListing"]["partialListing"]["FileStatuses"]["FileStatus"]
        assert [entry["pathSuffix"] for entry in page] == seen[:3]
    whole = (await fetch(address(hdfs, "/d", "LISTSTATUS"))).json()["FileStatuses"]["FileStatus"]
    assert [entry["pathSuffix"] for entry in whole] == seen


async def test_listing_a_file_gives_one_entry_without_a_name(hdfs: WebHdfsSimulator, tree: TreeNamespace) -> None:
    tree.put("/f", b"1")
    for op in ("LISTSTATUS", "LISTSTATUS_BATCH"):
        body = (await fetch(address(hdfs, "/f", op))).body
        assert body.count(b'"pathSuffix":""') == body.count(b"pathSuffix") == 1


async def test_errors(hdfs: WebHdfsSimulator, tree: TreeNamespace) -> None:
    tree.put("/f", b"123")
    cases = [
        ("/none", "GETFILESTATUS", {}, 404, "FileNotFoundException", "File does not exist: /none"),
        ("/none", "OPEN", {}, 404, "FileNotFoundException", "File /none not found."),
        ("/none", "LISTSTATUS_BATCH", {}, 404, "FileNotFoundException", "File /none does not exist."),
        ("/f", "OPEN", {"offset": 3}, 403, "IOException", "Offset=3 out of the range [0, 3); OPEN, path=/f"),
        ("/f", "OPEN", {"offset": "x"}, 400, "IllegalArgumentException", ""),
        ("/f", "NOSUCHOP", {}, 400, "IllegalArgumentException", ""),
    ]
    for path, op, query, status, name, message in cases:
        answer = await fetch(address(hdfs, path, op, **query))
        error = answer.json()["RemoteException"]
        assert (answer.status, error["exception"]) == (status, name), (path, op)
        assert error["javaClassName"].endswith(f".{name}")
        assert not message or error["message"] == message
    assert (await fetch(f"{hdfs.url}/webhdfs/v1/f")).json()["RemoteException"]["exception"] == (
        "UnsupportedOperationException"
    )
    assert (await fetch(address(hdfs, "/f", "OPEN").replace("?op=", "?OP="))).status == 400
    assert (await fetch(address(hdfs, "/f", "OPEN"), "PUT")).status == 400


async def test_an_old_server_knows_no_batch_listing(tree: TreeNamespace) -> None:
    async with WebHdfsSimulator(tree, batch_listing=False) as old:
        assert (await fetch(address(old, "/", "LISTSTATUS_BATCH"))).status == 400
        assert (await fetch(address(old, "/", "LISTSTATUS"))).status == 200


# --- reading


async def test_open(hdfs: WebHdfsSimulator, tree: TreeNamespace) -> None:
    content = Generated(3 * MIB + 17)
    tree.put("/f", content)
    redirect = await fetch(address(hdfs, "/f", "OPEN", offset=100, length=2 * MIB))
    assert (redirect.status, redirect.headers["content-length"]) == (307, "0")
    assert urlsplit(redirect.headers["location"]).netloc in hdfs.datanode_addresses
    answer = await fetch(redirect.headers["location"])
    assert (answer.status, answer.headers["connection"].lower()) == (200, "close")
    assert answer.headers["content-length"] == str(2 * MIB)
    assert answer.body == content.read(100, 2 * MIB)
    assert (await read(hdfs, "/f")).body == content.read(0, content.length)
    past = await read(hdfs, "/f", offset=3 * MIB, length=999)
    assert past.body == content.read(3 * MIB, 17)
    assert hdfs.counts["OPEN"] == hdfs.counts["OPEN@DataNode"] == 3


async def test_noredirect_and_a_redirect_used_again(hdfs: WebHdfsSimulator, tree: TreeNamespace) -> None:
    tree.put("/f", b"0123456789")
    location = (await fetch(address(hdfs, "/f", "OPEN", noredirect="true", offset=2, length=3))).json()["Location"]
    first = await fetch(location)
    assert (first.body, first.headers["connection"].lower()) == (b"234", "close")
    assert (await fetch(location.replace("offset=2", "offset=7"))).body == b"789"
    assert (await fetch(location.replace("offset=2", "offset=10"))).body == b""
    beyond = await fetch(location.replace("offset=2", "offset=11"))
    assert (beyond.status, beyond.json()["RemoteException"]["exception"]) == (403, "EOFException")
    assert (await fetch(location, "HEAD")).status == 400


async def test_an_empty_file_and_a_directory(hdfs: WebHdfsSimulator, tree: TreeNamespace) -> None:
    tree.put("/d/empty", b"")
    assert (await read(hdfs, "/d/empty")).body == b""
    refused = await read(hdfs, "/d")
    assert refused.status == 404
    message = refused.json()["RemoteException"]["message"]
    assert message.startswith("Path is not a file: /d\n\tat ")


async def test_the_redirect_composes_the_name_and_leads_to_other_bytes(
    hdfs: WebHdfsSimulator, tree: TreeNamespace
) -> None:
    tree.put("/e\u0301", b"decomposed")
    tree.put("/\u00e9", b"composed")
    assert (await read(hdfs, "/e\u0301")).body == b"composed"
    location = (await fetch(address(hdfs, "/e\u0301", "OPEN"))).headers["location"]
    mended = location.replace(quote("\u00e9"), quote("e\u0301"))
    assert (await fetch(mended)).body == b"decomposed"
    plain = (await fetch(address(hdfs, "/\u00e9", "OPEN", noredirect="true"))).json()["Location"]
    assert "/\u00e9?" in plain


async def test_odd_names_round_trip(hdfs: WebHdfsSimulator, tree: TreeNamespace) -> None:
    for name in [
        "a b",
        "%",
        "%41",
        "a+b",
        "#",
        "?",
        ";",
        "a\nb",
        "\r",
        "\t",
        "\\",
        "'\"",
        "[x]",
        "😀",
        " x ",
        "&=",
        "^{|}",
    ]:
        tree.put(f"/{name}", name.encode())
        assert (await read(hdfs, f"/{name}")).body == name.encode()


async def test_excluding_takes_the_transfer_address(hdfs: WebHdfsSimulator, tree: TreeNamespace) -> None:
    tree.put("/f", b"1" * (3 * MIB))
    blocks = (await fetch(address(hdfs, "/f", "GETFILEBLOCKLOCATIONS"))).json()["BlockLocations"]["BlockLocation"]
    assert [(block["offset"], block["length"]) for block in blocks] == [(0, MIB), (MIB, MIB), (2 * MIB, MIB)]
    assert blocks[0]["names"] != blocks[1]["names"], "blocks are spread"
    (holder,) = blocks[1]["names"]
    host = urlsplit((await fetch(address(hdfs, "/f", "OPEN", offset=MIB))).headers["location"]).netloc
    ignored = await fetch(address(hdfs, "/f", "OPEN", offset=MIB, excludedatanodes=host))
    assert urlsplit(ignored.headers["location"]).netloc == host
    refused = await fetch(address(hdfs, "/f", "OPEN", offset=MIB, excludedatanodes=holder))
    assert refused.status == 403
    assert "not excluded" in refused.json()["RemoteException"]["message"]


async def test_a_dead_datanode_is_named_until_it_is_excluded(tree: TreeNamespace) -> None:
    tree.put("/f", b"1")
    async with WebHdfsSimulator(tree, datanodes=3, replication=2) as hdfs:
        dead = urlsplit((await fetch(address(hdfs, "/f", "OPEN"))).headers["location"]).netloc
        await hdfs.stop_datanode(dead)
        location = (await fetch(address(hdfs, "/f", "OPEN"))).headers["location"]
        assert urlsplit(location).netloc == dead
        with pytest.raises(ConnectionRefusedError):
            await fetch(location)
        blocks = (await fetch(address(hdfs, "/f", "GETFILEBLOCKLOCATIONS"))).json()["BlockLocations"]["BlockLocation"]
        assert len(blocks[0]["names"]) == 2
        assert (await read(hdfs, "/f", excludedatanodes=blocks[0]["names"][0])).body == b"1"


async def test_block_locations_tell_of_a_file_being_written(hdfs: WebHdfsSimulator, tree: TreeNamespace) -> None:
    tree.put("/f", b"1")
    tree.append("/f", b"2", close=False)
    tree.append("/f", b"3", close=False)
    located = (await fetch(address(hdfs, "/f", "GET_BLOCK_LOCATIONS"))).json()["LocatedBlocks"]
    assert (located["isUnderConstruction"], located["fileLength"]) == (True, 2)
    node = located["locatedBlocks"][0]["locations"][0]
    assert f"{node['ipAddr']}:{node['infoPort']}" in hdfs.datanode_addresses
    assert node["xferPort"] != node["infoPort"]
    assert node["hostName"]
    assert (await read(hdfs, "/f")).body == b"123"
    assert (await read(hdfs, "/f", length=2)).body == b"12"
    location = (await fetch(address(hdfs, "/f", "GETFILECHECKSUM"))).headers["location"]
    refused = await fetch(location)
    assert refused.status == 403
    assert "is under construction" in refused.json()["RemoteException"]["message"]


# --- checksums


def slow_crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def slow_checksum(data: bytes, blocks: list[int]) -> str:
    """MD5 of the padded MD5s of the CRCs, step by step."""
    digests, at = b"", 0
    for length in blocks:
        crcs = b""
        for start in range(at, at + length, 512):
            crcs += slow_crc32c(data[start : min(start + 512, at + length)]).to_bytes(4, "big")
        digests += hashlib.md5(crcs).digest()
        at += length
    room = 32
    while room < len(digests):
        room *= 2
    return hashlib.md5(digests + bytes(room - len(digests))).hexdigest()


def test_the_slow_crc_is_right() -> None:
    assert slow_crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize(
    "blocks",
    [
        [1],
        [511],
        [512],
        [513],
        [1024],
        [1024, 1],
        [1024] * 3,
        [1024, 1024, 1024, 700],
        [1024] * 5,
        [1024, 450, 1024, 450],
        [1024] * 9,
    ],
)
async def test_file_checksum(hdfs: WebHdfsSimulator, tree: TreeNamespace, blocks: list[int]) -> None:
    data = Generated(sum(blocks), seed=len(blocks)).read(0, sum(blocks))
    uneven = tuple(blocks) if 450 in blocks else None
    tree.put("/f", data, block_size=1024, block_lengths=uneven)
    location = (await fetch(address(hdfs, "/f", "GETFILECHECKSUM", noredirect="true"))).json()["Location"]
    answer = await fetch(location)
    checksum = answer.json()["FileChecksum"]
    per_block = 0 if len(blocks) == 1 else 2
    assert checksum["algorithm"] == f"MD5-of-{per_block}MD5-of-512CRC32C"
    assert (checksum["length"], len(checksum["bytes"])) == (28, 64)
    raw = bytes.fromhex(checksum["bytes"])[:28]
    assert raw[:12] == (512).to_bytes(4, "big") + per_block.to_bytes(8, "big")
    assert raw[12:].hex() == slow_checksum(data, blocks)
    assert answer.headers["connection"].lower() == "close"


async def test_the_checksum_of_an_empty_file(hdfs: WebHdfsSimulator, tree: TreeNamespace) -> None:
    tree.put("/f", b"")
    location = (await fetch(address(hdfs, "/f", "GETFILECHECKSUM"))).headers["location"]
    checksum = (await fetch(location)).json()["FileChecksum"]
    assert checksum["algorithm"] == "MD5-of-0MD5-of-0CRC32"
    assert checksum["bytes"] == "0" * 24 + "70bc8f4b72a86921468bf8e8441dce51" + "0" * 8


async def test_a_large_file_has_one_checksum_in_any_piece_size(hdfs: WebHdfsSimulator, tree: TreeNamespace) -> None:
    data = Generated(262_144 + 7_001).read(0, MIB)
    tree.put("/f", data, block_size=1 << 17)
    location = (await fetch(address(hdfs, "/f", "GETFILECHECKSUM"))).headers["location"]
    checksum = (await fetch(location)).json()["FileChecksum"]
    assert checksum["bytes"][24:56] == await asyncio.to_thread(slow_checksum, data, [1 << 17, 1 << 17, 7_001])


# --- faults


async def test_status_fault_waits_its_turn(hdfs: WebHdfsSimulator, tree: TreeNamespace) -> None:
    tree.put("/f", b"1")
    tree.put("/other", b"1")
    standby = remote_exception("org.apache.hadoop.ipc.StandbyException", "Operation category READ is not supported")
    fault = Fault(Status(403, standby), op="GETFILESTATUS", path="/f", after=1, times=2)
    hdfs.faults.append(fault)
    assert (await fetch(address(hdfs, "/other", "GETFILESTATUS"))).status == 200
    assert (await fetch(address(hdfs, "/f", "LISTSTATUS"))).status == 200
    statuses = [(await fetch(address(hdfs, "/f", "GETFILESTATUS"))).status for _ in range(4)]
    assert statuses == [200, 403, 403, 200]
    assert fault.hits == 2


@pytest.mark.parametrize("op", ["OPEN", "GETFILESTATUS"])
async def test_reset(hdfs: WebHdfsSimulator, tree: TreeNamespace, op: str) -> None:
    tree.put("/f", b"1")
    fault = Fault(Reset(), op=op)
    hdfs.faults.append(fault)
    with pytest.raises(ConnectionResetError):
        await fetch(address(hdfs, "/f", op))
    assert fault.hits == 1
    assert (await fetch(address(hdfs, "/f", op))).status in (200, 307)


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("after", [0, 1, 300_000, 999_999])
async def test_cut(hdfs: WebHdfsSimulator, tree: TreeNamespace, after: int, *, reset: bool) -> None:
    content = Generated(1_000_000)
    tree.put("/f", content)
    fault = Fault(Cut(after, reset=reset), op="OPEN@DataNode")
    hdfs.faults.append(fault)
    location = (await fetch(address(hdfs, "/f", "OPEN"))).headers["location"]
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)) as caught:
        await fetch(location)
    if not reset:
        assert isinstance(caught.value, http.client.IncompleteRead), "a clean end"
        assert caught.value.partial == content.read(0, after)
    assert fault.hits == 1
    assert (await fetch(location)).body == content.read(0, content.length)


async def test_flip_one_bit(hdfs: WebHdfsSimulator, tree: TreeNamespace) -> None:
    content = Generated(600_000)
    tree.put("/f", content)
    fault = Fault(FlipBit(offset=500_000, bit=3), op="OPEN@DataNode")
    hdfs.faults.append(fault)
    expected = bytearray(content.read(0, content.length))
    expected[500_000] ^= 8
    assert (await read(hdfs, "/f")).body == expected
    assert fault.hits == 1


async def test_error_inside_the_body(hdfs: WebHdfsSimulator, tree: TreeNamespace) -> None:
    content = Generated(600_000)
    tree.put("/f", content)
    fault = Fault(ErrorInBody(after=262_100), op="OPEN@DataNode")
    hdfs.faults.append(fault)
    answer = await read(hdfs, "/f")
    message = ErrorInBody(0).body
    assert (answer.status, len(answer.body)) == (200, 600_000)
    assert answer.body[:262_100] == content.read(0, 262_100)
    assert answer.body[262_100 : 262_100 + len(message)] == message
    assert fault.hits == 1


async def test_wrong_range(hdfs: WebHdfsSimulator, tree: TreeNamespace) -> None:
    tree.put("/f", b"0123456789")
    hdfs.faults += [Fault(WrongRange(shift=2), op="OPEN@DataNode"), Fault(WrongRange(whole=True), op="OPEN@DataNode")]
    location = (await fetch(address(hdfs, "/f", "OPEN", offset=3, length=4))).headers["location"]
    assert [(await fetch(location)).body for _ in range(3)] == [b"5678", b"0123456789", b"3456"]
    assert [fault.hits for fault in hdfs.faults] == [1, 1]


@pytest.mark.parametrize("after", [0, 300_000])
async def test_stall(hdfs: WebHdfsSimulator, tree: TreeNamespace, after: int) -> None:
    tree.put("/f", Generated(600_000))
    fault = Fault(Stall(30, after=after), op="OPEN@DataNode")
    hdfs.faults.append(fault)
    location = (await fetch(address(hdfs, "/f", "OPEN"))).headers["location"]
    received = bytearray()

    def receive() -> None:
        host, _, port = urlsplit(location).netloc.partition(":")
        with socket.create_connection((host, int(port)), timeout=0.5) as peer:
            peer.sendall(f"GET {location.partition(f':{port}')[2]} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            while data := peer.recv(1 << 16):
                received.extend(data)

    with pytest.raises(TimeoutError):
        await asyncio.to_thread(receive)
    assert len(bytes(received).partition(b"\r\n\r\n")[2]) == after
    assert bool(received) == bool(after)
    assert fault.hits == 1


async def test_slow_and_delay(hdfs: WebHdfsSimulator, tree: TreeNamespace) -> None:
    tree.put("/f", Generated(10_000))
    hdfs.faults += [Fault(Delay(0.3), op="GETFILESTATUS"), Fault(Slow(20_000), op="OPEN@DataNode")]
    clock = asyncio.get_running_loop().time
    begun = clock()
    assert (await fetch(address(hdfs, "/f", "GETFILESTATUS"))).status == 200
    assert clock() - begun >= 0.3
    begun = clock()
    assert len((await read(hdfs, "/f")).body) == 10_000
    assert 0.45 <= clock() - begun < 5
    assert [fault.hits for fault in hdfs.faults] == [1, 1]


async def test_lost_reply(hdfs: WebHdfsSimulator, tree: TreeNamespace) -> None:
    tree.put("/f", b"1")
    fault = Fault(LostReply(), times=None)
    hdfs.faults.append(fault)
    for _ in range(2):
        with pytest.raises(ConnectionResetError):
            await fetch(address(hdfs, "/f", "OPEN"))
    assert fault.hits == 2
