"""S3 sits the exam against the simulator, a good one and two poor ones; and what a copy inside the store costs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from msgspec.structs import replace

from asynccopy.errors import NotFound, Refused, ServerTrouble, Transient
from asynccopy.model import MIB, ObjectMeta
from asynccopy.simulators.faults import ErrorInOk, Fault
from asynccopy.simulators.s3 import S3Simulator
from asynccopy.storage.interface import Destination, UploadLimits
from asynccopy.storage.s3 import S3Destination, S3Settings
from asynccopy.storage.s3.credentials import CredentialChain
from tests.suites.destination import DestinationSuite, content, listed, noise, put

LEAST = 1000


def connect(s3: S3Simulator) -> S3Destination:
    environ = {
        "AWS_ACCESS_KEY_ID": s3.access_key,
        "AWS_SECRET_ACCESS_KEY": s3.secret_key,
        "AWS_ENDPOINT_URL_S3": s3.url,
        "AWS_REGION": s3.region,
    }
    settings = S3Settings.from_environment(environ=environ)
    destination = S3Destination("s3://bucket/some/where", settings=settings, credentials=CredentialChain(environ))
    destination.limits = UploadLimits(min_part=LEAST)
    return destination


@pytest.mark.parametrize(
    "options", [{}, {"weak": True}, {"etag": "opaque"}], ids=["good", "weak", "with ETags of its own"]
)
class TestS3Destination(DestinationSuite):
    @pytest.fixture
    async def destination(self, options: dict[str, Any]) -> AsyncIterator[Destination]:
        async with (
            S3Simulator(["bucket"], min_part=LEAST, max_copy=5 * MIB, **options) as s3,
            aclosing(connect(s3)) as destination,
        ):
            destination.page_size = self.page_size
            yield destination


@pytest.fixture
async def s3() -> AsyncIterator[S3Simulator]:
    async with S3Simulator(["bucket"], min_part=LEAST, max_copy=100_000) as s3:
        yield s3


@pytest.fixture
async def destination(s3: S3Simulator) -> AsyncIterator[S3Destination]:
    async with aclosing(connect(s3)) as destination:
        await destination.check()
        yield destination


async def test_a_copy_costs_one_request_where_the_store_heeds_the_condition(
    s3: S3Simulator, destination: S3Destination
) -> None:
    original = await put(destination, destination.prefix + "key", b"1234")
    for number in range(5):
        said = await destination.copy(original.key, f"{destination.prefix}{number}", 4, original.etag)
        assert (said.size, said.etag, said.crc32c) == (4, original.etag, original.crc32c)
    # The first one looks at the original, and asks for a copy on a condition that cannot be met.
    assert (s3.counts["CopyObject"], s3.counts["HeadObject"]) == (6, 1)


async def test_a_store_that_heeds_no_condition_is_looked_at_before_each_copy() -> None:
    async with S3Simulator(["bucket"], weak=True) as s3, aclosing(connect(s3)) as destination:
        original = await put(destination, destination.prefix + "key", b"1234")
        await destination.copy(original.key, destination.prefix + "first", 4, original.etag)
        copies = s3.counts["CopyObject"]
        await put(destination, original.key, b"4321")
        with pytest.raises(NotFound):
            await destination.copy(original.key, destination.prefix + "second", 4, original.etag)
        assert s3.counts["CopyObject"] == copies
        assert await destination.head(destination.prefix + "second") is None


async def test_the_store_heeds_a_condition_only_if_it_refuses(s3: S3Simulator, destination: S3Destination) -> None:
    """Trouble at the first copy proves nothing."""
    original = await put(destination, destination.prefix + "key", b"1234")
    s3.faults.append(Fault(ErrorInOk("InternalError"), "CopyObject", times=1))
    with pytest.raises(ServerTrouble):
        await destination.copy(original.key, destination.prefix + "copy", 4, original.etag)
    assert destination._copies.heeded is None
    await destination.copy(original.key, destination.prefix + "copy", 4, original.etag)
    assert destination._copies.heeded is True


async def test_an_original_that_vanished_proves_nothing_either(
    destination: S3Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = await put(destination, destination.prefix + "key", b"1234")
    head = destination.head

    async def deleted_since(key: str) -> ObjectMeta | None:
        seen = await head(key)
        await destination.delete(key)
        return seen

    monkeypatch.setattr(destination, "head", deleted_since)
    with pytest.raises(NotFound):
        await destination.copy(original.key, destination.prefix + "copy", 4, original.etag)
    assert destination._copies.heeded is None


async def test_an_error_inside_a_success_is_one(s3: S3Simulator, destination: S3Destination) -> None:
    original = await put(destination, destination.prefix + "key", b"1234")
    await destination.copy(original.key, destination.prefix + "copy", 4, original.etag)
    await destination.delete(destination.prefix + "copy")
    s3.faults.append(Fault(ErrorInOk("InternalError"), "CopyObject", times=1))
    with pytest.raises(ServerTrouble):
        await destination.copy(original.key, destination.prefix + "copy", 4, original.etag)
    assert await destination.head(destination.prefix + "copy") is None


async def test_in_parts_beyond_what_one_request_takes(s3: S3Simulator, destination: S3Destination) -> None:
    body = noise(250_001)
    original = await put(destination, destination.prefix + "key", body)
    with pytest.raises(Refused, match="maximum allowable size"):
        await destination.copy(original.key, destination.prefix + "copy", len(body), original.etag)
    destination.limits = replace(destination.limits, max_part=100_000)
    said = await destination.copy(original.key, destination.prefix + "copy", len(body), original.etag)
    assert (said.size, said.crc32c) == (len(body), None)
    assert said.etag.endswith("-3")
    assert await content(destination, said.key) == body
    assert s3.counts["UploadPartCopy"] == 3


async def test_a_copy_in_parts_that_fails_leaves_nothing(s3: S3Simulator, destination: S3Destination) -> None:
    body = noise(250_001)
    original = await put(destination, destination.prefix + "key", body)
    destination.limits = replace(destination.limits, max_part=100_000)
    for op in ("UploadPartCopy", "CompleteMultipartUpload"):
        s3.faults.append(Fault(ErrorInOk("InternalError"), op, times=1))
        with pytest.raises(Transient):
            await destination.copy(original.key, destination.prefix + "copy", len(body), original.etag)
        assert await destination.list_uploads(destination.prefix) == []
        assert await listed(destination) == [original.key]


async def test_an_original_replaced_between_two_parts_is_not_copied(
    s3: S3Simulator, destination: S3Destination, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = await put(destination, destination.prefix + "key", noise(250_001))
    destination.limits = replace(destination.limits, max_part=100_000)
    parts = destination._copies.part

    async def part(*arguments: Any) -> Any:
        copied = await parts(*arguments)
        await put(destination, original.key, b"other")
        return copied

    monkeypatch.setattr(destination._copies, "part", part)
    monkeypatch.setattr("asynccopy.storage.copies.WORKERS", 1)
    with pytest.raises(NotFound):
        await destination.copy(original.key, destination.prefix + "copy", 250_001, original.etag)
    assert await listed(destination) == [original.key]
    assert await destination.list_uploads(destination.prefix) == []
