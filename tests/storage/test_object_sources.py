"""S3 and OSS sit the exam of a Source against the simulators; and which keys are paths, and which are refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing

import pytest
from fastcrc import crc32, crc64

from asynccopy.errors import (
    CredentialsRefused,
    NameRefused,
    NotFound,
    NotThere,
    Refused,
    SourceChanged,
    Unreachable,
    UsageError,
)
from asynccopy.model import ByteRange, FileChecksum
from asynccopy.simulators.faults import Fault, WrongRange
from asynccopy.simulators.oss import OssSimulator
from asynccopy.simulators.s3 import S3Simulator
from asynccopy.storage.interface import Destination, Source
from asynccopy.storage.object_source import ObjectSource
from asynccopy.storage.oss import OssDestination, OssSettings, OssSource
from asynccopy.storage.oss.credentials import CredentialChain as OssCredentials
from asynccopy.storage.s3 import S3Destination, S3Settings, S3Source
from asynccopy.storage.s3.credentials import CredentialChain as S3Credentials
from tests.suites.destination import listed, put
from tests.suites.objects import ObjectSourceSuite
from tests.suites.source import entries_of, read

Simulator = S3Simulator | OssSimulator


def s3_environment(s3: S3Simulator) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": s3.access_key,
        "AWS_SECRET_ACCESS_KEY": s3.secret_key,
        "AWS_ENDPOINT_URL_S3": s3.url,
        "AWS_REGION": s3.region,
    }


def oss_environment(oss: OssSimulator) -> dict[str, str]:
    return {
        "OSS_ACCESS_KEY_ID": oss.access_key,
        "OSS_ACCESS_KEY_SECRET": oss.secret_key,
        "OSS_ENDPOINT": oss.url,
        "OSS_REGION": oss.region,
    }


def source_of(simulator: Simulator, path: str, **wrong: str) -> ObjectSource:
    if isinstance(simulator, S3Simulator):
        environ = s3_environment(simulator) | wrong
        settings = S3Settings.from_environment(environ=environ)
        return S3Source(f"s3://bucket/{path}", settings=settings, credentials=S3Credentials(environ))
    environ = oss_environment(simulator) | wrong
    return OssSource(
        f"oss://bucket/{path}",
        settings=OssSettings.from_environment(environ=environ),
        credentials=OssCredentials(environ),
    )


def destination_of(simulator: Simulator) -> Destination:
    if isinstance(simulator, S3Simulator):
        environ = s3_environment(simulator)
        return S3Destination(
            "s3://bucket", settings=S3Settings.from_environment(environ=environ), credentials=S3Credentials(environ)
        )
    environ = oss_environment(simulator)
    return OssDestination(
        "oss://bucket", settings=OssSettings.from_environment(environ=environ), credentials=OssCredentials(environ)
    )


SIMULATORS: dict[str, Callable[[], Simulator]] = {
    "s3": lambda: S3Simulator(["bucket"]),
    "weak s3": lambda: S3Simulator(["bucket"], weak=True),
    "oss": lambda: OssSimulator(["bucket"]),
}


@pytest.fixture(params=SIMULATORS)
async def simulator(request: pytest.FixtureRequest) -> AsyncIterator[Simulator]:
    async with SIMULATORS[request.param]() as simulator:
        yield simulator


@pytest.fixture
async def store(simulator: Simulator) -> AsyncIterator[Destination]:
    async with aclosing(destination_of(simulator)) as store:
        yield store


@pytest.fixture
async def bucket(simulator: Simulator) -> AsyncIterator[ObjectSource]:
    async with aclosing(source_of(simulator, "")) as source:
        source.page_size = 3
        yield source


class TestObjectSource(ObjectSourceSuite):
    @pytest.fixture
    async def source(self, simulator: Simulator) -> AsyncIterator[Source]:
        self.simulator = simulator
        async with AsyncExitStack() as stack:
            yield await self.opened(stack)

    def reading(self, path: str) -> ObjectSource:
        return source_of(self.simulator, path)

    def writing_side(self) -> AbstractAsyncContextManager[Destination]:
        return aclosing(destination_of(self.simulator))


# --- the root -----------------------------------------------------------------------------------------------------


async def test_a_whole_bucket(bucket: ObjectSource, store: Destination) -> None:
    """It may be empty; all else must hold something."""
    assert (await bucket.check()).is_directory
    assert (await bucket.list("")).entries == []
    await put(store, "a/b", b"1")
    await put(store, "top", b"22")
    assert bucket.name == ""
    assert {entry.path for entry in await entries_of(bucket, "")} == {"a", "top"}
    assert (await bucket.status("a/b")).length == 1


async def test_an_object_that_is_a_prefix_too_is_no_root(simulator: Simulator, store: Destination) -> None:
    """One of the two would be left out."""
    await put(store, "data", b"1")
    await put(store, "data/file", b"2")
    async with aclosing(source_of(simulator, "data")) as source:
        with pytest.raises(NotThere, match="both an object and a prefix"):
            await source.check()


async def test_what_is_wrong_with_a_side(simulator: Simulator) -> None:
    wrong = {"AWS_SECRET_ACCESS_KEY": "wrong", "OSS_ACCESS_KEY_SECRET": "wrong"}
    async with aclosing(source_of(simulator, "x", **wrong)) as source:
        with pytest.raises(CredentialsRefused):
            await source.check()
    simulator.buckets.clear()
    async with aclosing(source_of(simulator, "x")) as source:
        with pytest.raises(NotThere, match="bucket does not exist"):
            await source.check()
    nowhere = {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9", "OSS_ENDPOINT": "http://oss-cn-hangzhou.localhost:9"}
    async with aclosing(source_of(simulator, "x", **nowhere)) as source:
        with pytest.raises(Unreachable):
            await source.check()


@pytest.mark.parametrize(
    "url", ["s3://", "s3://key:secret@bucket/x", "oss://bucket/x", "s3:/bucket", f"s3://b/{'x' * 1100}"]
)
def test_urls_that_name_no_bucket(url: str) -> None:
    with pytest.raises((UsageError, NameRefused)) as raised:
        S3Source(url, settings=S3Settings(endpoint="http://127.0.0.1:9"))
    assert "secret" not in str(raised.value)


# --- keys and paths -----------------------------------------------------------------------------------------------


async def test_a_name_may_be_a_file_and_a_directory(bucket: ObjectSource, store: Destination) -> None:
    """Also where a page ends between the two: other keys come between them."""
    keys = ["a", "a!", "a#", "a-", "a/b", "a0"]
    for key in keys:
        await put(store, key, key.encode())
    entries = await entries_of(bucket, "")
    assert sorted(entry.path for entry in entries if not entry.is_directory) == ["a", "a!", "a#", "a-", "a0"]
    assert [entry.path for entry in entries if entry.is_directory] == ["a"]
    assert [entry.path for entry in await entries_of(bucket, "a")] == ["a/b"]
    assert await read(bucket, "a", ByteRange(0, 1)) == b"a"


async def test_markers_are_directories_and_no_files(bucket: ObjectSource, store: Destination) -> None:
    for key in ("empty/", "full/", "full/file", "nested/deep/"):
        await put(store, key, b"")
    assert {(entry.path, entry.is_directory) for entry in await entries_of(bucket, "")} == {
        ("empty", True),
        ("full", True),
        ("nested", True),
    }
    assert await entries_of(bucket, "empty") == []
    assert [entry.path for entry in await entries_of(bucket, "full")] == ["full/file"]
    assert [entry.path for entry in await entries_of(bucket, "nested")] == ["nested/deep"]


ODD = ["/lead", "d//twice", "d/.", "d/..", "d/./x", "d/../x", "d/data/"]


@pytest.mark.parametrize("odd", ODD)
async def test_a_key_that_is_no_path_is_refused_after_all_else(
    bucket: ObjectSource, store: Destination, odd: str
) -> None:
    if odd.startswith("/") and isinstance(store, OssDestination):
        pytest.skip("OSS takes no such key")
    good = [f"{directory}{name}" for directory in ("", "d/", "d/data/") for name in ("!", "1", "2", "3", "z")]
    for key in (odd, *good):
        await put(store, key, b"bytes")
    found, directories = [], [""]
    refusals: list[str] = []
    while directories:
        directory, after = directories.pop(), ""
        while True:
            try:
                page = await bucket.list(directory, after)
            except NameRefused as error:
                refusals.append(error.message)
                break
            found += [entry.path for entry in page.entries if not entry.is_directory]
            directories += [entry.path for entry in page.entries if entry.is_directory]
            if page.after is None:
                break
            after = page.after
    assert sorted(found) == sorted(good)
    [message] = refusals
    assert f"bucket/{odd.removesuffix('x').removesuffix('lead').removesuffix('twice')}" in message


async def test_a_directory_of_refused_keys_alone_is_not_taken_for_empty(
    bucket: ObjectSource, store: Destination
) -> None:
    for key in ("d//a", "d/./b", "d/../c", "d/..", "d/."):
        await put(store, key, b"x")
    with pytest.raises(NameRefused, match="and 2 more"):
        bucket.page_size = 1000
        await bucket.list("d")
    bucket.page_size = 1
    with pytest.raises(NameRefused, match="bucket/d/"):
        await bucket.list("d")


async def test_what_was_refused_and_is_gone_refuses_no_more(bucket: ObjectSource, store: Destination) -> None:
    """A cursor outlives its run: the operator may have renamed the object meanwhile."""
    for key in ("d/.", "d/file"):
        await put(store, key, b"x")
    page = await bucket.list("d")
    assert [entry.path for entry in page.entries] == ["d/file"]
    assert page.after is not None
    with pytest.raises(NameRefused):
        await bucket.list("d", page.after)
    await store.delete("d/.")
    last = await bucket.list("d", page.after)
    assert (last.entries, last.after) == ([], None)


@pytest.mark.parametrize("path", ["/x", "x//y", "./x", "x/..", "x/"])
async def test_what_is_no_path_is_not_found(bucket: ObjectSource, store: Destination, path: str) -> None:
    await put(store, "x", b"1")
    for call in (bucket.status(path), bucket.list(path), bucket.open(path, ByteRange(0, 1)), bucket.checksum(path)):
        with pytest.raises(NotFound):
            await call


# --- versions and reads -------------------------------------------------------------------------------------------


async def test_the_version_changes_with_the_bytes_alone(bucket: ObjectSource, store: Destination) -> None:
    """Same length, same second: the ETag tells."""
    ids = set()
    for body in (b"one", b"two", b"six", b"one"):
        await put(store, "key", body)
        ids.add((await bucket.status("key")).file_id)
    assert len(ids) == 3
    assert all(0 < number < 1 << 63 for number in ids)


async def test_what_was_replaced_since_the_listing_is_not_read(
    simulator: Simulator, bucket: ObjectSource, store: Destination
) -> None:
    await put(store, "key", b"12345")
    await bucket.list("")
    await put(store, "key", b"54321")
    if isinstance(simulator, S3Simulator) and simulator._weak:
        assert await read(bucket, "key", ByteRange(0, 5)) == b"54321"  # told only by the version, once it was read
        return
    with pytest.raises(SourceChanged):
        await read(bucket, "key", ByteRange(1, 3))
    assert await read(bucket, "key", ByteRange(1, 3)) == b"432"


async def test_what_was_listed_is_opened_by_one_request(
    simulator: Simulator, bucket: ObjectSource, store: Destination
) -> None:
    await put(store, "key", b"12345")
    await bucket.list("")
    simulator.counts.clear()
    assert await read(bucket, "key", ByteRange(0, 5)) == b"12345"
    assert simulator.counts == {"GetObject": 1}
    async with aclosing(source_of(simulator, "")) as other:
        simulator.counts.clear()
        for _ in range(3):
            assert await read(other, "key", ByteRange(1, 2)) == b"23"
        assert simulator.counts == {"GetObject": 3, "HeadObject": 1}


async def test_only_so_many_etags_are_remembered(
    simulator: Simulator, bucket: ObjectSource, store: Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asynccopy.storage.object_source.KNOWN", 5)
    for number in range(12):
        await put(store, str(number), b"1")
    await entries_of(bucket, "")
    assert len(bucket._known) == 5


async def test_a_store_that_ignores_the_range_is_refused(
    simulator: Simulator, bucket: ObjectSource, store: Destination
) -> None:
    await put(store, "key", b"12345")
    simulator.faults.append(Fault(WrongRange(whole=True), "GetObject"))
    with pytest.raises(Refused):
        await read(bucket, "key", ByteRange(1, 2))


async def test_the_checksum_is_the_stores(simulator: Simulator, bucket: ObjectSource, store: Destination) -> None:
    await put(store, "key", b"12345")
    checksum = await bucket.checksum("key")
    if isinstance(simulator, OssSimulator):
        assert checksum == FileChecksum("CRC64", f"{crc64.xz(b'12345'):016x}")
    else:
        assert checksum == (None if simulator._weak else FileChecksum("CRC32C", f"{crc32.iscsi(b'12345'):08x}"))
    assert await listed(store) == ["key"]
