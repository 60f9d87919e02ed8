"""The CRC-64 of a whole object from those of its parts, and what is proven by it."""

from __future__ import annotations

import random
from collections.abc import Sequence

import fastcrc.crc64
import pytest

from asynccopy.errors import ChecksumMismatch, ConnectionLost
from asynccopy.model import MIB, FileStatus, ObjectMeta, PartReceipt, etag_with_crc64
from asynccopy.retry import RetryPolicy
from asynccopy.storage.crc import crc64, joined_crc64
from asynccopy.storage.interface import Capabilities
from asynccopy.storage.memory import MemoryDestination, MemorySource
from asynccopy.transfer.verify import Prover

BODY = random.Random(5).randbytes(100_000)
QUICK = RetryPolicy(first=0.001, most=0.001, patience=1.0)


def parts_of(body: bytes, *sizes: int) -> list[PartReceipt]:
    parts, at = [], 0
    for number, size in enumerate(sizes, start=1):
        etag = etag_with_crc64(f"E{number}", fastcrc.crc64.xz(body[at : at + size]))
        parts.append(PartReceipt(number, at, size, etag, fastcrc.crc32.iscsi(body[at : at + size])))
        at += size
    assert at == len(body)
    return parts


def test_it_is_the_one_that_oss_names() -> None:
    assert crc64(b"123456789") == 0x995DC9BBDF1939FA  # CRC-64/XZ in the catalogue of CRCs
    assert crc64(b"6789", crc64(b"12345")) == crc64(b"123456789")


@pytest.mark.parametrize(
    "sizes",
    [(100_000,), (1, 99_999), (99_999, 1), (50_000, 50_000), (0, 100_000), (65_536, 34_464), (7,) * 14_285 + (5,)],
)
def test_parts_are_joined(sizes: tuple[int, ...]) -> None:
    assert joined_crc64(parts_of(BODY, *sizes)) == fastcrc.crc64.xz(BODY)


def test_the_joined_value_sees_order_and_length() -> None:
    parts = parts_of(BODY, 40_000, 60_000)
    assert joined_crc64(parts[::-1]) != joined_crc64(parts)
    zeros = fastcrc.crc64.xz(bytes(MIB))
    part = PartReceipt(1, 0, MIB, etag_with_crc64("", zeros), 0)
    assert joined_crc64([part] * 3) == fastcrc.crc64.xz(bytes(3 * MIB))
    assert joined_crc64([part] * 3) != joined_crc64([part] * 2)


def test_48_tib_in_10_000_parts_are_joined_as_halves_are() -> None:
    size = 5 << 30
    mib = PartReceipt(1, 0, MIB, etag_with_crc64("", fastcrc.crc64.xz(bytes(MIB))), 0)
    part = joined_crc64([mib] * (size // MIB))
    assert part is not None
    whole = joined_crc64([PartReceipt(n, 0, size, etag_with_crc64("", part), 0) for n in range(1, 10_001)])
    half = joined_crc64([PartReceipt(n, 0, size, etag_with_crc64("", part), 0) for n in range(1, 5_001)])
    assert half is not None
    assert whole == joined_crc64([PartReceipt(n, 0, 5_000 * size, etag_with_crc64("", half), 0) for n in (1, 2)])


def test_one_part_without_a_crc64_leaves_the_whole_unknown() -> None:
    parts = parts_of(BODY, 40_000, 60_000)
    assert joined_crc64([parts[0], PartReceipt(2, 40_000, 60_000, "E2", 0)]) is None
    assert joined_crc64([]) == 0


# --- proof --------------------------------------------------------------------------------------------------------


class Telling(MemoryDestination):
    """A store that keeps CRC-64s; ``lost``: how many replies to a completion go astray."""

    lost = 0
    opened = 0

    def told(self, meta: ObjectMeta) -> ObjectMeta:
        return ObjectMeta(meta.key, meta.size, meta.etag, crc64=crc64(self.objects[meta.key]))

    async def head(self, key: str) -> ObjectMeta | None:
        meta = await super().head(key)
        return None if meta is None else self.told(meta)

    async def open(self, *arguments: object) -> object:  # type: ignore[override]
        raise AssertionError("nothing is read back")

    async def complete_upload(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[PartReceipt],
        crc32c: int,
        status: FileStatus | None = None,
    ) -> ObjectMeta:
        self._store(key, self.objects["other"], "E", 0)
        if self.lost:
            self.lost -= 1
            raise ConnectionLost("the reply is lost")
        return self.told(ObjectMeta(key, len(BODY), "E"))


async def proving(stored: bytes) -> tuple[Prover, Telling]:
    destination = Telling(checksum=None)
    await destination.put("other", stored, 0)
    capabilities = Capabilities("CRC64")
    return Prover(MemorySource({"f": BODY}), destination, capabilities, "checksum", QUICK, lambda *_: None), destination


@pytest.mark.parametrize("lost", [0, 1])
async def test_a_completion_is_proven_also_when_its_reply_is_lost(lost: int) -> None:
    prover, destination = await proving(BODY)
    destination.lost = lost
    parts = parts_of(BODY, 40_000, 60_000)
    meta = await prover.publish("f", "u", parts, fastcrc.crc32.iscsi(BODY))
    evidence = await prover.prove_object(meta, len(BODY), fastcrc.crc32.iscsi(BODY), "", parts=parts)
    assert (evidence.method, evidence.object) == ("checksum", f"CRC64:{crc64(BODY):016x}")


async def test_an_object_of_other_parts_is_removed() -> None:
    prover, destination = await proving(BODY[:-1] + b"?")
    parts = parts_of(BODY, 40_000, 60_000)
    destination.lost = 1
    meta = await prover.publish("f", "u", parts, fastcrc.crc32.iscsi(BODY))
    with pytest.raises(ChecksumMismatch, match="removed"):
        await prover.prove_object(meta, len(BODY), fastcrc.crc32.iscsi(BODY), "", parts=parts)
    assert "f" not in destination.objects


@pytest.mark.parametrize("equal", [True, False])
async def test_a_file_is_compared_with_an_object_without_reading_that(equal: bool) -> None:
    prover, destination = await proving(BODY if equal else BODY[:-1] + b"?")
    meta = await destination.head("other")
    assert meta is not None
    assert await prover.equal(await prover._source.status("f"), meta) is equal
