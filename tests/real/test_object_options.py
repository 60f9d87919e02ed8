"""What is said of objects, as real stores keep it: which of it they keep differs, and what they drop is refused."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from xml.etree import ElementTree as ET

import pytest
from fastcrc import crc32

from asynccopy.config.objects import ObjectOptions
from asynccopy.errors import AlreadyThere, SideError
from asynccopy.model import MIB, Attributes, FileStatus
from asynccopy.storage.interface import UploadLimits
from asynccopy.storage.s3 import S3Destination, S3Settings
from asynccopy.storage.s3.credentials import CredentialChain
from testbed.content import Content
from testbed.fill import fill
from testbed.hdfs import Hdfs
from testbed.s3 import Store, VersityGw
from tests.program import Program
from tests.suites.destination import content, noise, put, send

crc32c = crc32.iscsi
FILE = FileStatus("f", 1, 1_700_000_000_123, attributes=Attributes("étl 1%", "data platform", 0o1750))
TOLD = {
    "hdfs-owner": "%C3%A9tl 1%25",
    "hdfs-group": "data platform",
    "hdfs-permission": "1750",
    "hdfs-mtime": "1700000000123",
}
BODY = noise(5 * MIB + 1)


def connect(store: Store, bucket: str, options: ObjectOptions, *, sign_payload: bool = False) -> S3Destination:
    environ = store.env()
    return S3Destination(
        f"s3://{bucket}/some",
        settings=S3Settings.from_environment(environ=environ, sign_payload=sign_payload),
        objects=options,
        credentials=CredentialChain(environ),
    )


async def headers(destination: S3Destination, key: str) -> Mapping[str, str]:
    return (await destination._client.request("HEAD", key)).headers


def metadata(headers: Mapping[str, str]) -> dict[str, str]:
    return {name[11:]: value for name, value in headers.items() if name.startswith("x-amz-meta-")}


async def upload(destination: S3Destination, key: str, status: FileStatus | None = None) -> None:
    upload_id = await destination.create_upload(key, status)
    cuts = ((1, 0), (2, 5 * MIB))
    parts = [await send(destination, key, upload_id, n, at, BODY[at : at + 5 * MIB]) for n, at in cuts]
    await destination.complete_upload(key, upload_id, parts, crc32c(BODY), status)


@pytest.mark.parametrize("sign_payload", [False, True], ids=["unsigned", "signed"])
async def test_objects_say_whose_files_they_were(store: Store, bucket: str, sign_payload: bool) -> None:
    options = ObjectOptions(metadata=(("Origin", "dc 1"),))
    async with aclosing(connect(store, bucket, options, sign_payload=sign_payload)) as destination:
        await destination.check()
        original = await destination.put("some/put", b"1", crc32c(b"1"), FILE)
        await destination.put("some/empty/", b"", 0, FILE)
        await upload(destination, "some/parts", FILE)
        await destination.copy(original.key, "some/copy", 1, original.etag)
        empty = await destination.put("some/nothing", b"", 0, FILE)
        await destination.copy(empty.key, "some/nothing copied", 0, empty.etag)
        for name in ("put", "empty/", "parts", "copy", "nothing", "nothing copied"):
            assert metadata(await headers(destination, f"some/{name}")) == {**TOLD, "origin": "dc 1"}, name


async def test_a_storage_class(store: Store, bucket: str) -> None:
    """versitygw takes any and keeps none."""
    async with aclosing(connect(store, bucket, ObjectOptions(storage_class="STANDARD_IA"))) as destination:
        await destination.check()
        await put(destination, "some/put", b"1")
        await upload(destination, "some/parts")
        kept = [(await headers(destination, f"some/{name}")).get("x-amz-storage-class") for name in ("put", "parts")]
    assert kept == (["STANDARD", "STANDARD"] if isinstance(store, VersityGw) else ["STANDARD_IA", "STANDARD_IA"])


async def test_tags(store: Store, bucket: str) -> None:
    async with aclosing(connect(store, bucket, ObjectOptions(tags=(("team", "a b"), ("ü", "=+"))))) as destination:
        if not isinstance(store, VersityGw):
            with pytest.raises(SideError, match="does not take objects as they are asked for"):
                await destination.check()
            return
        await destination.check()
        original = await put(destination, "some/put", b"1")
        await upload(destination, "some/parts")
        await destination.copy(original.key, "some/copy", 1, original.etag)
        for name in ("put", "parts", "copy"):
            answer = await destination._client.request("GET", f"some/{name}", [("tagging", "")])
            tags = ET.fromstring(answer.body).iterfind(".//{*}Tag")
            assert {tag.findtext("{*}Key"): tag.findtext("{*}Value") for tag in tags} == {"team": "a b", "ü": "=+"}


async def test_a_copy_in_parts_keeps_metadata_and_tags(versitygw: Store, bucket: str) -> None:
    options = ObjectOptions(tags=(("team", "a b"),), forbid_overwrite=True)
    async with aclosing(connect(versitygw, bucket, options)) as destination:
        await upload(destination, "some/parts", FILE)
        original = await destination.head("some/parts")
        assert original is not None
        destination.limits = UploadLimits(max_part=5 * MIB)
        await destination.copy(original.key, "some/copy", original.size, original.etag)
        assert metadata(await headers(destination, "some/copy")) == TOLD
        answer = await destination._client.request("GET", "some/copy", [("tagging", "")])
        assert b"<Key>team</Key><Value>a b</Value>" in answer.body
        assert await content(destination, "some/copy") == BODY
        with pytest.raises(AlreadyThere):
            await destination.copy(original.key, "some/copy", original.size, original.etag)


@pytest.mark.parametrize("encryption", ["AES256", "aws:kms"])
async def test_encryption_that_a_store_has_not_is_refused(store: Store, bucket: str, encryption: str) -> None:
    async with aclosing(connect(store, bucket, ObjectOptions(encryption=encryption))) as destination:
        with pytest.raises(SideError, match="does not take objects as they are asked for"):
            await destination.check()
    assert store.open_uploads(bucket) == []


async def test_what_is_there_is_not_replaced(store: Store, bucket: str) -> None:
    async with aclosing(connect(store, bucket, ObjectOptions(forbid_overwrite=True))) as destination:
        await destination.check()
        assert store.read_back(bucket) == {}
        assert store.open_uploads(bucket) == []
        first = await put(destination, "some/key", b"first")
        with pytest.raises(AlreadyThere):
            await put(destination, first.key, b"other")
        with pytest.raises(AlreadyThere):
            await upload(destination, first.key)
        other = await put(destination, "some/other", b"other")
        with pytest.raises(AlreadyThere):
            await destination.copy(other.key, first.key, 5, other.etag)
        await upload(destination, "some/parts")
        assert await content(destination, first.key) == b"first"


async def test_an_archive_needs_a_store_with_checksums(store: Store, bucket: str) -> None:
    async with aclosing(connect(store, bucket, ObjectOptions(storage_class="DEEP_ARCHIVE"))) as destination:
        if isinstance(store, VersityGw):
            assert (await destination.check()).checksum == "CRC32C"
            return
        with pytest.raises(SideError, match="cannot be read"):
            await destination.check()


@pytest.mark.parametrize("processes", ["1", "2"])
def test_owners_of_hdfs_reach_the_objects(
    hdfs: Hdfs, root: str, store: Store, bucket: str, program: Program, processes: str
) -> None:
    """No user and no group need exist for HDFS to note that a file is theirs."""
    files = {"small": Content(1, 2_000), "large": Content(2, 6 * MIB), "empty": Content(3, 0), "d/e": Content(4, 10)}
    fill(hdfs.http, hdfs.user, root, files)
    moment = 1_600_000_000_123
    with hdfs.client() as client:
        client.mkdirs(f"{root}/nothing")
        for path in (*files, "nothing"):
            client.set_owner(f"{root}/{path}", "étl user", "data platform")
            client.set_permission(f"{root}/{path}", "1750" if path == "nothing" else "640")
            if path != "nothing":
                client.set_times(f"{root}/{path}", moment)
    ended = program.copy(hdfs.url + root, f"s3://{bucket}/x", "--processes", processes)
    assert ended.code == 0, ended.err
    assert ended.result["verified"] == len(files)
    for path in (*files, "nothing/"):
        told = metadata(store.client().request("HEAD", bucket, f"x/{path}").headers)
        assert (told["hdfs-owner"], told["hdfs-group"]) == ("%C3%A9tl user", "data platform"), path
        assert told["hdfs-permission"] == ("1750" if path == "nothing/" else "640"), path
        assert told.get("hdfs-mtime") == (None if path == "nothing/" else str(moment)), path
    options = ("--no-file-metadata", "--storage-class", "STANDARD_IA")
    ended = program.copy(hdfs.url + root, f"s3://{bucket}/y", *options)
    assert ended.code == 0, ended.err
    for path in (*files, "nothing/"):
        headers = store.client().request("HEAD", bucket, f"y/{path}").headers
        assert metadata(headers) == {}, path
        assert headers["x-amz-storage-class"] == ("STANDARD" if isinstance(store, VersityGw) else "STANDARD_IA"), path
