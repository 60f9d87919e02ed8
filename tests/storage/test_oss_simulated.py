"""OSS sits the exam against the simulator; and what its checksums, options, refusals and credentials come to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import cast

import pytest
from fastcrc import crc64

from asynccopy.config.objects import ObjectOptions
from asynccopy.errors import (
    AsyncCopyError,
    ChecksumMismatch,
    CredentialsRefused,
    NameRefused,
    NotThere,
    SideError,
    Throttled,
    WrongServer,
)
from asynccopy.model import MIB
from asynccopy.retry import RetryPolicy
from asynccopy.simulators.faults import Action, Fault, FlipBit, LostReply, OtherCrc64, Reset, Status
from asynccopy.simulators.oss import OssSimulator
from asynccopy.simulators.s3 import S3Simulator
from asynccopy.simulators.store import StoredObject
from asynccopy.storage.http import HttpDoor
from asynccopy.storage.interface import Destination, UploadLimits
from asynccopy.storage.memory import MemoryDestination, MemorySource
from asynccopy.storage.oss import OssDestination, OssSettings
from asynccopy.storage.oss.credentials import CredentialChain
from asynccopy.storage.oss.issuers import Issued
from asynccopy.storage.retrying import RetryingDestination
from asynccopy.storage.signing import Credentials
from tests.faults.wrapped import Bench, MemoryLog, Step
from tests.suites.destination import Body, DestinationSuite, noise, put, send
from tests.unit.test_copy import Once

LEAST = 1000


def environment(oss: OssSimulator) -> dict[str, str]:
    return {
        "OSS_ACCESS_KEY_ID": oss.access_key,
        "OSS_ACCESS_KEY_SECRET": oss.secret_key,
        "OSS_ENDPOINT": oss.url,
        "OSS_REGION": oss.region,
    }


def connect(oss: OssSimulator, objects: ObjectOptions | None = None, prefix: str = "some/where") -> OssDestination:
    environ = environment(oss)
    settings = OssSettings.from_environment(environ=environ)
    credentials = CredentialChain(environ)
    destination = OssDestination(f"oss://bucket/{prefix}", settings=settings, objects=objects, credentials=credentials)
    destination.limits = UploadLimits(min_part=LEAST, max_key=1023)
    return destination


@pytest.mark.parametrize("etag", ["md5", "opaque"])
class TestOssDestination(DestinationSuite):
    @pytest.fixture
    async def destination(self, etag: str) -> AsyncIterator[Destination]:
        async with (
            OssSimulator(["bucket"], min_part=LEAST, max_put=5 * MIB, etag=etag) as oss,
            aclosing(connect(oss)) as destination,
        ):
            destination.page_size = self.page_size
            yield destination


@pytest.fixture
async def oss() -> AsyncIterator[OssSimulator]:
    async with OssSimulator(["bucket"], min_part=LEAST) as oss:
        yield oss


@pytest.fixture
async def destination(oss: OssSimulator) -> AsyncIterator[OssDestination]:
    async with aclosing(connect(oss)) as destination:
        assert (await destination.check()).checksum == "CRC64"
        oss.counts.clear()
        yield destination


def held(oss: OssSimulator) -> dict[str, StoredObject]:
    return {key: oss.buckets["bucket"].objects[key] for key in oss.buckets["bucket"].keys()}  # noqa: SIM118


@pytest.mark.parametrize("key", ["/key", "\\key", "", "k" * 1024, "\udc80"])
async def test_keys_that_oss_refuses_are_refused_by_name(oss: OssSimulator, key: str) -> None:
    async with aclosing(connect(oss, prefix="")) as destination:
        with pytest.raises(NameRefused):
            await destination.put(key, b"", 0)
        with pytest.raises(NameRefused):
            await destination.create_upload(key)
        await put(destination, "a/\\key", b"")
        await put(destination, "k" * 1023, b"")
    assert oss.refusals == {}


# --- checksums ----------------------------------------------------------------------------------------------------


async def test_a_put_that_arrived_differently_does_not_stay(oss: OssSimulator, destination: OssDestination) -> None:
    oss.faults.append(Fault(FlipBit(3), "PutObject"))
    with pytest.raises(ChecksumMismatch, match="removed"):
        await put(destination, "some/where/key", b"12345")
    assert held(oss) == {}


async def test_a_part_that_arrived_differently_is_no_part(oss: OssSimulator, destination: OssDestination) -> None:
    upload = await destination.create_upload("some/where/key")
    oss.faults.append(Fault(FlipBit(3), "UploadPart"))
    with pytest.raises(ChecksumMismatch, match="part 1"):
        await send(destination, "some/where/key", upload, 1, 0, b"12345")


async def test_parts_that_were_joined_differently_do_not_stay(oss: OssSimulator, destination: OssDestination) -> None:
    upload = await destination.create_upload("some/where/key")
    part = await send(destination, "some/where/key", upload, 1, 0, b"12345")
    oss.faults.append(Fault(OtherCrc64(7), "CompleteMultipartUpload"))
    with pytest.raises(ChecksumMismatch, match="0000000000000007"):
        await destination.complete_upload("some/where/key", upload, [part], 0)
    assert held(oss) == {}


# --- whole files --------------------------------------------------------------------------------------------------

LARGE = noise(3 * MIB + 12_345)


def bench(destination: OssDestination, body: bytes, step: Step | None = None) -> Bench:
    source = MemorySource({"f": body}, block_size=MIB)
    return Bench(source, cast("MemoryDestination", destination), step, checksum="CRC64")


@pytest.mark.parametrize("size", [0, 1, MIB, MIB + 1, 3 * MIB, len(LARGE)])
async def test_every_size_is_proven_by_what_oss_tells(
    oss: OssSimulator, destination: OssDestination, size: int
) -> None:
    copied = await bench(destination, LARGE[:size]).copy("f")
    stored = held(oss)["some/where/f"]
    assert copied.evidence.method == "checksum"
    assert copied.evidence.object == f"CRC64:{crc64.xz(LARGE[:size]):016x}"
    assert (stored.size, stored.crc64) == (size, crc64.xz(LARGE[:size]))
    assert oss.counts["GetObject"] == 0  # nothing is read back
    assert oss.buckets["bucket"].uploads == {}


async def test_the_checksums_of_finished_parts_outlive_a_crash(oss: OssSimulator, destination: OssDestination) -> None:
    log = MemoryLog()
    crashing = bench(destination, LARGE, Once("upload_part", "before", PermissionError, nth=3, times=9))
    crashing._side("checksum", MIB, 1, RetryPolicy(), "CRC64")
    with pytest.raises(PermissionError):
        await crashing.copy("f", log)
    assert log.kept is not None
    finished = len(log.kept.parts)
    assert finished == 2
    async with aclosing(connect(oss)) as later:  # another process, which knows only what was logged
        later.limits = destination.limits
        again = Bench(crashing.inner_source, cast("MemoryDestination", later), checksum="CRC64")
        copied = await again.copy("f", log)
    assert copied.resumed_parts == finished
    assert copied.evidence.object == f"CRC64:{crc64.xz(LARGE):016x}"
    assert oss.counts["GetObject"] == 0


@pytest.mark.parametrize("size", [1000, len(LARGE)])
@pytest.mark.parametrize(
    ("action", "times"),
    [(LostReply(), 1), (LostReply(), 3), (OtherCrc64(), 1), (Reset(), 1), (Status(500), 2), (Status(503), 2)],
    ids=repr,
)
async def test_trouble_at_any_request_leaves_the_right_object(
    oss: OssSimulator, destination: OssDestination, size: int, action: Action, times: int
) -> None:
    operations = ["PutObject"] if size < MIB else ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"]
    for operation in operations:
        fault = Fault(action, operation, times=times)
        oss.faults[:] = [fault]
        copied = await bench(destination, LARGE[:size]).copy("f")
        assert fault.hits
        assert copied.evidence.object == f"CRC64:{crc64.xz(LARGE[:size]):016x}"
        assert held(oss)["some/where/f"].crc64 == crc64.xz(LARGE[:size])
        assert oss.buckets["bucket"].uploads == {}
        assert oss.counts["GetObject"] == 0
        await destination.delete("some/where/f")


async def test_what_always_arrives_differently_fails_by_name(oss: OssSimulator, destination: OssDestination) -> None:
    oss.faults.append(Fault(FlipBit(3), "UploadPart", part=2, times=None))
    impatient = bench(destination, LARGE)
    impatient._side("checksum", MIB, 4, RetryPolicy(first=0.001, most=0.001, patience=0.1), "CRC64")
    with pytest.raises(ChecksumMismatch, match="part 2"):
        await impatient.copy("f")
    assert held(oss) == {}
    assert oss.buckets["bucket"].uploads == {}


# --- refusals -----------------------------------------------------------------------------------------------------


async def test_throttling_says_for_how_long(oss: OssSimulator, destination: OssDestination) -> None:
    oss.throttle.per_second = 0
    with pytest.raises(Throttled) as caught:
        await destination.upload_part("some/where/key", "any", 1, 4, Body(b"body"))
    assert caught.value.delay is not None
    assert 0 < caught.value.delay <= 1


@pytest.mark.parametrize("hours", [-3, 3])
async def test_a_clock_that_is_wrong_is_reckoned_with(oss: OssSimulator, hours: int) -> None:
    oss.clock_offset = hours * 3600.0
    async with aclosing(connect(oss)) as destination:
        await destination.check()
        await put(destination, "some/where/key", b"1")
        assert oss.refusals == {"RequestTimeTooSkewed": 1}


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({"OSS_ACCESS_KEY_SECRET": "canary-secret"}, CredentialsRefused, "secret key does not fit"),
        ({"OSS_ACCESS_KEY_ID": "nobody"}, CredentialsRefused, "access key is unknown"),
        ({"OSS_REGION": "cn-beijing"}, WrongServer, "expecting 'cn-hangzhou'"),
        ({"bucket": "no-such-bucket"}, NotThere, "no-such-bucket does not exist"),
    ],
)
async def test_check_says_what_is_wrong(
    oss: OssSimulator, change: dict[str, str], error: type[SideError], told: str
) -> None:
    environ = {**environment(oss), **change}
    settings = OssSettings.from_environment(environ=environ)
    url = f"oss://{change.get('bucket', 'bucket')}/x"
    async with aclosing(OssDestination(url, settings=settings, credentials=CredentialChain(environ))) as destination:
        with pytest.raises(error, match=told) as caught:
            await destination.check()
    assert "canary" not in str(caught.value) + caught.value.hint


async def test_what_is_no_oss_is_told() -> None:
    async with S3Simulator(["bucket"]) as s3:
        settings = OssSettings(endpoint=s3.url.replace("127.0.0.1", "localhost"), region="x")
        chain = CredentialChain({"OSS_ACCESS_KEY_ID": "a", "OSS_ACCESS_KEY_SECRET": "b"})
        async with aclosing(OssDestination("oss://bucket/x", settings=settings, credentials=chain)) as destination:
            with pytest.raises(SideError):
                await destination.check()


# --- credentials that change --------------------------------------------------------------------------------------


class Rotating:
    """Issues STS credentials of the simulator that are good for ``life`` seconds."""

    def __init__(self, oss: OssSimulator, life: float) -> None:
        self._oss = oss
        self._life = life
        self.issued: list[Credentials] = []

    async def issue(self, door: HttpDoor) -> Issued:
        access_key, credential = self._oss.issue(self._life)
        self.issued.append(Credentials(access_key, credential.secret, credential.token))
        return Issued(self.issued[-1], credential.expires)


def rotating(oss: OssSimulator, issuer: Rotating) -> OssDestination:
    settings = OssSettings(endpoint=oss.url, region=oss.region)
    destination = OssDestination(
        "oss://bucket/some/where", settings=settings, credentials=CredentialChain(issuer=issuer)
    )
    destination.limits = UploadLimits(min_part=LEAST, max_key=1023)
    return destination


async def test_credentials_are_renewed_in_the_middle_of_an_upload(oss: OssSimulator) -> None:
    issuer = Rotating(oss, 1.5)

    async def slow(name: str, when: str, arguments: object) -> None:
        if (name, when) == ("upload_part", "before"):
            await asyncio.sleep(0.7)

    async with aclosing(rotating(oss, issuer)) as destination:
        one_by_one = bench(destination, LARGE, slow)
        one_by_one._side("checksum", MIB, 1, RetryPolicy(first=0.01), "CRC64")
        await one_by_one.copy("f")
    assert len(issuer.issued) >= 2
    assert oss.refusals == {}
    assert one_by_one.noticed == []


async def test_credentials_that_are_refused_early_are_replaced_once(oss: OssSimulator) -> None:
    issuer = Rotating(oss, 3600.0)
    async with aclosing(rotating(oss, issuer)) as destination:
        await destination.check()
        del oss.credentials[issuer.issued[0].access_key]
        retrying = RetryingDestination(destination, RetryPolicy(first=0.01), lambda *_: None)
        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(put(retrying, f"some/where/{number}", b"1"), name=f"put {number}")
    assert len(issuer.issued) == 2
    assert len(held(oss)) == 20


async def test_no_refusal_shows_a_secret(oss: OssSimulator) -> None:
    issuer = Rotating(oss, 3600.0)
    async with aclosing(rotating(oss, issuer)) as destination:
        await destination.check()
        used = issuer.issued[0]
        oss.clock_offset = 7200.0  # expired for the store, and its clock is another one
        seen: list[str] = []
        for _ in range(3):
            try:
                await put(destination, "some/where/key", b"1")
            except AsyncCopyError as error:
                seen += [str(error), error.hint, repr(error), repr(error.__cause__)]
        assert seen
    text = "".join([*seen, repr(destination._client._credentials._held)])
    assert used.secret_key not in text
    assert used.token is not None
    assert used.token not in text
