"""The stubs take a sender's word for nothing, what they say of their files is true, and copies between them succeed."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from fastcrc import crc32

from asynccopy.simulators.checksums import block_digest, file_checksum
from testbed import fetch
from testbed.signed import Reply, S3Client
from testbed.stubs import StubSink, StubSource
from tests.bench.measure import BenchFailed
from tests.bench.stubs import BUCKET, KIB, Stubs, stubs
from tests.servers import require

pytestmark = pytest.mark.real

BLOCK = 128 << 20


@pytest.fixture(autouse=True, scope="module")
def _built() -> None:
    require(fetch.STUB)


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[StubSink]:
    server = StubSink(tmp_path)
    server.start()
    yield server
    server.stop()


def encoded(data: bytes) -> str:
    return base64.b64encode(crc32.iscsi(data).to_bytes(4, "big")).decode()


def held(pair: Stubs, key: str) -> tuple[int, str]:
    """Size and CRC-32C of an object."""
    reply = S3Client(pair.sink).request("HEAD", BUCKET, key)
    assert reply.status == 200
    return int(reply.headers["content-length"]), reply.headers["x-amz-checksum-crc32c"]


def read(source: StubSource, path: str, op: str = "OPEN", query: str = "") -> bytes:
    with urllib.request.urlopen(f"{source.http}{path}?op={op}&noredirect=true{query}") as answer:
        there = json.load(answer)["Location"]
    with urllib.request.urlopen(there) as answer:
        assert answer.headers["Connection"] == "close"
        body: bytes = answer.read()
    return body


def refused(reply: Reply, status: int, code: str) -> bool:
    return reply.status == status and f"<Code>{code}</Code>".encode() in reply.body


# A directory of more than a page, several directories, and a file that needs blocks, parts and a composite checksum.
@pytest.mark.parametrize(
    ("directories", "files", "size"), [(1, 2100, 100), (3, 40, 64 * KIB), (1, 1, 2 * BLOCK + 1000), (2, 3, 0)]
)
def test_a_copy_between_stubs_is_verified(directories: int, files: int, size: int) -> None:
    with stubs(directories, files, size) as pair:
        pair.copy("copy")
        pair.arrived("copy", True)
        name = f"d{directories - 1:07}/f{files - 1:07}"
        body = read(pair.source, f"/{name}") if size else b""
        assert len(body) == size
        assert held(pair, f"copy/{name}") == (size, encoded(body))


def test_a_copy_over_tls() -> None:
    with stubs(1, 3, 2_000_000, tls=True) as pair:
        pair.copy("copy")
        assert pair.sink.holds() == (3, 6_000_000)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_the_relay_copies_the_same_bytes(tls: bool) -> None:
    with stubs(1, 2, 70 << 20, tls=tls) as pair:
        pair.relay("copy")
        pair.arrived("copy", True)
        if not tls:
            assert held(pair, "copy/d0000000/f0000001")[1] == encoded(read(pair.source, "/d0000000/f0000001"))


def test_what_did_not_arrive_is_noticed() -> None:
    with stubs(1, 2, 10) as pair, pytest.raises(BenchFailed, match="0 of 2 files arrived"):
        pair.arrived("nothing", True)


@pytest.mark.parametrize("size", [0, 1, 512, 513, BLOCK, BLOCK + 1])
def test_the_source_tells_hdfs_checksum(size: int, tmp_path: Path) -> None:
    source = StubSource(tmp_path, directories=1, files=1, size=size)
    source.start()
    body = read(source, "/d0000000/f0000000") if size else b""
    blocks = [body[at : at + BLOCK] for at in range(0, size, BLOCK)]
    said = json.loads(read(source, "/d0000000/f0000000", "GETFILECHECKSUM"))["FileChecksum"]
    expected = file_checksum([block_digest([block]) for block in blocks], len(blocks[0]) if blocks else 0)
    source.stop()
    assert (said["algorithm"], said["bytes"]) == expected


def test_the_source_serves_any_range_and_no_stranger(tmp_path: Path) -> None:
    source = StubSource(tmp_path, directories=1, files=1, size=3_000_000)
    source.start()
    whole = read(source, "/d0000000/f0000000")
    assert read(source, "/d0000000/f0000000", query="&offset=1048570&length=1500000") == whole[1048570:2548570]
    assert whole[: 1 << 20] != whole[1 << 20 : 2 << 20]
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{source.http}/d0000000/f0000001?op=GETFILESTATUS")
    source.stop()


class Streaming(S3Client):
    def _sign(self, method: str, path: str, query: str, headers: Mapping[str, str], digest: str) -> dict[str, str]:
        return super()._sign(method, path, query, headers, "STREAMING-UNSIGNED-PAYLOAD-TRAILER")


def declared(sink: StubSink, body: bytes, crc: str) -> Reply:
    return S3Client(sink).request("PUT", BUCKET, "key", headers={"x-amz-checksum-crc32c": crc}, body=body)


def trailed(sink: StubSink, body: bytes, crc: str) -> Reply:
    headers = {"x-amz-trailer": "x-amz-checksum-crc32c", "x-amz-decoded-content-length": str(len(body))}
    trailer = f"x-amz-checksum-crc32c:{crc}\r\n" if crc else ""
    framed = f"{len(body):x}\r\n".encode() + body + f"\r\n0\r\n{trailer}\r\n".encode()
    return Streaming(sink).request("PUT", BUCKET, "key", headers=headers, body=framed)


@pytest.mark.parametrize("put", [declared, trailed])
def test_the_sink_believes_no_checksum(put: Callable[[StubSink, bytes, str], Reply], sink: StubSink) -> None:
    body = b"x" * 100_000
    assert refused(put(sink, body, encoded(b"another")), 400, "BadDigest")
    assert sink.holds() == (0, 0)
    assert put(sink, body, encoded(body)).headers["x-amz-checksum-crc32c"] == encoded(body)
    assert sink.holds() == (1, len(body))


def test_the_sink_wants_the_trailer_that_was_promised(sink: StubSink) -> None:
    assert refused(trailed(sink, b"body", ""), 400, "BadDigest")


def test_the_sink_joins_the_parts_itself(sink: StubSink) -> None:
    client, parts = S3Client(sink), [b"a" * 70_000, b"b" * 3]
    declaration = {"x-amz-checksum-algorithm": "CRC32C"}
    begun = client.request("POST", BUCKET, "key", query={"uploads": ""}, headers=declaration)
    upload = begun.body.decode().partition("<UploadId>")[2].partition("<")[0]
    for number, part in enumerate(parts, 1):
        client.request("PUT", BUCKET, "key", query={"partNumber": str(number), "uploadId": upload}, body=part)
    lines = "".join(f"<Part><PartNumber>{number}</PartNumber></Part>" for number in (1, 2))
    body = f"<CompleteMultipartUpload>{lines}</CompleteMultipartUpload>".encode()

    def complete(crc: str, document: bytes = body) -> Reply:
        headers = {"x-amz-checksum-crc32c": crc}
        return client.request("POST", BUCKET, "key", query={"uploadId": upload}, headers=headers, body=document)

    assert refused(complete(encoded(b"another")), 400, "BadDigest")
    assert refused(complete("", body.replace(b"2</PartNumber>", b"3</PartNumber>")), 400, "InvalidPart")
    assert complete(encoded(b"".join(parts))).status == 200
    assert sink.holds() == (1, 70_003)
    assert refused(complete(""), 404, "NoSuchUpload")
