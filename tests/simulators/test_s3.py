"""The simulated S3 against botocore, which signs and parses independently; raw sockets do what botocore cannot."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import hashlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiobotocore.session
import aiohttp
import pytest
from aiobotocore.config import AioConfig
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError, ResponseStreamingError
from fastcrc import crc32

from asynccopy.simulators import Fault, S3Simulator
from asynccopy.simulators.faults import (
    Cut,
    Delay,
    ErrorInOk,
    FlipBit,
    LostReply,
    NoSuchUpload,
    OtherETag,
    Reset,
    Slow,
    Stall,
    Status,
    WrongRange,
)
from asynccopy.simulators.s3_xml import error as error_document

KEY = "dir/key"
ODD_KEYS = [
    "a b",
    "%",
    "%41",
    "a+b",
    "#",
    "?x=1",
    ":;&=",
    "\\",
    "'\"",
    "<>",
    "a\nb",
    "a\tb",
    "\x01",
    "\r",
    "😀",
    "\u00e9",
    "e\u0301",
    " x ",
    ".",
    "a/../b",
    "a//b",
    "a/",
    "~*!()",
    "k" * 1024,
]


def crc32c(data: bytes) -> str:
    return base64.b64encode(crc32.iscsi(data).to_bytes(4, "big")).decode()


def connect(s3: S3Simulator, **settings: Any) -> Any:
    config = AioConfig(
        s3={"addressing_style": "path"},
        retries={"total_max_attempts": 1},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        read_timeout=settings.pop("read_timeout", 10),
        **settings.pop("config", {}),
    )
    credentials = {"aws_access_key_id": s3.access_key, "aws_secret_access_key": s3.secret_key}
    return aiobotocore.session.get_session().create_client(
        "s3", **{"region_name": s3.region, "endpoint_url": s3.url, "config": config, **credentials, **settings}
    )


@pytest.fixture
async def s3() -> AsyncIterator[S3Simulator]:
    async with S3Simulator(["bucket"], min_part=1000) as simulator:
        yield simulator


@pytest.fixture
async def client(s3: S3Simulator) -> AsyncIterator[Any]:
    async with connect(s3) as client:
        yield client


def code(caught: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    return caught.value.response["ResponseMetadata"]["HTTPStatusCode"], caught.value.response["Error"]["Code"]


async def multipart(client: Any, parts: list[bytes], key: str = KEY, **complete: Any) -> dict[str, Any]:
    """Create, upload and complete, with CRC32C of the full object."""
    upload_id = await begin(client, key)
    listed = [await send(client, upload_id, number, part, key) for number, part in enumerate(parts, 1)]
    return await client.complete_multipart_upload(
        Bucket="bucket", Key=key, UploadId=upload_id, MultipartUpload={"Parts": listed}, **complete
    )


async def begin(client: Any, key: str = KEY, **settings: str) -> str:
    settings = settings or {"ChecksumAlgorithm": "CRC32C", "ChecksumType": "FULL_OBJECT"}
    return (await client.create_multipart_upload(Bucket="bucket", Key=key, **settings))["UploadId"]


async def send(client: Any, upload_id: str, number: int, part: bytes, key: str = KEY, **more: Any) -> dict[str, Any]:
    reply = await client.upload_part(Bucket="bucket", Key=key, UploadId=upload_id, PartNumber=number, Body=part, **more)
    return {"PartNumber": number, "ETag": reply["ETag"]}


async def fetch(client: Any, key: str = KEY, **settings: Any) -> bytes:
    reply = await client.get_object(Bucket="bucket", Key=key, **settings)
    async with reply["Body"] as body:
        return await body.read()


# --- objects


async def test_put_get_head_delete(client: Any, s3: S3Simulator) -> None:
    data = bytes(range(256)) * 2000
    put = await client.put_object(Bucket="bucket", Key=KEY, Body=data)
    assert put["ETag"] == f'"{hashlib.md5(data).hexdigest()}"'
    head = await client.head_object(Bucket="bucket", Key=KEY)
    assert (head["ContentLength"], head["ETag"]) == (len(data), put["ETag"])
    assert abs(head["LastModified"].timestamp() - dt.datetime.now(dt.UTC).timestamp()) < 60
    assert await fetch(client) == data
    for spec, expected in (("10-19", data[10:20]), ("511990-", data[511990:]), ("-5", data[-5:]), ("0-9999999", data)):
        assert await fetch(client, Range=f"bytes={spec}") == expected
    with pytest.raises(ClientError) as caught:
        await fetch(client, Range=f"bytes={len(data)}-")
    assert code(caught) == (416, "InvalidRange")
    await client.delete_object(Bucket="bucket", Key=KEY)
    await client.delete_object(Bucket="bucket", Key=KEY)
    with pytest.raises(ClientError) as caught:
        await client.head_object(Bucket="bucket", Key=KEY)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404
    with pytest.raises(ClientError) as caught:
        await fetch(client)
    assert code(caught) == (404, "NoSuchKey")
    assert s3.counts["PutObject"] == 1
    assert s3.counts["DeleteObject"] == 2


async def test_an_empty_object(client: Any) -> None:
    await client.put_object(Bucket="bucket", Key=KEY, Body=b"", ChecksumCRC32C=crc32c(b""))
    assert await fetch(client) == b""
    assert (await client.head_object(Bucket="bucket", Key=KEY, ChecksumMode="ENABLED"))["ChecksumCRC32C"] == "AAAAAA=="


async def test_odd_keys_round_trip_in_listings_too(client: Any) -> None:
    for key in ODD_KEYS:
        await client.put_object(Bucket="bucket", Key=key, Body=key.encode())
        assert await fetch(client, key) == key.encode()
    seen: list[str] = []
    token: dict[str, str] = {}
    while True:
        page = await client.list_objects_v2(Bucket="bucket", MaxKeys=5, **token)
        seen += [entry["Key"] for entry in page.get("Contents", ())]
        if not page["IsTruncated"]:
            break
        token = {"ContinuationToken": page["NextContinuationToken"]}
    assert seen == sorted(ODD_KEYS, key=str.encode)
    with pytest.raises(ClientError) as caught:
        await client.put_object(Bucket="bucket", Key="k" * 1025, Body=b"")
    assert code(caught) == (400, "KeyTooLongError")


async def test_listing_a_prefix(client: Any) -> None:
    for key in ("a", "b/1", "b/2", "b/3", "b0", "c"):
        await client.put_object(Bucket="bucket", Key=key, Body=b"1")
    page = await client.list_objects_v2(Bucket="bucket", Prefix="b/", MaxKeys=2)
    assert ([entry["Key"] for entry in page["Contents"]], page["IsTruncated"]) == (["b/1", "b/2"], True)
    rest = await client.list_objects_v2(Bucket="bucket", Prefix="b/", ContinuationToken=page["NextContinuationToken"])
    assert ([entry["Key"] for entry in rest["Contents"]], rest["IsTruncated"]) == (["b/3"], False)
    after = await client.list_objects_v2(Bucket="bucket", StartAfter="b/3")
    assert [entry["Key"] for entry in after["Contents"]] == ["b0", "c"]


@pytest.mark.parametrize("most", [1, 2, 3, 100])
async def test_listing_one_level(client: Any, most: int) -> None:
    for key in ("a", "a/1", "a/2", "a0", "d/", "d/e/1", "d/e/2", "d/f", "d//x", "\u00fc /1", "z"):
        await client.put_object(Bucket="bucket", Key=key, Body=b"1")
    for prefix, keys, prefixes in (
        ("", ["a", "a0", "z"], ["a/", "d/", "\u00fc /"]),
        ("d/", ["d/", "d/f"], ["d//", "d/e/"]),
        ("a", ["a", "a0"], ["a/"]),
    ):
        found: tuple[list[str], list[str]] = ([], [])
        token: dict[str, str] = {}
        while True:
            page = await client.list_objects_v2(Bucket="bucket", Prefix=prefix, Delimiter="/", MaxKeys=most, **token)
            shown = [each["Key"] for each in page.get("Contents", ())]
            folded = [each["Prefix"] for each in page.get("CommonPrefixes", ())]
            assert page["KeyCount"] == len(shown) + len(folded) <= most
            found[0].extend(shown)
            found[1].extend(folded)
            if not page["IsTruncated"]:
                break
            token = {"ContinuationToken": page["NextContinuationToken"]}
        assert found == (keys, prefixes)


async def test_a_read_on_a_condition(client: Any) -> None:
    first = (await client.put_object(Bucket="bucket", Key=KEY, Body=b"first"))["ETag"]
    assert await (await client.get_object(Bucket="bucket", Key=KEY, IfMatch=first))["Body"].read() == b"first"
    await client.put_object(Bucket="bucket", Key=KEY, Body=b"second")
    with pytest.raises(ClientError) as caught:
        await client.get_object(Bucket="bucket", Key=KEY, IfMatch=first)
    assert code(caught) == (412, "PreconditionFailed")


async def test_create_only_if_absent(client: Any) -> None:
    await client.put_object(Bucket="bucket", Key=KEY, Body=b"first", IfNoneMatch="*")
    with pytest.raises(ClientError) as caught:
        await client.put_object(Bucket="bucket", Key=KEY, Body=b"second", IfNoneMatch="*")
    assert code(caught) == (412, "PreconditionFailed")
    with pytest.raises(ClientError) as caught:
        await multipart(client, [b"second"], IfNoneMatch="*")
    assert code(caught) == (412, "PreconditionFailed")
    assert await fetch(client) == b"first"


async def test_buckets(client: Any) -> None:
    await client.head_bucket(Bucket="bucket")
    with pytest.raises(ClientError) as caught:
        await client.head_bucket(Bucket="other")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404
    with pytest.raises(ClientError) as caught:
        await client.put_object(Bucket="other", Key=KEY, Body=b"")
    assert code(caught) == (404, "NoSuchBucket")
    with pytest.raises(ClientError) as caught:
        await client.get_object_acl(Bucket="bucket", Key=KEY)
    assert code(caught) == (501, "NotImplemented")


# --- signatures


@pytest.mark.parametrize(
    ("settings", "offset", "expected"),
    [
        ({"aws_secret_access_key": "wrong"}, 0, (403, "SignatureDoesNotMatch")),
        ({"aws_access_key_id": "nobody"}, 0, (403, "InvalidAccessKeyId")),
        ({"region_name": "eu-west-1"}, 0, (400, "AuthorizationHeaderMalformed")),
        ({}, 16 * 60, (403, "RequestTimeTooSkewed")),
        ({}, -16 * 60, (403, "RequestTimeTooSkewed")),
    ],
)
async def test_refused_signatures(
    s3: S3Simulator, settings: dict[str, str], offset: float, expected: tuple[int, str]
) -> None:
    s3.clock_offset = offset
    async with connect(s3, **settings) as client:
        with pytest.raises(ClientError) as caught:
            await client.put_object(Bucket="bucket", Key=KEY, Body=b"1")
    assert code(caught) == expected
    assert not s3.buckets["bucket"].objects
    date = caught.value.response["ResponseMetadata"]["HTTPHeaders"]["date"]
    there = dt.datetime.strptime(date, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=dt.UTC)
    assert abs((there - dt.datetime.now(dt.UTC)).total_seconds() - offset) < 30, "tells its own clock"


class ClaimingAuth(S3SigV4Auth):  # type: ignore[misc]
    """botocore's signer, but for the payload's hash, which is what the header claims."""

    def payload(self, request: AWSRequest) -> str:
        return request.context["claim"] or str(super().payload(request))


def signed(s3: S3Simulator, method: str, path: str, headers: dict[str, str], body: bytes) -> dict[str, str]:
    """Headers signed by botocore, for a request that botocore itself would not send."""
    request = AWSRequest(method, s3.url + path, headers=headers, data=body)
    request.context["claim"] = headers.get("X-Amz-Content-SHA256", "")
    ClaimingAuth(Credentials(s3.access_key, s3.secret_key), "s3", s3.region).add_auth(request)
    return dict(request.headers.items())


async def test_what_is_sent_must_be_what_was_signed(s3: S3Simulator) -> None:
    async with aiohttp.ClientSession() as session:

        async def put(path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
            async with session.put(s3.url + path, headers=headers, data=body) as answer:
                return answer.status, await answer.read()

        headers = signed(s3, "PUT", "/bucket/k", {}, b"abc")
        assert (await put("/bucket/k", headers, b"abc"))[0] == 200
        status, body = await put("/bucket/k", headers, b"abd")
        assert (status, b"<Code>XAmzContentSHA256Mismatch</Code>" in body) == (400, True)
        second = "8" if headers["X-Amz-Date"][-2] == "9" else "9"
        for path, changed in (
            ("/bucket/other", {}),
            ("/bucket/k?acl", {}),
            ("/bucket/k", {"x-amz-meta-a": "1"}),
            ("/bucket/k", {"x-amz-date": headers["X-Amz-Date"][:-2] + second + "Z"}),
        ):
            assert (await put(path, {**headers, **changed}, b"abc"))[0] == 403, (path, changed)
        unsigned = {name: value for name, value in headers.items() if name != "Authorization"}
        assert (await put("/bucket/k", unsigned, b"abc"))[0] == 403
    assert [*s3.buckets["bucket"].objects] == ["k"]


def sign_chunks(s3: S3Simulator, headers: dict[str, str], chunks: list[bytes]) -> bytes:
    """An aws-chunked body by the letter of AWS's description, with botocore's signing key."""
    auth = S3SigV4Auth(Credentials(s3.access_key, s3.secret_key), "s3", s3.region)
    moment = headers["X-Amz-Date"]
    previous = headers["Authorization"].rpartition("Signature=")[2]
    scope = f"{moment[:8]}/{s3.region}/s3/aws4_request"
    body = b""
    request = AWSRequest("PUT", s3.url)
    request.context["timestamp"] = moment
    for chunk in [*chunks, b""]:
        digests = hashlib.sha256(b"").hexdigest(), hashlib.sha256(chunk).hexdigest()
        previous = auth.signature("\n".join(("AWS4-HMAC-SHA256-PAYLOAD", moment, scope, previous, *digests)), request)
        body += f"{len(chunk):x};chunk-signature={previous}\r\n".encode() + chunk + b"\r\n"
    return body


@pytest.mark.parametrize("damage", ["none", "byte", "chunk missing", "end missing"])
async def test_signed_chunks(s3: S3Simulator, damage: str) -> None:
    chunks = [b"a" * 70_000, b"b" * 8192, b"c" * 3]
    data = b"".join(chunks)
    claims = {
        "X-Amz-Content-SHA256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "x-amz-decoded-content-length": str(len(data)),
        "Content-Encoding": "aws-chunked",
    }
    headers = signed(s3, "PUT", "/bucket/k", claims, b"")
    body = sign_chunks(s3, headers, chunks)
    if damage == "byte":
        body = body.replace(b"aaa", b"aab", 1)
    elif damage == "chunk missing":
        body = sign_chunks(s3, headers, chunks[:2])
    elif damage == "end missing":
        body = body[: body.rindex(b"0;chunk")]
    async with aiohttp.ClientSession() as session, session.put(s3.url + "/bucket/k", headers=headers, data=body) as got:
        text = await got.text()
    if damage == "none":
        assert got.status == 200, text
        assert s3.buckets["bucket"].objects["k"].crc32c == crc32.iscsi(data)
    else:
        expected = "SignatureDoesNotMatch" if damage == "byte" else "IncompleteBody"
        assert f"<Code>{expected}</Code>" in text
        assert not s3.buckets["bucket"].objects


@pytest.mark.parametrize(("wrong", "expected"), [(False, ""), (True, "BadDigest")])
async def test_unsigned_chunks_with_a_trailer(s3: S3Simulator, expected: str, *, wrong: bool) -> None:
    data = b"x" * 100_000
    claims = {
        "X-Amz-Content-SHA256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "x-amz-decoded-content-length": str(len(data)),
        "x-amz-trailer": "x-amz-checksum-crc32c",
    }
    headers = signed(s3, "PUT", "/bucket/k", claims, b"")
    trailer = f"x-amz-checksum-crc32c:{crc32c(b'other' if wrong else data)}\r\n\r\n".encode()
    body = f"{len(data):x}\r\n".encode() + data + b"\r\n0\r\n" + trailer
    async with aiohttp.ClientSession() as session, session.put(s3.url + "/bucket/k", headers=headers, data=body) as got:
        text = await got.text()
    assert f"<Code>{expected}</Code>" in text if wrong else got.status == 200, text
    assert bool(s3.buckets["bucket"].objects) is not wrong


# --- checksums


async def test_a_put_is_held_against_its_checksums(client: Any, s3: S3Simulator) -> None:
    data = b"1" * 5000
    wrong_md5 = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    for claim in ({"ChecksumCRC32C": crc32c(b"other")}, {"ContentMD5": wrong_md5}, {"ChecksumCRC32": "AAAAAA=="}):
        with pytest.raises(ClientError) as caught:
            await client.put_object(Bucket="bucket", Key=KEY, Body=data, **claim)
        assert code(caught) == (400, "BadDigest")
    assert not s3.buckets["bucket"].objects
    put = await client.put_object(Bucket="bucket", Key=KEY, Body=data, ChecksumCRC32C=crc32c(data))
    assert (put["ChecksumCRC32C"], put["ChecksumType"]) == (crc32c(data), "FULL_OBJECT")
    head = await client.head_object(Bucket="bucket", Key=KEY, ChecksumMode="ENABLED")
    assert (head["ChecksumCRC32C"], head["ChecksumType"]) == (crc32c(data), "FULL_OBJECT")
    assert "ChecksumCRC32C" not in await client.head_object(Bucket="bucket", Key=KEY)


async def test_botocores_own_checksums_and_encoding_pass(s3: S3Simulator) -> None:
    settings = AioConfig(s3={"addressing_style": "path"})
    async with connect(s3) as plain:
        await plain.put_object(Bucket="bucket", Key="a", Body=b"1" * 100_000, ChecksumAlgorithm="CRC32")
        with pytest.raises(ClientError) as caught:
            await plain.put_object(Bucket="bucket", Key="c", Body=b"1", ChecksumAlgorithm="SHA256")
        assert code(caught) == (501, "NotImplemented")
    session = aiobotocore.session.get_session()
    keys = {"aws_access_key_id": s3.access_key, "aws_secret_access_key": s3.secret_key}
    async with session.create_client("s3", s3.region, endpoint_url=s3.url, config=settings, **keys) as eager:
        await eager.put_object(Bucket="bucket", Key="b", Body=b"2" * 100_000)
        assert await fetch(eager, "b") == b"2" * 100_000
    assert {*s3.buckets["bucket"].objects} == {"a", "b"}


async def test_a_weak_store_ignores_checksums() -> None:
    async with S3Simulator(["bucket"], weak=True, min_part=1) as s3, connect(s3) as client:
        put = await client.put_object(Bucket="bucket", Key=KEY, Body=b"1", ChecksumCRC32C=crc32c(b"other"))
        assert "ChecksumCRC32C" not in put
        assert "ChecksumCRC32C" not in await client.head_object(Bucket="bucket", Key=KEY, ChecksumMode="ENABLED")
        done = await multipart(client, [b"abc", b"def"])
        assert "ChecksumCRC32C" not in done
        assert done["ETag"] == f'"{hashlib.md5(b"abcdef").hexdigest()}"'
        assert await fetch(client) == b"abcdef"


# --- multipart uploads


async def test_multipart(client: Any, s3: S3Simulator) -> None:
    parts = [b"a" * 1500, b"b" * 1000, b"c" * 7]
    whole = b"".join(parts)
    upload_id = await begin(client)
    assert await client.list_objects_v2(Bucket="bucket") | {"KeyCount": 0}
    for number, part in ((2, b"an earlier try" * 100), (1, parts[0]), (3, parts[2]), (2, parts[1])):
        reply = await client.upload_part(Bucket="bucket", Key=KEY, UploadId=upload_id, PartNumber=number, Body=part)
        assert reply["ETag"] == f'"{hashlib.md5(part).hexdigest()}"'
        assert reply["ChecksumCRC32C"] == crc32c(part)
    uploads = (await client.list_multipart_uploads(Bucket="bucket", Prefix="dir/"))["Uploads"]
    assert [(upload["Key"], upload["UploadId"]) for upload in uploads] == [(KEY, upload_id)]
    page = await client.list_parts(Bucket="bucket", Key=KEY, UploadId=upload_id, MaxParts=2)
    assert page["IsTruncated"]
    rest = await client.list_parts(
        Bucket="bucket", Key=KEY, UploadId=upload_id, PartNumberMarker=page["NextPartNumberMarker"]
    )
    listed = page["Parts"] + rest["Parts"]
    assert [(part["PartNumber"], part["Size"], part["ChecksumCRC32C"]) for part in listed] == [
        (number, len(part), crc32c(part)) for number, part in enumerate(parts, 1)
    ]
    chosen = [{"PartNumber": part["PartNumber"], "ETag": part["ETag"]} for part in listed]
    with pytest.raises(ClientError) as caught:
        await client.complete_multipart_upload(
            Bucket="bucket",
            Key=KEY,
            UploadId=upload_id,
            MultipartUpload={"Parts": chosen},
            ChecksumCRC32C=crc32c(b"other"),
        )
    assert code(caught) == (400, "BadDigest")
    done = await client.complete_multipart_upload(
        Bucket="bucket",
        Key=KEY,
        UploadId=upload_id,
        MultipartUpload={"Parts": chosen},
        ChecksumCRC32C=crc32c(whole),
        ChecksumType="FULL_OBJECT",
    )
    etags = b"".join(hashlib.md5(part).digest() for part in parts)
    assert done["ETag"] == f'"{hashlib.md5(etags).hexdigest()}-3"'
    head = await client.head_object(Bucket="bucket", Key=KEY, ChecksumMode="ENABLED")
    assert head | {"ChecksumCRC32C": crc32c(whole), "ChecksumType": "FULL_OBJECT", "ContentLength": 2507} == head
    assert await fetch(client) == whole
    assert await fetch(client, Range="bytes=1400-2505") == whole[1400:2506]
    with pytest.raises(ClientError) as caught:
        await client.list_parts(Bucket="bucket", Key=KEY, UploadId=upload_id)
    assert code(caught) == (404, "NoSuchUpload")


async def test_a_composite_checksum(client: Any) -> None:
    upload_id = await begin(client, ChecksumAlgorithm="CRC32C")
    parts = [await send(client, upload_id, 1, b"a" * 1000), await send(client, upload_id, 2, b"b")]
    done = await client.complete_multipart_upload(
        Bucket="bucket", Key=KEY, UploadId=upload_id, MultipartUpload={"Parts": parts}
    )
    crcs = crc32.iscsi(b"a" * 1000).to_bytes(4, "big") + crc32.iscsi(b"b").to_bytes(4, "big")
    assert done["ChecksumCRC32C"] == crc32c(crcs) + "-2"


async def test_refused_part_lists(client: Any) -> None:
    upload_id = await begin(client)
    one, two = await send(client, upload_id, 1, b"a" * 999), await send(client, upload_id, 2, b"b")
    for parts, expected in (
        ([two, one], "InvalidPartOrder"),
        ([one, two], "EntityTooSmall"),
        ([one, {**two, "ETag": '"0"'}], "InvalidPart"),
        ([{**two, "PartNumber": 3}], "InvalidPart"),
        ([{**one, "ChecksumCRC32C": "AAAAAA=="}], "InvalidPart"),
    ):
        with pytest.raises(ClientError) as caught:
            await client.complete_multipart_upload(
                Bucket="bucket", Key=KEY, UploadId=upload_id, MultipartUpload={"Parts": parts}
            )
        assert code(caught) == (400, expected)
    for number in (0, 10_001):
        with pytest.raises(ClientError) as caught:
            await send(client, upload_id, number, b"x")
        assert code(caught) == (400, "InvalidArgument")
    with pytest.raises(ClientError) as caught:
        await send(client, upload_id, 3, b"x", ChecksumCRC32C="AAAAAA==")
    assert code(caught) == (400, "BadDigest")


async def test_abort(client: Any, s3: S3Simulator) -> None:
    upload_id = await begin(client)
    await send(client, upload_id, 1, b"1")
    await client.abort_multipart_upload(Bucket="bucket", Key=KEY, UploadId=upload_id)
    for call in (send(client, upload_id, 1, b"1"), client.list_parts(Bucket="bucket", Key=KEY, UploadId=upload_id)):
        with pytest.raises(ClientError) as caught:
            await call
        assert code(caught) == (404, "NoSuchUpload")
    assert not s3.buckets["bucket"].uploads


async def test_list_uploads_pages(client: Any) -> None:
    begun = sorted([(key, await begin(client, key)) for key in ("a b", "a\nb", "c", "c", "d")])
    seen: list[tuple[str, str]] = []
    marker: dict[str, str] = {}
    while True:
        page = await client.list_multipart_uploads(Bucket="bucket", MaxUploads=2, EncodingType="url", **marker)
        seen += [(upload["Key"], upload["UploadId"]) for upload in page["Uploads"]]
        if not page["IsTruncated"]:
            break
        marker = {"KeyMarker": page["NextKeyMarker"].replace("%0A", "\n").replace("+", " ")}
        marker["UploadIdMarker"] = page["NextUploadIdMarker"]
    names = [key.replace("%0A", "\n").replace("+", " ") for key, _ in seen]
    assert names == [key for key, _ in begun]
    assert {upload_id for _, upload_id in seen} == {upload_id for _, upload_id in begun}


# --- bodies that end early


@pytest.mark.parametrize("how", ["reset", "end"])
async def test_a_body_that_ends_early_is_forgotten(s3: S3Simulator, how: str) -> None:
    headers = signed(s3, "PUT", "/bucket/k", {"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}, b"")
    host, _, port = urlsplit(s3.url).netloc.partition(":")
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"PUT /bucket/k HTTP/1.1\r\nHost: {host}:{port}\r\n{lines}Content-Length: 100000\r\n\r\n".encode())
    writer.write(b"x" * 99_999)
    await writer.drain()
    await asyncio.sleep(0.1)
    if how == "reset":
        peer = writer.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()
    else:
        writer.write_eof()
        answered = await asyncio.wait_for(_rest(reader), 5)
        assert not answered.startswith(b"HTTP/1.1 200")
        writer.close()
    await asyncio.sleep(0.2)
    assert s3.counts["PutObject"] == 1
    assert not s3.buckets["bucket"].objects


async def _rest(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


# --- where bodies are kept


async def test_discard_keeps_digests_only() -> None:
    async with S3Simulator(["bucket"], discard=True, min_part=1) as s3, connect(s3) as client:
        parts = [b"a" * 300_000, b"b" * 5]
        done = await multipart(client, parts, ChecksumCRC32C=crc32c(b"".join(parts)))
        head = await client.head_object(Bucket="bucket", Key=KEY, ChecksumMode="ENABLED")
        assert (head["ETag"], head["ContentLength"]) == (done["ETag"], 300_005)
        assert head["ChecksumCRC32C"] == crc32c(b"".join(parts))
        with pytest.raises(ClientError) as caught:
            await fetch(client)
        assert code(caught) == (501, "NotImplemented")


async def test_bodies_in_a_directory(tmp_path: Path) -> None:
    def bodies() -> list[Path]:
        return list(tmp_path.iterdir())

    async with S3Simulator(["bucket"], directory=tmp_path, min_part=1) as s3, connect(s3) as client:
        await client.put_object(Bucket="bucket", Key=KEY, Body=b"old" * 100_000)
        parts = [b"a" * 300_000, b"b" * 300_000, b"c"]
        await multipart(client, parts)
        assert await fetch(client) == b"".join(parts)
        assert await fetch(client, Range="bytes=299999-600000") == b"".join(parts)[299_999:600_001]
        with pytest.raises(ClientError):
            await client.put_object(Bucket="bucket", Key="x", Body=b"1", ContentMD5="AAAAAAAAAAAAAAAAAAAAAA==")
        assert len(bodies()) == 3, "the replaced object and the refused one are gone"
        await client.delete_object(Bucket="bucket", Key=KEY)
        assert not bodies()


async def test_opaque_etags() -> None:
    async with S3Simulator(["bucket"], etag="opaque", min_part=1) as s3, connect(s3) as client:
        put = await client.put_object(Bucket="bucket", Key=KEY, Body=b"1")
        assert put["ETag"].strip('"') != hashlib.md5(b"1").hexdigest()
        assert (await multipart(client, [b"a", b"b"]))["ETag"].endswith('-2"')
        assert await fetch(client) == b"ab"


# --- faults


async def test_status(client: Any, s3: S3Simulator) -> None:
    fault = Fault(
        Status(503, error_document("SlowDown", "Please reduce your request rate.", "", 0)), op="PutObject", times=2
    )
    s3.faults.append(fault)
    for _ in range(2):
        with pytest.raises(ClientError) as caught:
            await client.put_object(Bucket="bucket", Key=KEY, Body=b"1" * 300_000)
        assert code(caught) == (503, "SlowDown")
    assert not s3.buckets["bucket"].objects
    await client.put_object(Bucket="bucket", Key=KEY, Body=b"1")
    assert fault.hits == 2


async def test_reset_and_lost_reply(client: Any, s3: S3Simulator) -> None:
    s3.faults += [
        # Twice each: aiohttp's client quietly sends a PUT once more when the connection is lost.
        Fault(Reset(), op="PutObject", times=2),
        Fault(LostReply(), op="PutObject", times=2),
        Fault(LostReply(), method="POST", after=1),
    ]
    for done in (False, True):
        with pytest.raises((ConnectionClosedError, EndpointConnectionError)):
            await client.put_object(Bucket="bucket", Key=KEY, Body=b"1")
        assert (KEY in s3.buckets["bucket"].objects) is done
    with pytest.raises((ConnectionClosedError, EndpointConnectionError)):
        await multipart(client, [b"1", b""][:1], "other")
    assert s3.buckets["bucket"].objects["other"].size == 1
    assert [fault.hits for fault in s3.faults] == [2, 2, 1]


async def test_a_flipped_bit_on_the_way_in(client: Any, s3: S3Simulator) -> None:
    upload_id = await begin(client)
    data = b"\0" * 1000
    s3.faults += [Fault(FlipBit(999, 7), part=2, times=2)]
    await send(client, upload_id, 1, data)
    with pytest.raises(ClientError) as caught:  # botocore claims the SHA-256 of the body
        await send(client, upload_id, 2, data)
    assert code(caught) == (400, "XAmzContentSHA256Mismatch")
    async with aiohttp.ClientSession() as session:
        path = f"/bucket/{KEY}?partNumber=2&uploadId={upload_id}"
        headers = signed(s3, "PUT", path, {"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}, b"")
        async with session.put(s3.url + path, headers=headers, data=data) as answer:
            assert answer.status == 200
            assert answer.headers["x-amz-checksum-crc32c"] == crc32c(data[:-1] + b"\x80")
            assert answer.headers["ETag"] != f'"{hashlib.md5(data).hexdigest()}"'
    assert s3.faults[0].hits == 2


async def test_a_flipped_bit_on_the_way_out(client: Any, s3: S3Simulator) -> None:
    await client.put_object(Bucket="bucket", Key=KEY, Body=b"\0" * 10)
    s3.faults.append(Fault(FlipBit(3), op="GetObject"))
    assert await fetch(client) == b"\0\0\0\1" + b"\0" * 6
    assert await fetch(client) == b"\0" * 10
    assert s3.faults[0].hits == 1


async def test_cut_and_wrong_range(client: Any, s3: S3Simulator) -> None:
    await client.put_object(Bucket="bucket", Key=KEY, Body=bytes(range(100)))
    s3.faults += [
        Fault(Cut(50), op="GetObject"),
        Fault(WrongRange(shift=5), op="GetObject"),
        Fault(WrongRange(whole=True), op="GetObject"),
    ]
    with pytest.raises((ResponseStreamingError, aiohttp.ClientPayloadError)):
        await fetch(client)
    assert await fetch(client, Range="bytes=10-12") == bytes([15, 16, 17])
    assert await fetch(client, Range="bytes=10-12") == bytes(range(100))
    assert [fault.hits for fault in s3.faults] == [1, 1, 1]


async def test_an_error_in_ok_then_the_upload_goes_on(client: Any, s3: S3Simulator) -> None:
    s3.faults.append(Fault(ErrorInOk("InternalError"), op="CompleteMultipartUpload"))
    upload_id = await begin(client)
    parts = {"Parts": [await send(client, upload_id, 1, b"1")]}
    with pytest.raises(ClientError) as caught:
        await client.complete_multipart_upload(Bucket="bucket", Key=KEY, UploadId=upload_id, MultipartUpload=parts)
    assert caught.value.response["Error"]["Code"] == "InternalError"
    assert not s3.buckets["bucket"].objects
    await client.complete_multipart_upload(Bucket="bucket", Key=KEY, UploadId=upload_id, MultipartUpload=parts)
    assert await fetch(client) == b"1"
    assert s3.faults[0].hits == 1


async def test_no_such_upload_stays_so(client: Any, s3: S3Simulator) -> None:
    s3.faults.append(Fault(NoSuchUpload(), op="UploadPart", part=2))
    upload_id = await begin(client)
    await send(client, upload_id, 1, b"1")
    for number in (2, 1):
        with pytest.raises(ClientError) as caught:
            await send(client, upload_id, number, b"1")
        assert code(caught) == (404, "NoSuchUpload")
    assert s3.faults[0].hits == 1


async def test_an_empty_etag_from_complete(client: Any, s3: S3Simulator) -> None:
    s3.faults.append(Fault(OtherETag(""), op="CompleteMultipartUpload"))
    done = await multipart(client, [b"1"])
    assert not done.get("ETag")
    assert (await client.head_object(Bucket="bucket", Key=KEY))["ETag"].endswith('-1"')
    assert s3.faults[0].hits == 1


async def test_stall_delay_and_slow(client: Any, s3: S3Simulator) -> None:
    s3.faults += [
        Fault(Stall(30), op="HeadObject"),
        Fault(Delay(0.3), op="HeadBucket"),
        Fault(Slow(20_000), op="PutObject"),
    ]
    clock = asyncio.get_running_loop().time
    begun = clock()
    await client.put_object(Bucket="bucket", Key=KEY, Body=b"1" * 10_000)
    assert clock() - begun >= 0.45, "the body is read no faster"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await client.head_object(Bucket="bucket", Key=KEY)
    begun = clock()
    await client.head_bucket(Bucket="bucket")
    assert clock() - begun >= 0.3
    assert [fault.hits for fault in s3.faults] == [1, 1, 1]


# --- copies


async def test_copy(client: Any) -> None:
    for key in ODD_KEYS[:-1]:
        body = key.encode()
        put = await client.put_object(Bucket="bucket", Key=key, Body=body, ChecksumCRC32C=crc32c(body))
        source = {"Bucket": "bucket", "Key": key}
        answer = await client.copy_object(
            Bucket="bucket", Key=f"copy/{key}", CopySource=source, CopySourceIfMatch=put["ETag"]
        )
        said = answer["CopyObjectResult"]
        assert (said["ETag"], said["ChecksumCRC32C"], said["ChecksumType"]) == (
            put["ETag"],
            crc32c(body),
            "FULL_OBJECT",
        )
        got = await client.get_object(Bucket="bucket", Key=f"copy/{key}", ChecksumMode="ENABLED")
        assert (await got["Body"].read(), got["ChecksumCRC32C"]) == (body, crc32c(body))
        await client.delete_object(Bucket="bucket", Key=key)
        got = await client.get_object(Bucket="bucket", Key=f"copy/{key}")
        assert await got["Body"].read() == body


async def test_a_copy_of_the_wrong_object_is_refused(client: Any) -> None:
    await client.put_object(Bucket="bucket", Key=KEY, Body=b"1")
    for source, condition, expected in (
        (f"bucket/{KEY}", '"other"', (412, "PreconditionFailed")),
        ("bucket/missing", '"other"', (404, "NoSuchKey")),
        (f"other/{KEY}", '"other"', (404, "NoSuchBucket")),
    ):
        with pytest.raises(ClientError) as caught:
            await client.copy_object(Bucket="bucket", Key="copy", CopySource=source, CopySourceIfMatch=condition)
        assert code(caught) == expected
    with pytest.raises(ClientError) as caught:
        await client.copy_object(Bucket="bucket", Key=KEY, CopySource=f"bucket/{KEY}")
    assert code(caught) == (400, "InvalidRequest")
    assert (await client.list_objects_v2(Bucket="bucket"))["KeyCount"] == 1


async def test_parts_that_are_copied(s3: S3Simulator, client: Any) -> None:
    body = bytes(range(256)) * 20
    put = await client.put_object(Bucket="bucket", Key=KEY, Body=body)
    begun = await client.create_multipart_upload(
        Bucket="bucket", Key="copy", ChecksumAlgorithm="CRC32C", ChecksumType="FULL_OBJECT"
    )
    to = {"Bucket": "bucket", "Key": "copy", "UploadId": begun["UploadId"]}
    parts = []
    for number, (start, stop) in enumerate([(0, 2000), (2000, 4000), (4000, len(body))], start=1):
        answer = await client.upload_part_copy(
            **to,
            PartNumber=number,
            CopySource=f"bucket/{KEY}",
            CopySourceRange=f"bytes={start}-{stop - 1}",
            CopySourceIfMatch=put["ETag"],
        )
        said = answer["CopyPartResult"]
        assert said["ChecksumCRC32C"] == crc32c(body[start:stop])
        parts.append({"PartNumber": number, "ETag": said["ETag"], "ChecksumCRC32C": said["ChecksumCRC32C"]})
    with pytest.raises(ClientError) as caught:
        await client.upload_part_copy(**to, PartNumber=4, CopySource=f"bucket/{KEY}", CopySourceIfMatch='"other"')
    assert code(caught) == (412, "PreconditionFailed")
    done = await client.complete_multipart_upload(**to, MultipartUpload={"Parts": parts})
    assert done["ChecksumCRC32C"] == crc32c(body)
    got = await client.get_object(Bucket="bucket", Key="copy")
    assert await got["Body"].read() == body
    assert s3.counts["UploadPartCopy"] == 4


async def test_one_request_copies_only_so_much() -> None:
    async with S3Simulator(["bucket"], max_copy=10) as s3, connect(s3) as client:
        await client.put_object(Bucket="bucket", Key=KEY, Body=b"1" * 11)
        with pytest.raises(ClientError) as caught:
            await client.copy_object(Bucket="bucket", Key="copy", CopySource=f"bucket/{KEY}")
        assert code(caught) == (400, "InvalidRequest")
