"""``s3://`` against a store that says what the script tells it to: the answers that good stores rarely give."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import aclosing
from email.utils import formatdate
from time import time
from typing import Literal

import pytest
from fastcrc import crc32

from asynccopy.errors import (
    AsyncCopyError,
    ChecksumMismatch,
    CredentialsRefused,
    NotFound,
    NotThere,
    PermissionDenied,
    Refused,
    ServerTrouble,
    Throttled,
    Unreachable,
    UploadGone,
    WrongServer,
)
from asynccopy.model import ByteRange, ObjectMeta, PartReceipt, PartReply
from asynccopy.storage.interface import Capabilities
from asynccopy.storage.s3 import S3Destination, S3Settings
from asynccopy.storage.s3.credentials import CredentialChain
from asynccopy.storage.s3.messages import encode_crc32c
from tests.suites.destination import Body

KEYS = {"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "SECRET", "AWS_SESSION_TOKEN": "TOKEN"}
BODY = b"some bytes"
CRC = crc32.iscsi(BODY)
MD5 = hashlib.md5(BODY).hexdigest()
PARTS = [PartReceipt(1, 0, len(BODY), "e1", CRC)]


class Store:
    """Answers each request with the next of its ``script``, (status, headers, body); keeps what was asked."""

    def __init__(self) -> None:
        self.script: list[tuple[int, dict[str, str], bytes]] = []
        self.asked: list[tuple[str, dict[str, str], bytes]] = []
        self.port = 0

    def say(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.script.append((status, {name.replace("_", "-"): value for name, value in headers.items()}, body))

    def refuse(self, status: int, code: str, **headers: str) -> None:
        self.say(status, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode(), **headers)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode().strip().split("\r\n")
                fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                self.asked.append((first, fields, await reader.readexactly(int(fields.get("content-length", 0)))))
                status, headers, body = self.script.pop(0)
                headers = {"content-length": str(len(body)), "date": formatdate(usegmt=True)} | headers
                text = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
                writer.write(
                    f"HTTP/1.1 {status} X\r\n{text}\r\n".encode() + (b"" if first.startswith("HEAD") else body)
                )
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    store = Store()
    server = await asyncio.start_server(store.serve, "127.0.0.1", 0)
    store.port = server.sockets[0].getsockname()[1]
    yield store
    server.close()


@pytest.fixture
def checksum() -> Literal["CRC32C", "MD5"] | None:
    return "CRC32C"


@pytest.fixture
async def destination(store: Store, checksum: Literal["CRC32C", "MD5"] | None) -> AsyncIterator[S3Destination]:
    settings = S3Settings(endpoint=f"http://127.0.0.1:{store.port}")
    chain = CredentialChain(KEYS)
    opened = S3Destination("s3://lake/p", settings=settings, credentials=chain, capabilities=Capabilities(checksum))
    async with aclosing(opened) as destination:
        yield destination


# --- put ----------------------------------------------------------------------------------------------------------


async def test_a_put_carries_its_crc_and_signs_it(store: Store, destination: S3Destination) -> None:
    store.say(200, etag='"e"', x_amz_checksum_crc32c=encode_crc32c(CRC))
    assert await destination.put("p/a b", BODY, CRC) == ObjectMeta("p/a b", len(BODY), "e", CRC)
    [(line, fields, body)] = store.asked
    assert line == "PUT /lake/p/a%20b HTTP/1.1"
    assert body == BODY
    assert fields["x-amz-checksum-crc32c"] == encode_crc32c(CRC)
    assert fields["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
    signed = fields["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    assert {"host", "x-amz-checksum-crc32c", "x-amz-date", "x-amz-security-token"} <= set(signed)


async def test_a_put_that_the_store_holds_otherwise(store: Store, destination: S3Destination) -> None:
    store.say(200, etag='"e"', x_amz_checksum_crc32c=encode_crc32c(CRC ^ 1))
    with pytest.raises(ChecksumMismatch):
        await destination.put("k", BODY, CRC)


async def test_a_store_that_keeps_silent_about_the_crc(store: Store, destination: S3Destination) -> None:
    store.say(200, etag='"e"')
    assert (await destination.put("k", BODY, CRC)).crc32c is None


@pytest.mark.parametrize("checksum", ["MD5", None])
async def test_without_crc_a_put_carries_its_md5(
    store: Store, destination: S3Destination, checksum: str | None
) -> None:
    store.say(200, etag=f'"{MD5}"')
    await destination.put("k", BODY, CRC)
    assert store.asked[0][1]["content-md5"] == base64.b64encode(hashlib.md5(BODY).digest()).decode()
    store.say(200, etag='"another"')
    if checksum is None:
        assert (await destination.put("k", BODY, CRC)).etag == "another"
    else:
        with pytest.raises(ChecksumMismatch):
            await destination.put("k", BODY, CRC)


# --- parts --------------------------------------------------------------------------------------------------------


async def test_a_part_is_framed_and_trailed_by_its_crc(store: Store, destination: S3Destination) -> None:
    store.say(200, etag='"e"', x_amz_checksum_crc32c=encode_crc32c(CRC))
    assert await destination.upload_part("k", "u/+=", 7, len(BODY), Body(BODY)) == PartReply("e", CRC)
    [(line, fields, body)] = store.asked
    assert line == "PUT /lake/k?partNumber=7&uploadId=u%2F%2B%3D HTTP/1.1"
    assert body == b"a\r\n" + BODY + b"\r\n0\r\nx-amz-checksum-crc32c:" + encode_crc32c(CRC).encode() + b"\r\n\r\n"
    assert fields["x-amz-decoded-content-length"] == "10"
    assert fields["x-amz-trailer"] == "x-amz-checksum-crc32c"
    assert fields["content-encoding"] == "aws-chunked"
    assert fields["x-amz-content-sha256"] == "STREAMING-UNSIGNED-PAYLOAD-TRAILER"


async def test_a_part_that_arrived_otherwise(store: Store, destination: S3Destination) -> None:
    store.say(200, etag='"e"', x_amz_checksum_crc32c=encode_crc32c(CRC ^ 1))
    with pytest.raises(ChecksumMismatch, match="part 1"):
        await destination.upload_part("k", "u", 1, len(BODY), Body(BODY))


@pytest.mark.parametrize("checksum", ["MD5"])
async def test_without_crc_the_etag_of_a_part_is_compared(
    store: Store, destination: S3Destination, checksum: str
) -> None:
    store.say(200, etag=f'"{MD5}"')
    assert await destination.upload_part("k", "u", 1, len(BODY), Body(BODY)) == PartReply(MD5, None)
    assert store.asked[0][2] == BODY
    store.say(200, etag='"another"')
    with pytest.raises(ChecksumMismatch):
        await destination.upload_part("k", "u", 1, len(BODY), Body(BODY))


@pytest.mark.parametrize("code", ["NoSuchUpload", "NoSuchKey"])
async def test_an_upload_that_is_gone(store: Store, destination: S3Destination, code: str) -> None:
    store.refuse(404, code)
    with pytest.raises(UploadGone):
        await destination.upload_part("k", "u", 1, len(BODY), Body(BODY))
    store.refuse(404, code)
    with pytest.raises(UploadGone):
        await destination.complete_upload("k", "u", PARTS, CRC)
    store.refuse(404, code)
    await destination.abort_upload("k", "u")


# --- complete -----------------------------------------------------------------------------------------------------

DONE = "<CompleteMultipartUploadResult><ETag>{}</ETag>{}</CompleteMultipartUploadResult>"


async def test_complete_sends_the_crc_of_the_whole(store: Store, destination: S3Destination) -> None:
    told = f"<ChecksumCRC32C>{encode_crc32c(CRC)}</ChecksumCRC32C><ChecksumType>FULL_OBJECT</ChecksumType>"
    store.say(200, DONE.format('"e-1"', told).encode())
    assert await destination.complete_upload("k", "u", PARTS, CRC) == ObjectMeta("k", len(BODY), "e-1", CRC)
    [(_, fields, body)] = store.asked
    assert fields["x-amz-checksum-crc32c"] == encode_crc32c(CRC)
    assert fields["x-amz-checksum-type"] == "FULL_OBJECT"
    assert f"<ChecksumCRC32C>{encode_crc32c(CRC)}</ChecksumCRC32C>".encode() in body


@pytest.mark.parametrize(("code", "expected"), [("InternalError", ServerTrouble), ("SlowDown", Throttled)])
async def test_an_error_inside_a_success(
    store: Store, destination: S3Destination, code: str, expected: type[AsyncCopyError]
) -> None:
    store.refuse(200, code)
    with pytest.raises(expected):
        await destination.complete_upload("k", "u", PARTS, CRC)


async def test_an_empty_etag_is_settled_by_head(store: Store, destination: S3Destination) -> None:
    store.say(200, DONE.format("", "").encode())
    store.say(200, content_length="10", etag='"real-1"', x_amz_checksum_crc32c=encode_crc32c(CRC))
    assert await destination.complete_upload("k", "u", PARTS, CRC) == ObjectMeta("k", 10, "real-1", CRC)
    assert store.asked[1][0] == "HEAD /lake/k HTTP/1.1"
    assert store.asked[1][1]["x-amz-checksum-mode"] == "ENABLED"


async def test_completed_yet_not_there(store: Store, destination: S3Destination) -> None:
    store.say(200, DONE.format("", "").encode())
    store.say(404)
    with pytest.raises(ServerTrouble):
        await destination.complete_upload("k", "u", PARTS, CRC)


# --- head, open ---------------------------------------------------------------------------------------------------


async def test_a_composite_checksum_is_not_the_objects(store: Store, destination: S3Destination) -> None:
    store.say(
        200,
        content_length="10",
        etag='"e-2"',
        x_amz_checksum_crc32c=f"{encode_crc32c(CRC)}-2",
        x_amz_checksum_type="COMPOSITE",
        last_modified="Thu, 01 Jan 1970 00:00:07 GMT",
    )
    assert await destination.head("k") == ObjectMeta("k", 10, "e-2", None, 7000)


async def test_a_refused_head(store: Store, destination: S3Destination) -> None:
    store.say(403)
    with pytest.raises(PermissionDenied):
        await destination.head("k")


async def test_a_range_that_the_store_ignores(store: Store, destination: S3Destination) -> None:
    store.say(200, b"the whole object")
    with pytest.raises(Refused, match="16 bytes instead of the 4"):
        await destination.open("k", ByteRange(3, 4))
    assert store.asked[0][1]["range"] == "bytes=3-6"
    store.refuse(404, "NoSuchKey")
    with pytest.raises(NotFound):
        await destination.open("k", ByteRange(3, 4))


async def test_an_empty_range_is_not_asked_for(store: Store, destination: S3Destination) -> None:
    reader = await destination.open("k", ByteRange(0, 0))
    assert await reader.readinto(memoryview(bytearray(9))) == 0
    reader.close()
    assert store.asked == []


# --- trouble ------------------------------------------------------------------------------------------------------


async def test_throttled_with_a_wish(store: Store, destination: S3Destination) -> None:
    store.refuse(503, "SlowDown", retry_after="3")
    with pytest.raises(Throttled) as caught:
        await destination.upload_part("k", "u", 1, len(BODY), Body(BODY))
    assert caught.value.delay == 3.0


@pytest.mark.parametrize("ahead", [-3600, 3600])
async def test_a_refusal_for_the_clock_sets_it(store: Store, destination: S3Destination, ahead: int) -> None:
    """To a HEAD the refusal has no body; its date is enough."""
    store.say(403, date=formatdate(time() + ahead, usegmt=True))
    with pytest.raises(ServerTrouble, match="clock"):
        await destination.head("k")
    store.say(403, date=formatdate(time() + ahead, usegmt=True))
    with pytest.raises(PermissionDenied):  # with the right date it means what it says
        await destination.head("k")
    first, second = (fields["x-amz-date"] for _, fields, _ in store.asked)
    assert (second > first) == (ahead > 0)


async def test_no_secret_and_no_query_in_a_message(store: Store, destination: S3Destination) -> None:
    store.refuse(403, "SignatureDoesNotMatch")
    with pytest.raises(CredentialsRefused) as caught:
        await destination.upload_part("k", "the-upload-id", 1, len(BODY), Body(BODY))
    shown = repr(caught.value) + repr(destination._client._credentials)
    for secret in ("SECRET", "TOKEN", "the-upload-id", store.asked[0][1]["authorization"][-64:]):
        assert secret not in shown


# --- check --------------------------------------------------------------------------------------------------------

EMPTY = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
BEGUN = b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, b"<html>welcome</html>", WrongServer),
        (200, b'{"FileStatuses": {}}', WrongServer),
        (404, b"<html>not found</html>", WrongServer),
        (400, b"bad request", WrongServer),
        (302, b"", WrongServer),
        (403, b"<Error><Code>AccessDenied</Code></Error>", CredentialsRefused),
        (404, b"<Error><Code>NoSuchBucket</Code></Error>", NotThere),
        (500, b"", ServerTrouble),
    ],
)
async def test_check_tells_what_answers(
    store: Store, destination: S3Destination, status: int, body: bytes, expected: type[AsyncCopyError]
) -> None:
    store.say(status, body)
    with pytest.raises(expected, match=r"s3://lake"):
        await destination.check()


async def test_nobody_answers() -> None:
    settings = S3Settings(endpoint="http://127.0.0.1:1")
    async with aclosing(
        S3Destination("s3://lake", settings=settings, credentials=CredentialChain(KEYS))
    ) as destination:
        with pytest.raises(Unreachable):
            await destination.check()


NO_UPLOADS = b"<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>"
LEFT_BEHIND = (
    b"<Upload><Key>p/.asynccopy-probe</Key><UploadId>old</UploadId></Upload>"
    b"<Upload><Key>p/.asynccopy-probe-of-another</Key><UploadId>theirs</UploadId></Upload>"
)


async def test_a_store_that_repeats_any_trailer_is_not_believed(store: Store, destination: S3Destination) -> None:
    probe = b"asynccopy asks what this store can do"
    right = encode_crc32c(crc32.iscsi(probe))
    store.say(200, EMPTY)
    store.say(200, NO_UPLOADS)
    store.say(200, BEGUN, x_amz_checksum_algorithm="CRC32C", x_amz_checksum_type="FULL_OBJECT")
    store.say(200, etag='"e"', x_amz_checksum_crc32c=right)
    store.say(200, etag='"e"', x_amz_checksum_crc32c=right)  # the wrong trailer is taken too
    store.say(200, etag=f'"{hashlib.md5(probe).hexdigest()}"')
    store.say(204)
    assert (await destination.check()).checksum == "MD5"
    assert store.asked[-1][0] == "DELETE /lake/p/.asynccopy-probe?uploadId=u HTTP/1.1"


async def test_a_store_that_knows_no_checksums_at_all(store: Store, destination: S3Destination) -> None:
    store.say(200, EMPTY)
    store.refuse(501, "NotImplemented")
    store.say(200, BEGUN)
    store.say(200, etag='"opaque"')
    store.say(204)
    assert (await destination.check()).checksum is None


async def test_a_probe_that_was_killed_is_aborted_by_the_next(store: Store, destination: S3Destination) -> None:
    store.say(200, EMPTY)
    store.say(200, NO_UPLOADS.replace(b"<Is", LEFT_BEHIND + b"<Is"))
    store.say(204)
    store.refuse(501, "NotImplemented")
    store.say(200, BEGUN)
    store.say(200, etag='"opaque"')
    store.say(204)
    assert (await destination.check()).checksum is None
    deleted = [line for line, *_ in store.asked if line.startswith("DELETE")]
    assert deleted == [
        "DELETE /lake/p/.asynccopy-probe?uploadId=old HTTP/1.1",
        "DELETE /lake/p/.asynccopy-probe?uploadId=u HTTP/1.1",
    ]


async def test_a_probe_that_fails_is_aborted_all_the_same(store: Store, destination: S3Destination) -> None:
    store.say(200, EMPTY)
    store.say(200, NO_UPLOADS)
    store.say(200, BEGUN, x_amz_checksum_algorithm="CRC32C", x_amz_checksum_type="FULL_OBJECT")
    store.refuse(500, "InternalError")
    store.say(204)
    with pytest.raises(ServerTrouble):
        await destination.check()
    assert store.asked[-1][0].startswith("DELETE")


async def test_a_store_that_may_only_be_read(store: Store, destination: S3Destination) -> None:
    store.say(200, EMPTY)
    store.refuse(403, "AccessDenied")  # of the unfinished uploads: no news
    store.refuse(403, "AccessDenied")
    with pytest.raises(CredentialsRefused) as caught:
        await destination.check()
    assert "s3:PutObject" in caught.value.hint
