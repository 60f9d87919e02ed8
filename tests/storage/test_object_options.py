"""What is said of objects reaches them, at both kinds of store, and what a store cannot do is refused by ``check``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Literal, cast

import pytest
from fastcrc import crc32
from msgspec.structs import replace

from asynccopy.config.objects import ObjectOptions
from asynccopy.errors import AlreadyThere, CredentialsRefused, Refused, SideError
from asynccopy.model import MIB, Attributes, FileStatus, ObjectMeta
from asynccopy.simulators.faults import Fault, LostReply, Status
from asynccopy.simulators.object_server import Keeping
from asynccopy.simulators.oss import OssSimulator
from asynccopy.simulators.s3 import S3Simulator
from asynccopy.simulators.store import StoredObject
from asynccopy.storage.bucket import Bucket
from asynccopy.storage.interface import Capabilities, UploadLimits
from asynccopy.storage.memory import MemoryDestination, MemorySource
from asynccopy.storage.oss import OssDestination, OssSettings
from asynccopy.storage.oss.credentials import CredentialChain as OssCredentials
from asynccopy.storage.s3 import S3Destination, S3Settings
from asynccopy.storage.s3.credentials import CredentialChain as S3Credentials
from tests.faults.wrapped import Bench, MemoryLog
from tests.suites.destination import content, noise, put, send

Server = S3Simulator | OssSimulator
crc32c = crc32.iscsi
LEAST = 1000
BODY = noise(2 * MIB + 1)
FILE = FileStatus("f", 1, 1_700_000_000_123, attributes=Attributes("étl 1%", "a/b", 0o750))
TOLD = {"hdfs-owner": "%C3%A9tl 1%25", "hdfs-group": "a/b", "hdfs-permission": "750", "hdfs-mtime": "1700000000123"}


def connect(server: Server, options: ObjectOptions | None = None) -> Bucket:
    destination: Bucket
    if isinstance(server, S3Simulator):
        environ = {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}
        destination = S3Destination(
            "s3://bucket/some",
            settings=S3Settings(endpoint=server.url, region=server.region),
            objects=options,
            credentials=S3Credentials(environ),
        )
    else:
        environ = {"OSS_ACCESS_KEY_ID": server.access_key, "OSS_ACCESS_KEY_SECRET": server.secret_key}
        destination = OssDestination(
            "oss://bucket/some",
            settings=OssSettings(endpoint=server.cname, region=server.region, custom_domain=True),
            objects=options,
            credentials=OssCredentials(environ),
        )
    destination.limits = UploadLimits(min_part=LEAST, max_key=1023)
    return destination


def start(kind: str, *, weak: bool = False, **keeping: object) -> Server:
    told = cast("Keeping", keeping)
    if kind == "s3":
        return S3Simulator(["bucket"], min_part=LEAST, weak=weak, **told)
    return OssSimulator(["bucket"], min_part=LEAST, **told)


@pytest.fixture(params=["s3", "oss"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Server]:
    async with start(request.param) as server:
        yield server


def held(server: Server) -> dict[str, StoredObject]:
    return dict(server.buckets["bucket"].objects)


def told(stored: StoredObject) -> dict[str, str]:
    """An object's headers without what the kind of store puts before their names."""
    return {name.removeprefix("x-amz-").removeprefix("x-oss-"): value for name, value in stored.headers.items()}


def metadata(stored: StoredObject) -> dict[str, str]:
    return {name[5:]: value for name, value in told(stored).items() if name.startswith("meta-")}


async def upload(destination: Bucket, key: str, body: bytes, status: FileStatus | None = None) -> ObjectMeta:
    upload_id = await destination.create_upload(key, status)
    part = await send(destination, key, upload_id, 1, 0, body)
    return await destination.complete_upload(key, upload_id, [part], crc32c(body), status)


async def sitting(destination: Bucket, source: MemorySource) -> Bench:
    return Bench(source, cast("MemoryDestination", destination), checksum=(await destination.capable()).checksum)


def wanted(server: Server) -> ObjectOptions:
    amazon = isinstance(server, S3Simulator)
    return ObjectOptions(
        storage_class="STANDARD_IA" if amazon else "IA",
        encryption="aws:kms" if amazon else "KMS",
        kms_key="key-1",
        tags=(("team", "a b"), ("ü", "=+")),
        metadata=(("Origin", "dc 1%"),),
    )


# --- what reaches the objects -------------------------------------------------------------------------------------


async def test_options_reach_every_object(server: Server) -> None:
    async with aclosing(connect(server, wanted(server))) as destination:
        await destination.check()
        original = await destination.put("some/put", b"1", crc32c(b"1"), FILE)
        empty = await destination.put("some/empty/", b"", 0, FILE)
        await upload(destination, "some/parts", b"1", FILE)
        await destination.copy(original.key, "some/copy", 1, original.etag)
        await destination.copy(empty.key, "some/moved/", 0, empty.etag)
        destination.limits, server.min_part = UploadLimits(max_part=4), 1
        large = await destination.put("some/large", b"12345678", crc32c(b"12345678"), FILE)
        await destination.copy(large.key, "some/copied in parts", 8, large.etag)
    assert len(held(server)) == 7
    key_id = "aws-kms-key-id" if isinstance(server, S3Simulator) else "key-id"
    for key, stored in held(server).items():
        headers = told(stored)
        assert headers["storage-class"] == wanted(server).storage_class, key
        assert headers["server-side-encryption"] == wanted(server).encryption, key
        assert headers[f"server-side-encryption-{key_id}"] == "key-1", key
        assert metadata(stored) == {**TOLD, "origin": "dc 1%25"}, key
        assert stored.tags == {"team": "a b", "ü": "=+"}, key


async def test_the_file_costs_no_request(server: Server) -> None:
    counts = []
    for options in (ObjectOptions(file_metadata=False), ObjectOptions()):
        async with aclosing(connect(server, options)) as destination:
            await destination.check()
            server.counts.clear()
            await destination.put("some/put", b"1", crc32c(b"1"), FILE)
            await upload(destination, "some/parts", b"1", FILE)
            counts.append(dict(server.counts))
        for stored in held(server).values():
            assert metadata(stored) == (TOLD if options.file_metadata else {})
    assert counts[0] == counts[1]


async def test_a_whole_copy_tells_of_each_file(server: Server) -> None:
    """Through ``transfer``: small, large and empty files, and the marker of an empty directory."""
    async with aclosing(connect(server)) as destination:
        source = MemorySource({"small": b"1", "large": BODY, "empty": b""}, block_size=MIB)
        bench = await sitting(destination, source)
        paths = ["small", "large", "empty"]
        files = [replace(await source.status(path), attributes=FILE.attributes) for path in paths]
        marker = FileStatus("folder/", 0, 5, is_directory=True, attributes=FILE.attributes)
        for status in (*files, marker):
            await bench.copier.copy(status, MemoryLog())
            expected = {**TOLD, "hdfs-mtime": str(status.modification_time)}
            if status is marker:
                del expected["hdfs-mtime"]
            assert metadata(held(server)[f"some/{status.path}"]) == expected
    assert len(held(server)) == 4


# --- what must not be overwritten ---------------------------------------------------------------------------------

KEEPING = ObjectOptions(forbid_overwrite=True)


async def test_what_is_there_is_not_replaced(server: Server) -> None:
    async with aclosing(connect(server, KEEPING)) as destination:
        await destination.check()
        assert held(server) == {}
        assert server.buckets["bucket"].uploads == {}
        first = await put(destination, "some/key", b"first")
        with pytest.raises(AlreadyThere) as caught:
            await put(destination, first.key, b"other")
        assert "leave out forbid_overwrite" in caught.value.hint
        with pytest.raises(AlreadyThere):
            await upload(destination, first.key, b"other")
        other = await put(destination, "some/other", b"other")
        large, server.min_part = UploadLimits(max_part=4), 1
        for limits in (destination.limits, large):
            destination.limits = limits
            with pytest.raises(AlreadyThere):
                await destination.copy(other.key, first.key, 5, other.etag)
        assert await content(destination, first.key) == b"first"


@pytest.mark.parametrize("heedless", ["PutObject", "CompleteMultipartUpload"])
async def test_a_store_that_replaces_is_refused(server: Server, heedless: str) -> None:
    server.overwrites.add(heedless)
    async with aclosing(connect(server, KEEPING)) as destination:
        with pytest.raises(SideError, match="replaces what is there") as caught:
            await destination.check()
    assert caught.value.exit_code == 3
    assert held(server) == {}
    assert server.buckets["bucket"].uploads == {}


async def test_a_trial_object_that_was_left_is_no_matter(server: Server) -> None:
    async with aclosing(connect(server)) as destination:
        await put(destination, "some/.asynccopy-probe", b"left")
    async with aclosing(connect(server, KEEPING)) as destination:
        await destination.check()
    assert held(server) == {}


async def test_who_may_not_delete_cannot_try_it_out(server: Server) -> None:
    server.faults.append(Fault(Status(403, "AccessDenied"), "DeleteObject"))
    async with aclosing(connect(server, KEEPING)) as destination:
        with pytest.raises(CredentialsRefused) as caught:
            await destination.check()
    assert "to delete, to try forbid_overwrite out" in caught.value.hint


@pytest.mark.parametrize("size", [0, 1000, len(BODY)])
@pytest.mark.parametrize(("kind", "checksum"), [("s3", "CRC"), ("s3", "MD5"), ("s3", None), ("oss", "CRC")])
async def test_the_very_bytes_are_taken_for_copied(
    kind: str, checksum: Literal["CRC", "MD5"] | None, size: int
) -> None:
    """The reply to what made it may be lost; or it was there before."""
    etag = "opaque" if checksum is None else "md5"
    operation = "PutObject" if size < MIB else "CompleteMultipartUpload"
    async with start(kind, etag=etag) as server, aclosing(connect(server, KEEPING)) as destination:
        await destination.check()
        if checksum != "CRC":
            destination._capabilities = Capabilities(checksum)
        fault = Fault(LostReply(), operation)
        server.faults.append(fault)
        source = MemorySource({"f": BODY[:size]}, block_size=MIB)
        for _ in range(2):
            await (await sitting(destination, source)).copy("f")
        assert fault.hits == 1
        assert await content(destination, "some/f") == BODY[:size]
        changed = MemorySource({"f": b"x" * (size or 1)}, block_size=MIB)
        with pytest.raises(AlreadyThere):
            await (await sitting(destination, changed)).copy("f")
        assert await content(destination, "some/f") == BODY[:size]
        assert server.buckets["bucket"].uploads == {}


# --- what a store cannot do ---------------------------------------------------------------------------------------


async def test_archived_objects_are_proven_without_being_read(server: Server) -> None:
    cold = "DEEP_ARCHIVE" if isinstance(server, S3Simulator) else "ColdArchive"
    async with aclosing(connect(server, ObjectOptions(storage_class=cold))) as destination:
        bench = await sitting(destination, MemorySource({"small": b"1", "large": BODY}, block_size=MIB))
        server.faults.append(Fault(LostReply(), "CompleteMultipartUpload"))
        for path in ("small", "large"):
            assert (await bench.copy(path)).evidence.method == "checksum"
        with pytest.raises(Refused, match="InvalidObjectState"):
            await content(destination, "some/small")
        meta = await destination.head("some/small")
        assert meta is not None
        with pytest.raises(Refused) as caught:
            await destination.copy(meta.key, "some/copy", meta.size, meta.etag)
        assert "must be restored" in caught.value.hint
    assert {told(stored)["storage-class"] for stored in held(server).values()} == {cold}
    assert server.counts["GetObject"] == 1


async def test_an_archive_without_checksums_is_refused() -> None:
    async with start("s3", weak=True) as server:
        for kind in ("GLACIER", "DEEP_ARCHIVE", "ARCHIVE", "COLD"):
            async with aclosing(connect(server, ObjectOptions(storage_class=kind))) as destination:
                with pytest.raises(SideError, match="cannot be read"):
                    await destination.check()
        async with aclosing(connect(server, ObjectOptions(storage_class="GLACIER_IR"))) as destination:
            assert (await destination.check()).checksum == "MD5"
        assert server.buckets["bucket"].uploads == {}


async def test_a_class_that_the_store_does_not_know_is_refused(server: Server) -> None:
    async with aclosing(connect(server, ObjectOptions(storage_class="NO_SUCH"))) as destination:
        with pytest.raises(SideError, match="does not take objects as they are asked for"):
            await destination.check()


async def test_encryption_that_is_passed_over_is_refused() -> None:
    async with start("s3", weak=True) as server:
        async with aclosing(connect(server, ObjectOptions(encryption="AES256"))) as destination:
            with pytest.raises(SideError, match="does not say that it encrypts by AES256"):
                await destination.check()
        assert server.buckets["bucket"].uploads == {}


async def test_a_store_that_ignores_conditions_is_refused() -> None:
    async with start("s3", weak=True) as server, aclosing(connect(server, KEEPING)) as destination:
        with pytest.raises(SideError, match="if-none-match"):
            await destination.check()
        assert held(server) == {}


async def test_too_much_metadata_says_what_to_do() -> None:
    long = FileStatus("f", 1, 1, attributes=Attributes("é" * 400, "g", 0o644))
    async with start("s3") as server, aclosing(connect(server)) as destination:
        with pytest.raises(Refused, match="MetadataTooLarge") as caught:
            await destination.put("some/f", b"1", crc32c(b"1"), long)
    assert "file_metadata = false" in caught.value.hint
