"""The evidence: what is compared with what, and what happens to an object that is not ours."""

from __future__ import annotations

import random
from typing import Any

import pytest
from fastcrc.crc32 import iscsi
from fastcrc.crc64 import xz
from msgspec import structs

from asynccopy.errors import AsyncCopyError, ChecksumMismatch, ConnectionLost, Refused, SourceChanged
from asynccopy.model import ByteRange, FileChecksum, FileStatus, ObjectMeta, PartReceipt
from asynccopy.retry import RetryPolicy
from asynccopy.storage.interface import Capabilities, Reader
from asynccopy.storage.memory import MemoryDestination, MemorySource
from asynccopy.storage.memory.source import hdfs_checksum
from asynccopy.transfer.digests import PartDigests
from asynccopy.transfer.parts import cut
from asynccopy.transfer.verify import Prover
from tests.faults.wrapped import QUICK
from tests.suites.destination import Body
from tests.unit.test_digests import naive

BODY = random.Random(4).randbytes(10_000)
BLOCK = 2048
WHOLE = PartReceipt(1, 0, len(BODY), "", iscsi(BODY))


def prover(
    source: Any, destination: Any, *, verify: Any = "checksum", checksum: Any = "CRC32C", policy: Any = QUICK
) -> Prover:
    return Prover(source, destination, Capabilities(checksum), verify, policy, lambda *_: None)


class Counting(MemorySource):
    opened = 0

    async def open(self, path: str, range: ByteRange) -> Any:
        self.opened += 1
        return await super().open(path, range)


class Cluster(Counting):
    """An HDFS with its own chunk size, polynomial and blocks."""

    def __init__(self, blocks: list[int] | None, per_crc: int, crc: str) -> None:
        super().__init__({"f": BODY}, block_size=BLOCK)
        self.blocks, self.per_crc, self.crc = blocks, per_crc, crc

    async def checksum(self, path: str) -> FileChecksum | None:
        blocks = self.blocks or list(await super().block_lengths(path) or ())
        value = naive(BODY, blocks, self.per_crc, self.crc)
        return FileChecksum(f"MD5-of-4MD5-of-{self.per_crc}{self.crc}", value)

    async def block_lengths(self, path: str) -> Any:
        return self.blocks or await super().block_lengths(path)


def streamed(
    prover: Prover, status: FileStatus, body: bytes = BODY, *, ranges: int = 1
) -> tuple[list[PartReceipt], Any]:
    layout = prover.layout(status)
    receipts = []
    for number, part in enumerate(cut(len(body), -(-len(body) // ranges)), start=1):
        digests = PartDigests(part.range, len(body), layout)
        digests.update(memoryview(body)[part.range.offset : part.range.end])
        receipts.append(PartReceipt(number, part.range.offset, part.range.length, "", digests.crc32c, digests.blocks()))
    return receipts, layout


@pytest.mark.parametrize("blocks", [None, [1000, 3000, 6000], [1, 9999], [2048, 2048, 2048, 2048, 1000, 808]])
@pytest.mark.parametrize(("per_crc", "crc"), [(512, "CRC32C"), (1024, "CRC32C"), (512, "CRC32"), (256, "CRC32")])
async def test_every_way_in_which_hdfs_cuts_is_proven(blocks: list[int] | None, per_crc: int, crc: str) -> None:
    cluster = Cluster(blocks, per_crc, crc)
    proving = prover(cluster, MemoryDestination())
    status = await cluster.status("f")
    receipts, layout = streamed(proving, status)
    assert await proving.prove_source(status, receipts, layout) == str(await cluster.checksum("f"))
    assert cluster.opened == (0 if (blocks, per_crc, crc) == (None, 512, "CRC32C") else 1)
    # What the cluster's answer taught is used for the next file.
    receipts, layout = streamed(proving, status)
    await proving.prove_source(status, receipts, layout)
    assert cluster.opened <= 1 + (blocks is not None)


@pytest.mark.parametrize("blocks", [None, [1000, 3000, 6000]])
async def test_damage_is_not_excused_by_another_way_of_cutting(blocks: list[int] | None) -> None:
    cluster = Cluster(blocks, 1024, "CRC32")
    proving = prover(cluster, MemoryDestination())
    status = await cluster.status("f")
    damaged = bytearray(BODY)
    damaged[5000] ^= 1
    receipts, layout = streamed(proving, status, bytes(damaged))
    with pytest.raises(ChecksumMismatch):
        await proving.prove_source(status, receipts, layout)


async def test_an_algorithm_that_cannot_be_recomputed_is_not_believed() -> None:
    class Composite(MemorySource):
        async def checksum(self, path: str) -> FileChecksum | None:
            return FileChecksum("COMPOSITE-CRC32D", "00000000")

    source = Composite({"f": BODY}, block_size=BLOCK)
    proving = prover(source, MemoryDestination())
    status = await source.status("f")
    receipts, layout = streamed(proving, status)
    with pytest.raises(Refused, match="cannot be compared"):
        await proving.prove_source(status, receipts, layout)


@pytest.mark.parametrize(("verify", "ranges"), [("checksum", 2), ("size", 1), ("size", 2)])
async def test_another_version_is_no_proof(verify: Any, ranges: int) -> None:
    source = MemorySource({"f": BODY}, block_size=BLOCK)
    proving = prover(source, MemoryDestination(), verify=verify)
    status = await source.status("f")
    receipts, layout = streamed(proving, status, ranges=ranges)
    source.put("f", BODY)
    with pytest.raises(SourceChanged):
        await proving.prove_source(status, receipts, layout)


async def test_one_range_is_proven_by_the_checksum_alone() -> None:
    source = MemorySource({"f": BODY}, block_size=BLOCK)
    proving = prover(source, MemoryDestination())
    status = await source.status("f")
    receipts, layout = streamed(proving, status)
    source.put("f", BODY)
    assert await proving.prove_source(status, receipts, layout) == str(await source.checksum("f"))
    source.put("f", BODY[:-1] + b"?")
    with pytest.raises(SourceChanged):
        await proving.prove_source(status, receipts, layout)


async def test_a_source_without_checksums_proves_its_version_alone() -> None:
    source = MemorySource({"f": BODY}, block_size=BLOCK, checksums=False)
    proving = prover(source, MemoryDestination())
    status = await source.status("f")
    receipts, layout = streamed(proving, status)
    assert await proving.prove_source(status, receipts, layout) == ""


class Objects(Counting):
    """A store that keeps a CRC of the whole object, and knows no blocks."""

    def __init__(self, algorithm: str) -> None:
        super().__init__({"f": BODY}, block_size=0)
        self.algorithm = algorithm

    async def checksum(self, path: str) -> FileChecksum | None:
        value = f"{xz(BODY):016x}" if self.algorithm == "CRC64" else f"{iscsi(BODY):08x}"
        return FileChecksum(self.algorithm, value)


@pytest.mark.parametrize("ranges", [1, 3])
@pytest.mark.parametrize("algorithm", ["CRC32C", "CRC64"])
async def test_a_crc_of_the_whole_object_is_compared(algorithm: str, ranges: int) -> None:
    """A CRC-64 is computed once one was told: before that, the object is read once more."""
    source = Objects(algorithm)
    proving = prover(source, MemoryDestination())
    status = await source.status("f")
    for read_again in (algorithm == "CRC64", False):
        source.opened = 0
        receipts, layout = streamed(proving, status, ranges=ranges)
        assert await proving.prove_source(status, receipts, layout) == str(await source.checksum("f"))
        assert source.opened == read_again
        for at in range(0, len(BODY), 1999):
            wrong = BODY[:at] + b"?" + BODY[at + 1 :]
            receipts, layout = streamed(proving, status, wrong, ranges=ranges)
            with pytest.raises(ChecksumMismatch):
                await proving.prove_source(status, receipts, layout)


async def test_parts_that_were_sent_before_a_crc_64_was_told() -> None:
    source = Objects("CRC64")
    proving = prover(source, MemoryDestination())
    status = await source.status("f")
    earlier, layout = streamed(proving, status, ranges=3)
    await proving.prove_source(status, earlier, layout)
    later, layout = streamed(proving, status, ranges=3)
    mixed = [earlier[0], *later[1:]]
    assert await proving.prove_source(status, mixed, layout) == str(await source.checksum("f"))
    wrong, layout = streamed(proving, status, b"?" + BODY[1:], ranges=3)
    with pytest.raises(ChecksumMismatch):
        await proving.prove_source(status, [structs.replace(wrong[0], blocks=()), *later[1:]], layout)


@pytest.mark.parametrize("checksum", ["CRC32C", "MD5", None])
@pytest.mark.parametrize("wrong", [BODY[:-1], BODY[:-1] + b"?"])
async def test_an_object_with_other_bytes_is_removed(wrong: bytes, checksum: Any) -> None:
    destination = MemoryDestination(checksum=checksum)
    await destination.put("f", wrong, iscsi(wrong))
    meta = await destination.head("f")
    assert meta is not None
    proving = prover(MemorySource(), destination, checksum=checksum)
    with pytest.raises(ChecksumMismatch, match="removed"):
        await proving.prove_object(meta, len(BODY), iscsi(BODY), "", parts=[WHOLE])
    assert destination.objects == {}


async def test_reading_back_survives_breaks_as_long_as_it_gets_on() -> None:
    class Breaking(MemoryDestination):
        opened = 0

        async def open(self, key: str, range: ByteRange) -> Reader:
            self.opened += 1
            inner = await super().open(key, range)

            class Once:
                reads = 0

                async def readinto(self, buffer: memoryview) -> int:
                    self.reads += 1
                    if self.reads > 1:
                        raise ConnectionLost("injected")
                    return await inner.readinto(buffer[: len(BODY) // 300])

                def close(self) -> None: ...

            return Once()

    destination = Breaking(checksum=None)
    await destination.put("f", BODY, 0)
    meta = await destination.head("f")
    assert meta is not None
    impatient = RetryPolicy(first=0.001, most=0.001, patience=0.05)
    proving = prover(MemorySource(), destination, checksum=None, policy=impatient)
    evidence = await proving.prove_object(meta, len(BODY), iscsi(BODY), "", parts=[WHOLE])
    assert evidence.method == "read-back"
    assert destination.opened > 200


async def test_etags_prove_a_put_but_not_the_joining_of_parts() -> None:
    destination = MemoryDestination(checksum="MD5")
    meta = await destination.put("f", BODY, 0)
    proving = prover(MemorySource(), destination, checksum="MD5")
    assert (await proving.prove_object(meta, len(BODY), iscsi(BODY), "")).method == "checksum"
    assert (await proving.prove_object(meta, len(BODY), iscsi(BODY), "", parts=[WHOLE])).method == "read-back"


async def test_publish_gives_up_what_it_must_not_repeat() -> None:
    for error, calls in ((ChecksumMismatch, 1), (SourceChanged, 1), (ConnectionLost, 3)):

        class Failing(MemoryDestination):
            count = 0
            error: type[AsyncCopyError] = ConnectionLost

            async def complete_upload(self, *args: Any) -> ObjectMeta:
                self.count += 1
                if self.count == 3:
                    return ObjectMeta("f", 1)
                raise self.error("injected")

        destination = Failing()
        destination.error = error
        proving = prover(MemorySource(), destination)
        if calls == 1:
            with pytest.raises(error):
                await proving.publish("f", "u", [], 0)
        else:
            await proving.publish("f", "u", [], 0)
        assert destination.count == calls


@pytest.mark.parametrize("preserving", [False, True])
async def test_an_older_object_of_the_same_bytes_stands_for_bytes_alone(preserving: bool) -> None:
    """It would have the attributes of then."""

    class Failing(MemoryDestination):
        completed = 0

        async def complete_upload(self, key: str, upload_id: str, *rest: Any) -> ObjectMeta:
            self.completed += 1
            if self.completed == 1:
                raise ConnectionLost("injected")
            return await super().complete_upload(key, upload_id, *rest)

    destination = Failing()
    old = await destination.put("f", BODY, iscsi(BODY))
    upload = await destination.create_upload("f")
    policy = RetryPolicy(first=0.001, most=0.001, patience=10)
    proving = Prover(
        MemorySource(), destination, Capabilities("CRC32C"), "checksum", policy, lambda *_: None, preserving=preserving
    )
    reply = await destination.upload_part("f", upload, 1, len(BODY), Body(BODY))
    parts = [PartReceipt(1, 0, len(BODY), reply.etag, iscsi(BODY))]
    meta = await proving.publish("f", upload, parts, iscsi(BODY))
    assert (destination.completed, meta.etag != old.etag) == ((2, True) if preserving else (1, False))


async def test_a_checksum_of_the_written_file_spares_reading_it_back() -> None:
    destination = MemoryDestination(checksum=None)
    meta = await destination.put("f", BODY, 0)
    proving = prover(MemorySource(), destination, checksum=None)
    theirs = FileChecksum("MD5-of-0MD5-of-512CRC32C", "00" * 16)
    told = structs.replace(meta, file_checksum=theirs)
    evidence = await proving.prove_object(told, len(BODY), 0, str(theirs))  # a CRC that reading back would refuse
    assert (evidence.method, evidence.source, evidence.object) == ("checksum", str(theirs), str(theirs))
    other = structs.replace(meta, file_checksum=FileChecksum("MD5-of-0MD5-of-4096CRC32C", "11" * 16))
    assert (await proving.prove_object(other, len(BODY), iscsi(BODY), str(theirs))).method == "read-back"


def test_the_memory_source_agrees_with_the_naive_hdfs() -> None:
    blocks = [min(BLOCK, len(BODY) - at) for at in range(0, len(BODY), BLOCK)]
    assert hdfs_checksum(BODY, BLOCK).value == naive(BODY, blocks, 512, "CRC32C")
