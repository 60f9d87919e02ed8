"""The simulated OSS against Alibaba's SDK, which signs, encodes and parses independently; raw requests do the rest."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import hashlib
import random
import re
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import alibabacloud_oss_v2 as sdk
import pytest
from fastcrc import crc64

from asynccopy.simulators import Fault, OssSimulator
from asynccopy.simulators.checksums import join_crc64
from asynccopy.simulators.faults import FlipBit, LostReply, OtherCrc64, Status
from asynccopy.simulators.oss import ZONE
from asynccopy.simulators.oss_v4 import Credential
from asynccopy.simulators.oss_xml import refusal
from tests.oracles import error_of, oss_client, resolving

BUCKET = "bucket"
KEY = "dir/key"
ODD_KEYS = [
    *("a b", "%", "%41", "a+b", "#", "?x=1", ":;&=", "a\\", "'\"", "<>", "a\nb", "a\tb", "\x01", "😀", "\u00e9"),
    *("e\u0301", " x ", "a//b", "a/", "~*!()", "k" * 1023),
]
PART = 100 * 1024


@pytest.fixture
async def oss() -> AsyncIterator[OssSimulator]:
    async with OssSimulator([BUCKET, "other"]) as simulator:
        with resolving(ZONE):
            yield simulator


def connect(oss: OssSimulator, **more: Any) -> sdk.Client:
    return oss_client(oss.url, oss.access_key, oss.secret_key, **more)


@pytest.fixture
def client(oss: OssSimulator) -> sdk.Client:
    return connect(oss)


async def call(method: Callable[[Any], Any], request: Any) -> Any:
    """The SDK blocks, so it runs beside the loop that serves it."""
    return await asyncio.to_thread(method, request)


async def put(client: sdk.Client, key: str, body: bytes, **more: Any) -> sdk.PutObjectResult:
    return await call(client.put_object, sdk.PutObjectRequest(bucket=BUCKET, key=key, body=body, **more))


async def get(client: sdk.Client, key: str, **more: Any) -> bytes:
    def read() -> bytes:
        with client.get_object(sdk.GetObjectRequest(bucket=BUCKET, key=key, **more)).body as stream:
            return bytes(stream.read())

    return await asyncio.to_thread(read)


async def head(client: sdk.Client, key: str, **more: Any) -> sdk.HeadObjectResult:
    return await call(client.head_object, sdk.HeadObjectRequest(bucket=BUCKET, key=key, **more))


async def begin(client: sdk.Client, key: str = KEY, **more: Any) -> str:
    request = sdk.InitiateMultipartUploadRequest(bucket=BUCKET, key=key, **more)
    return str((await call(client.initiate_multipart_upload, request)).upload_id)


async def send(client: sdk.Client, upload_id: str, number: int, body: bytes, **more: Any) -> sdk.UploadPart:
    names = {"bucket": BUCKET, "key": KEY, "upload_id": upload_id, "part_number": number}
    reply = await call(client.upload_part, sdk.UploadPartRequest(**names, body=body, **more))
    assert reply.hash_crc64 == str(crc64.xz(body))
    return sdk.UploadPart(part_number=number, etag=reply.etag)


async def complete(client: sdk.Client, upload_id: str, parts: list[sdk.UploadPart], **more: Any) -> Any:
    listed = sdk.CompleteMultipartUpload(parts=parts)
    names = {"bucket": BUCKET, "key": KEY, "upload_id": upload_id}
    request = sdk.CompleteMultipartUploadRequest(**names, complete_multipart_upload=listed, **more)
    return await call(client.complete_multipart_upload, request)


async def refused(work: Any) -> tuple[int, str]:
    with pytest.raises(sdk.exceptions.OperationError) as caught:
        await work
    found = error_of(caught)
    return found.status_code, found.code


# --- the SDK's daily life


async def test_put_head_get_delete(client: sdk.Client, oss: OssSimulator) -> None:
    data = random.Random(1).randbytes(700_000)
    wrote = await put(client, KEY, data)
    assert wrote.etag == f'"{hashlib.md5(data).hexdigest().upper()}"'
    assert wrote.hash_crc64 == str(crc64.xz(data))
    found = await head(client, KEY)
    assert (found.content_length, found.etag, found.hash_crc64) == (len(data), wrote.etag, wrote.hash_crc64)
    assert (found.storage_class, found.object_type) == ("Standard", "Normal")
    assert abs(found.last_modified.timestamp() - dt.datetime.now(dt.UTC).timestamp()) < 60
    assert await get(client, KEY) == data
    await call(client.delete_object, sdk.DeleteObjectRequest(bucket=BUCKET, key=KEY))
    await call(client.delete_object, sdk.DeleteObjectRequest(bucket=BUCKET, key=KEY))
    assert await refused(head(client, KEY)) == (404, "NoSuchKey")
    assert await refused(get(client, KEY)) == (404, "NoSuchKey")
    assert oss.counts["DeleteObject"] == 2
    assert oss.refusals == {"NoSuchKey": 2}


async def test_an_empty_object(client: sdk.Client) -> None:
    assert (await put(client, KEY, b"")).hash_crc64 == "0"
    assert await get(client, KEY) == b""


@pytest.mark.parametrize("at", ["internal", "accelerate", "cname"])
async def test_other_endpoints(oss: OssSimulator, at: str) -> None:
    name = {"internal": "oss-cn-hangzhou-internal", "accelerate": "oss-accelerate"}.get(at)
    url = f"http://{name}.{ZONE}:{oss.address[1]}" if name else oss.cname
    client = oss_client(url, oss.access_key, oss.secret_key, use_cname=name is None)
    await put(client, KEY, b"1")
    assert await get(client, KEY) == b"1"


async def test_metadata_class_encryption_and_tags(client: sdk.Client) -> None:
    more = {"storage_class": "IA", "server_side_encryption": "KMS", "server_side_encryption_key_id": "k-1"}
    wrote = await put(client, KEY, b"1", metadata={"owner": "hdfs", "mtime": "12"}, tagging="a=1&b=x%20y", **more)
    assert wrote.headers["x-oss-server-side-encryption"] == "KMS"
    found = await head(client, KEY)
    assert (found.storage_class, found.server_side_encryption_key_id) == ("IA", "k-1")
    assert {name: found.metadata[name] for name in ("owner", "mtime")} == {"owner": "hdfs", "mtime": "12"}
    assert found.tagging_count == 2
    request = sdk.GetObjectTaggingRequest(bucket=BUCKET, key=KEY)
    tags = (await call(client.get_object_tagging, request)).tag_set.tags
    assert {tag.key: tag.value for tag in tags} == {"a": "1", "b": "x y"}
    tag_set = sdk.TagSet(tags=[sdk.Tag(key="c", value="3")])
    asked = sdk.PutObjectTaggingRequest(bucket=BUCKET, key=KEY, tagging=sdk.Tagging(tag_set=tag_set))
    await call(client.put_object_tagging, asked)
    assert (await call(client.get_object_tagging, request)).tag_set.tags[0].key == "c"
    assert await refused(put(client, KEY, b"2", storage_class="GLACIER")) == (400, "InvalidArgument")
    assert await refused(put(client, KEY, b"2", server_side_encryption="DES")) == (
        400,
        "InvalidEncryptionAlgorithmError",
    )
    assert await get(client, KEY) == b"1"


async def test_archived_objects_are_seen_but_not_read(client: sdk.Client) -> None:
    await put(client, KEY, b"1", storage_class="ColdArchive")
    assert (await head(client, KEY)).storage_class == "ColdArchive"
    assert await refused(get(client, KEY)) == (403, "InvalidObjectState")


async def test_odd_keys_round_trip_in_listings_too(client: sdk.Client) -> None:
    for key in ODD_KEYS:
        await put(client, key, key.encode())
        assert await get(client, key) == key.encode()
    seen: list[str] = []
    token = None
    while True:
        request = sdk.ListObjectsV2Request(bucket=BUCKET, max_keys=5, continuation_token=token)
        page = await call(client.list_objects_v2, request)
        seen += [entry.key for entry in page.contents]
        token = page.next_continuation_token
        if not page.is_truncated:
            break
    assert seen == sorted(ODD_KEYS, key=str.encode)


@pytest.mark.parametrize("key", ["k" * 1024, "é" * 512, "/a", "\\a"])
async def test_keys_that_oss_refuses(client: sdk.Client, oss: OssSimulator, key: str) -> None:
    assert await refused(put(client, key, b"1")) == (400, "InvalidObjectName")
    assert not oss.buckets[BUCKET].objects


async def test_listing_a_prefix(client: sdk.Client) -> None:
    for number in range(101):
        await put(client, f"b/{number:03}", b"1")
    await put(client, "c", b"1")

    async def page(**more: Any) -> Any:
        return await call(client.list_objects_v2, sdk.ListObjectsV2Request(bucket=BUCKET, **more))

    first = await page(prefix="b/")
    assert (first.key_count, first.is_truncated) == (100, True), "a hundred, where none says how many"
    rest = await page(prefix="b/", continuation_token=first.next_continuation_token)
    assert [entry.key for entry in rest.contents] == ["b/100"]
    assert [entry.key for entry in (await page(start_after="b/100")).contents] == ["c"]


async def test_listing_one_level(client: sdk.Client) -> None:
    for key in ("a", "a/1", "a/2", "d/", "d/e +/1", "d/f"):
        await put(client, key, b"1")
    found: list[str] = []
    token = None
    while True:
        request = sdk.ListObjectsV2Request(
            bucket=BUCKET, prefix="d/", delimiter="/", max_keys=1, continuation_token=token
        )
        page = await call(client.list_objects_v2, request)
        found += [entry.key for entry in page.contents or ()] + [each.prefix for each in page.common_prefixes or ()]
        token = page.next_continuation_token
        if not page.is_truncated:
            break
    assert found == ["d/", "d/e +/", "d/f"]


async def test_ranges_beyond_the_end_are_the_whole_object(client: sdk.Client) -> None:
    data = bytes(range(200)) * 5
    await put(client, KEY, data)
    for spec, expected in (("10-19", data[10:20]), ("990-", data[990:]), ("-5", data[-5:])):
        assert await get(client, KEY, range_header=f"bytes={spec}") == expected
    for spec in ("500-2000", "1000-2000", "1000-", "-2000"):
        assert await get(client, KEY, range_header=f"bytes={spec}") == data, spec
    standard = {"range_behavior": "standard"}
    assert await get(client, KEY, range_header="bytes=500-2000", **standard) == data[500:]
    assert await refused(get(client, KEY, range_header="bytes=1000-2000", **standard)) == (416, "InvalidRange")


async def test_conditions(client: sdk.Client) -> None:
    etag = (await put(client, KEY, b"1")).etag
    assert await get(client, KEY, if_match=etag) == b"1"
    assert await refused(get(client, KEY, if_match='"other"')) == (412, "PreconditionFailed")
    with pytest.raises(sdk.exceptions.OperationError) as caught:
        await head(client, KEY, if_none_match=etag)
    assert error_of(caught).status_code == 304
    past = "Mon, 01 Jan 2001 00:00:00 GMT"
    assert await refused(get(client, KEY, if_unmodified_since=past)) == (412, "PreconditionFailed")


async def test_forbid_overwrite(client: sdk.Client) -> None:
    await put(client, KEY, b"first", forbid_overwrite=True)
    assert await refused(put(client, KEY, b"second", forbid_overwrite=True)) == (409, "FileAlreadyExists")
    upload_id = await begin(client)
    part = await send(client, upload_id, 1, b"second")
    assert await refused(complete(client, upload_id, [part], forbid_overwrite=True)) == (409, "FileAlreadyExists")
    copying = sdk.CopyObjectRequest(bucket=BUCKET, key=KEY, source_key=KEY, forbid_overwrite=True)
    assert await refused(call(client.copy_object, copying)) == (409, "FileAlreadyExists")
    assert await get(client, KEY) == b"first"


async def test_deleting_many(client: sdk.Client, oss: OssSimulator) -> None:
    for key in ODD_KEYS[:10]:
        await put(client, key, b"1")
    gone = [sdk.DeleteObject(key=key) for key in [*ODD_KEYS[:9], "never"]]
    reply = await call(client.delete_multiple_objects, sdk.DeleteMultipleObjectsRequest(bucket=BUCKET, objects=gone))
    assert [entry.key for entry in reply.deleted_objects] == [*ODD_KEYS[:9], "never"]
    assert [*oss.buckets[BUCKET].objects] == [ODD_KEYS[9]]


async def test_the_bucket(client: sdk.Client) -> None:
    info = (await call(client.get_bucket_info, sdk.GetBucketInfoRequest(bucket=BUCKET))).bucket_info
    assert (info.name, info.location, info.storage_class) == (BUCKET, "oss-cn-hangzhou", "Standard")
    absent = sdk.PutObjectRequest(bucket="absent", key=KEY, body=b"")
    assert await refused(call(client.put_object, absent)) == (404, "NoSuchBucket")
    assert await refused(call(client.get_bucket_acl, sdk.GetBucketAclRequest(bucket=BUCKET))) == (501, "NotImplemented")


# --- multipart uploads


async def test_multipart(client: sdk.Client, oss: OssSimulator) -> None:
    chance = random.Random(2)
    bodies = [chance.randbytes(PART), chance.randbytes(PART + 1), chance.randbytes(10)]
    upload_id = await begin(client, storage_class="IA", metadata={"a": "b"})
    parts = [await send(client, upload_id, number, body) for number, body in zip((1, 5, 9), bodies, strict=True)]
    names = {"bucket": BUCKET, "key": KEY, "upload_id": upload_id}
    first = await call(client.list_parts, sdk.ListPartsRequest(**names, max_parts=2))
    assert [(part.part_number, part.size, part.etag) for part in first.parts] == [
        (1, PART, parts[0].etag),
        (5, PART + 1, parts[1].etag),
    ]
    assert first.is_truncated
    assert first.parts[0].hash_crc64 == str(crc64.xz(bodies[0]))
    rest = await call(
        client.list_parts, sdk.ListPartsRequest(**names, part_number_marker=first.next_part_number_marker)
    )
    assert [part.part_number for part in rest.parts] == [9]
    done = await complete(client, upload_id, parts)
    whole = b"".join(bodies)
    assert done.hash_crc64 == str(crc64.xz(whole))
    assert done.etag.endswith('-3"')
    found = await head(client, KEY)
    assert (found.hash_crc64, found.object_type, found.etag) == (done.hash_crc64, "Multipart", done.etag)
    assert (found.storage_class, found.metadata["a"]) == ("IA", "b")
    assert await get(client, KEY) == whole
    assert await refused(complete(client, upload_id, parts)) == (404, "NoSuchUpload")
    assert not oss.buckets[BUCKET].uploads


async def test_part_lists_that_oss_refuses(client: sdk.Client, oss: OssSimulator) -> None:
    upload_id = await begin(client)
    small, large = await send(client, upload_id, 1, b"1" * (PART - 1)), await send(client, upload_id, 2, b"2" * PART)
    other = sdk.UploadPart(part_number=1, etag='"0"')
    missing = sdk.UploadPart(part_number=3, etag=large.etag)
    for parts, code in (
        ([large, small], "InvalidPartOrder"),
        ([other, large], "InvalidPart"),
        ([large, missing], "InvalidPart"),
        ([small, large], "EntityTooSmall"),
    ):
        assert await refused(complete(client, upload_id, parts)) == (400, code)
    for number in (0, 10_001):
        assert await refused(send(client, upload_id, number, b"1")) == (400, "InvalidArgument")
    assert await refused(send(client, "nobody", 1, b"1")) == (404, "NoSuchUpload")
    assert not oss.buckets[BUCKET].objects


async def test_uploads_are_listed_and_aborted(client: sdk.Client, oss: OssSimulator) -> None:
    keys = ["a b", "a+b", "b"]
    begun = {await begin(client, key): key for key in keys}
    seen = {}
    marker: dict[str, str] = {}
    while True:
        request = sdk.ListMultipartUploadsRequest(bucket=BUCKET, max_uploads=2, **marker)
        page = await call(client.list_multipart_uploads, request)
        seen |= {upload.upload_id: upload.key for upload in page.uploads}
        if not page.is_truncated:
            break
        marker = {"key_marker": page.next_key_marker, "upload_id_marker": page.next_upload_id_marker}
    assert seen == begun
    for upload_id, key in begun.items():
        request = sdk.AbortMultipartUploadRequest(bucket=BUCKET, key=key, upload_id=upload_id)
        await call(client.abort_multipart_upload, request)
        assert await refused(call(client.abort_multipart_upload, request)) == (404, "NoSuchUpload")
    assert not oss.buckets[BUCKET].uploads


async def test_copies(client: sdk.Client, oss: OssSimulator) -> None:
    data = random.Random(3).randbytes(PART + 7)
    odd = "a b+%41😀"
    etag = (await put(client, odd, data, metadata={"a": "b"}, tagging="t=1")).etag
    wrote = await call(client.copy_object, sdk.CopyObjectRequest(bucket=BUCKET, key=KEY, source_key=odd))
    assert (wrote.etag, wrote.hash_crc64) == (etag, str(crc64.xz(data)))
    found = await head(client, KEY)
    assert (found.metadata["a"], found.tagging_count) == ("b", 1)
    more: dict[str, Any] = {"metadata_directive": "REPLACE", "metadata": {"c": "d"}, "storage_class": "IA"}
    await call(client.copy_object, sdk.CopyObjectRequest(bucket=BUCKET, key=KEY, source_key=KEY, **more))
    found = await head(client, KEY)
    assert (found.storage_class, found.metadata["c"], "a" in found.metadata) == ("IA", "d", False)
    assert await get(client, KEY) == data
    unequal = sdk.CopyObjectRequest(bucket=BUCKET, key=KEY, source_key=odd, if_match='"other"')
    assert await refused(call(client.copy_object, unequal)) == (412, "PreconditionFailed")
    upload_id = await begin(client)
    names = {"bucket": BUCKET, "key": KEY, "upload_id": upload_id, "source_key": odd}
    parts = []
    for number, span in ((1, f"bytes=0-{PART - 1}"), (2, f"bytes={PART}-")):
        asked = sdk.UploadPartCopyRequest(**names, part_number=number, source_range=span)
        parts.append(sdk.UploadPart(part_number=number, etag=(await call(client.upload_part_copy, asked)).etag))
    assert (await complete(client, upload_id, parts)).hash_crc64 == str(crc64.xz(data))
    other = sdk.CopyObjectRequest(bucket="other", key="k", source_bucket=BUCKET, source_key=KEY)
    await call(client.copy_object, other)
    assert oss.buckets["other"].objects["k"].crc64 == crc64.xz(data)


# --- who may ask


@pytest.mark.parametrize(
    ("settings", "offset", "expected"),
    [
        ({"secret": "wrong"}, 0, (403, "SignatureDoesNotMatch")),
        ({"access_key": "nobody"}, 0, (403, "InvalidAccessKeyId")),
        ({"region": "cn-beijing"}, 0, (400, "InvalidArgument")),
        ({}, 16 * 60, (403, "RequestTimeTooSkewed")),
        ({}, -16 * 60, (403, "RequestTimeTooSkewed")),
    ],
)
async def test_refused_signatures(
    oss: OssSimulator, settings: dict[str, str], offset: float, expected: tuple[int, str]
) -> None:
    oss.clock_offset = offset
    access_key, secret = settings.get("access_key", oss.access_key), settings.get("secret", oss.secret_key)
    client = oss_client(oss.url, access_key, secret, region=settings.get("region", oss.region))
    assert await refused(put(client, KEY, b"1")) == expected
    assert not oss.buckets[BUCKET].objects


async def test_sts_tokens_are_demanded_and_expire(oss: OssSimulator) -> None:
    access_key, (secret, token, expires) = oss.issue(3600)
    good = oss_client(oss.url, access_key, secret, token=token)
    await put(good, KEY, b"1")
    assert await refused(put(oss_client(oss.url, access_key, secret), KEY, b"2")) == (403, "InvalidAccessKeyId")
    other = oss_client(oss.url, access_key, secret, token="other")
    assert await refused(put(other, KEY, b"2")) == (403, "InvalidSecurityToken")
    oss.credentials[access_key] = Credential(secret, token, expires - 3601)
    with pytest.raises(sdk.exceptions.OperationError) as caught:
        await put(good, KEY, b"2")
    found = error_of(caught)
    assert (found.status_code, found.code, found.ec) == (403, "SecurityTokenExpired", "0002-00000007")
    assert token in found.snapshot.decode(), "OSS repeats the token in its answer"
    assert oss.buckets[BUCKET].objects[KEY].size == 1


async def test_a_token_that_expires_between_two_parts(oss: OssSimulator) -> None:
    access_key, (secret, token, _) = oss.issue(3600)
    first = oss_client(oss.url, access_key, secret, token=token)
    upload_id = await begin(first)
    part = await send(first, upload_id, 1, b"1" * PART)
    oss.credentials[access_key] = Credential(secret, token, 0)
    assert await refused(send(first, upload_id, 2, b"2")) == (403, "SecurityTokenExpired")
    access_key, (secret, token, _) = oss.issue(3600)
    second = oss_client(oss.url, access_key, secret, token=token)
    await complete(second, upload_id, [part, await send(second, upload_id, 2, b"2")])
    assert await get(second, KEY) == b"1" * PART + b"2"


async def test_path_style_is_refused(oss: OssSimulator) -> None:
    host, port = oss.address
    for endpoint, more in ((f"http://{host}:{port}", {}), (oss.url, {"use_path_style": True})):
        client = oss_client(endpoint, oss.access_key, oss.secret_key, **more)
        assert await refused(put(client, KEY, b"1")) == (403, "SecondLevelDomainForbidden")
    wrong = oss_client(oss.url.replace("hangzhou", "beijing"), oss.access_key, oss.secret_key)
    assert await refused(put(wrong, KEY, b"1")) == (403, "AccessDenied")


class Signed:
    """What the SDK signs, as values to be changed before they go over the wire."""

    def __init__(self, oss: OssSimulator, method: str = "PUT", key: str = KEY, **headers: str) -> None:
        provider = sdk.credentials.StaticCredentialsProvider(oss.access_key, oss.secret_key)
        self.address = oss.address
        self.path = f"/{key}"
        self.host = f"{BUCKET}.{urlsplit(oss.url).netloc}"
        self.method = method
        request = sdk.types.HttpRequest(method, f"http://{self.host}{self.path}", headers=headers)
        context = sdk.types.SigningContext("oss", oss.region, BUCKET, key, request, credentials=None)
        context.credentials = provider.get_credentials()
        sdk.signer.SignerV4().sign(context)
        self.headers = dict(request.headers.items())

    async def send(self, body: bytes = b"", **changed: str) -> bytes:
        """The whole answer."""
        headers = {**self.headers, "Content-Length": str(len(body)), "Host": self.host, "Connection": "close"}
        headers |= {name.replace("_", "-"): value for name, value in changed.items()}
        head = f"{self.method} {self.path} HTTP/1.1\r\n" + "".join(f"{n}: {v}\r\n" for n, v in headers.items())
        reader, writer = await asyncio.open_connection(*self.address)
        writer.write(head.encode() + b"\r\n" + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", answer)
        assert length is not None
        answer += await reader.readexactly(int(length[1]))
        writer.close()
        return answer


async def test_what_is_sent_must_be_what_was_signed(oss: OssSimulator) -> None:
    signed = Signed(oss, **{"Content-Type": "text/plain", "x-oss-meta-a": "b"})
    assert (await signed.send(b"1")).startswith(b"HTTP/1.1 200")
    for changed in ({"Content_Type": "text/html"}, {"x_oss_meta_a": "c"}, {"x_oss_meta_n": "1"}, {"Content_MD5": "x"}):
        assert b"<Code>SignatureDoesNotMatch<" in await signed.send(b"1", **changed), changed
    assert (await signed.send(b"1", Cache_Control="no-cache")).startswith(b"HTTP/1.1 200"), "is not signed"
    other = signed.host.replace(BUCKET, "other")
    assert b"<Code>SignatureDoesNotMatch<" in await signed.send(b"1", Host=other), "the bucket is, by its name"
    signed.path += "?acl"
    assert b"<Code>SignatureDoesNotMatch<" in await signed.send(b"1")
    assert b"<Code>AccessDenied<" in await signed.send(b"1", Authorization="")


async def test_presigned_urls(client: sdk.Client, oss: OssSimulator) -> None:
    await put(client, KEY, b"1")
    pre = client.presign(sdk.GetObjectRequest(bucket=BUCKET, key=KEY), expires=dt.timedelta(minutes=5))

    async def fetch(url: str) -> bytes:
        reader, writer = await asyncio.open_connection(*oss.address)
        parts = urlsplit(url)
        writer.write(
            f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode()
        )
        answer = await reader.read()
        writer.close()
        return answer

    assert (await fetch(pre.url)).endswith(b"\r\n\r\n1")
    assert b"<Code>SignatureDoesNotMatch<" in await fetch(pre.url.replace("key?", "kez?"))
    assert b"<Code>SignatureDoesNotMatch<" in await fetch(pre.url.replace("expires=", "expires=1"))
    oss.clock_offset = 301
    assert b"<Code>AccessDenied<" in await fetch(pre.url)


@pytest.mark.parametrize("key", [".", "..", "a/../b", "a/./b"])
async def test_keys_that_the_sdk_cannot_send(oss: OssSimulator, key: str) -> None:
    """Its HTTP library resolves dots as in a file system; OSS takes them as they are."""
    assert (await Signed(oss, key=key).send(b"1")).startswith(b"HTTP/1.1 200")
    assert [*oss.buckets[BUCKET].objects] == [key]


# --- bodies


async def test_content_md5_is_checked(client: sdk.Client, oss: OssSimulator) -> None:
    md5 = base64.b64encode(hashlib.md5(b"1").digest()).decode()
    await put(client, KEY, b"1", content_md5=md5)
    assert await refused(put(client, KEY, b"2", content_md5=md5)) == (400, "InvalidDigest")
    assert await refused(put(client, KEY, b"2", content_md5="!")) == (400, "InvalidDigest")
    assert oss.buckets[BUCKET].objects[KEY].crc64 == crc64.xz(b"1")


async def test_aws_chunked_and_too_long_bodies_are_refused(oss: OssSimulator) -> None:
    signed = Signed(oss)
    assert b"aws-chunked encoding is not supported" in await signed.send(b"1", Content_Encoding="aws-chunked")
    answer = await signed.send(b"", Content_Length=str((5 << 30) + 1))
    assert b"<Code>EntityTooLarge<" in answer
    assert not oss.buckets[BUCKET].objects


async def test_a_body_that_ends_early_is_no_object(oss: OssSimulator) -> None:
    signed = Signed(oss)
    reader, writer = await asyncio.open_connection(*oss.address)
    headers = "".join(f"{name}: {value}\r\n" for name, value in signed.headers.items())
    writer.write(f"PUT {signed.path} HTTP/1.1\r\nHost: {signed.host}\r\n{headers}Content-Length: 9\r\n\r\n123".encode())
    await writer.drain()
    writer.write_eof()
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await reader.readexactly(1)
    writer.close()
    assert not oss.buckets[BUCKET].objects


@pytest.mark.parametrize("lengths", [(0, 0), (1, 0), (0, 1), (100, 1), (1, 99_999), (77_777, 77_777)])
def test_crcs_join(lengths: tuple[int, int]) -> None:
    data = random.Random(4).randbytes(sum(lengths))
    first, second = data[: lengths[0]], data[lengths[0] :]
    assert join_crc64(crc64.xz(first), crc64.xz(second), len(second)) == crc64.xz(data)


def test_the_crc_is_that_of_the_sdk() -> None:
    data = random.Random(5).randbytes(10_000)
    theirs = sdk.crc.Crc64(init_crc=0)
    theirs.write(data)
    assert theirs.sum64() == crc64.xz(data)


@pytest.mark.parametrize("kind", ["directory", "discard"])
async def test_where_bodies_lie(tmp_path: Path, kind: str) -> None:
    place: dict[str, Any] = {"directory": tmp_path} if kind == "directory" else {"discard": True}
    async with OssSimulator([BUCKET], **place) as oss:
        client = oss_client(oss.cname, oss.access_key, oss.secret_key, use_cname=True)
        assert (await put(client, KEY, b"1" * 1000)).hash_crc64 == str(crc64.xz(b"1" * 1000))
        assert len([*tmp_path.iterdir()]) == (kind == "directory")
        if kind == "directory":
            assert await get(client, KEY) == b"1" * 1000
        else:
            assert await refused(get(client, KEY)) == (501, "NotImplemented")
    assert not [*tmp_path.iterdir()]


# --- too many requests


async def test_a_budget_for_every_second(client: sdk.Client, oss: OssSimulator) -> None:
    oss.throttle.per_second = 5
    seen = []
    for _ in range(30):
        try:
            await put(client, KEY, b"1")
        except sdk.exceptions.OperationError as error:
            refusal = error.unwrap()
            seen.append((refusal.status_code, refusal.code))
            assert 1 <= int(refusal.headers["x-oss-qos-delay-time"]) <= 1000
    assert set(seen) == {(503, "TotalQpsLimitExceeded")}
    assert oss.refusals["TotalQpsLimitExceeded"] == len(seen)
    await asyncio.sleep(1)
    await put(client, KEY, b"1")


async def test_a_smaller_budget_for_keys_side_by_side(oss: OssSimulator) -> None:
    now = 1000.5
    oss.throttle.per_prefix = 2
    for key in ("2024-01-01/a", "2024-01-01/b", "2024-01-02/a", "top"):
        oss.throttle.admit(BUCKET, key, now)
    for key in ("2024-01-01/c", "2024-01-01/a"):
        with pytest.raises(Exception, match="Partition") as caught:
            oss.throttle.admit(BUCKET, key, now)
        assert getattr(caught.value, "code", "") == "PartitionQpsLimitted"
        assert getattr(caught.value, "delay", 0) == 500
    oss.throttle.admit("other", "2024-01-01/c", now)
    oss.throttle.admit(BUCKET, "2024-01-01/c", now + 0.5)


# --- faults


async def test_a_wrong_crc_in_the_answer_is_noticed_by_the_sdk(client: sdk.Client, oss: OssSimulator) -> None:
    oss.faults = [Fault(OtherCrc64(7), op="PutObject")]
    with pytest.raises(sdk.exceptions.OperationError, match="crc"):
        await put(client, KEY, b"1")
    assert (await put(client, KEY, b"1")).hash_crc64 == str(crc64.xz(b"1"))


async def test_a_damaged_body_has_another_crc(client: sdk.Client, oss: OssSimulator) -> None:
    oss.faults = [Fault(FlipBit(0), op="PutObject")]
    with pytest.raises(sdk.exceptions.OperationError, match="crc"):
        await put(client, KEY, b"1")


@pytest.mark.parametrize(
    ("action", "code"),
    [
        (refusal(503, "QpsLimitExceeded", delay=250), "QpsLimitExceeded"),
        (refusal(403, "SecurityTokenExpired"), "SecurityTokenExpired"),
    ],
)
async def test_scripted_refusals(client: sdk.Client, oss: OssSimulator, action: Status, code: str) -> None:
    oss.faults = [Fault(action, times=2)]
    for _ in range(2):
        with pytest.raises(sdk.exceptions.OperationError) as caught:
            await put(client, KEY, b"1")
        found = error_of(caught)
        assert (found.status_code, found.code) == (action.code, code)
        assert found.headers.get("x-oss-qos-delay-time") == action.headers.get("x-oss-qos-delay-time")
    await put(client, KEY, b"1")


@pytest.mark.parametrize("lost", ["before the reply", "during the work"])
async def test_complete_goes_on_when_the_client_has_hung_up(client: sdk.Client, oss: OssSimulator, lost: str) -> None:
    upload_id = await begin(client)
    parts = [await send(client, upload_id, 1, b"1" * PART), await send(client, upload_id, 2, b"2")]
    if lost == "before the reply":
        oss.faults = [Fault(LostReply(), op="CompleteMultipartUpload")]
    else:
        oss.complete_seconds = 1.0
    hasty = connect(oss, readwrite_timeout=0.3)
    with pytest.raises(sdk.exceptions.OperationError):
        await complete(hasty, upload_id, parts)
    assert (KEY in oss.buckets[BUCKET].objects) == (lost == "before the reply")
    for _ in range(100):
        if KEY in oss.buckets[BUCKET].objects:
            break
        await asyncio.sleep(0.05)
    assert (await head(client, KEY)).hash_crc64 == str(crc64.xz(b"1" * PART + b"2"))
    assert await refused(complete(client, upload_id, parts)) == (404, "NoSuchUpload")


def test_no_name_under_the_zone_leaves_this_machine() -> None:
    with resolving(ZONE):
        found = socket.getaddrinfo(f"{BUCKET}.oss-cn-hangzhou.{ZONE}", 80, type=socket.SOCK_STREAM)
    assert {entry[4][0] for entry in found} == {"127.0.0.1"}
