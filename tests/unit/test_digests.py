"""Digests against a slow HDFS of our own: any cutting into blocks, parts and buffers must come to the same checksum."""

from __future__ import annotations

import hashlib
import random
import zlib
from itertools import accumulate

import fastcrc.crc32
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asynccopy.model import ByteRange, FileChecksum, PartReceipt
from asynccopy.transfer.digests import Layout, PartDigests, file_checksum, joined_crc32c

BODY = random.Random(7).randbytes(40_000)


def naive(body: bytes, blocks: list[int], per_crc: int, crc: str) -> str:
    """HDFS's MD5-of-MD5-of-CRC, one chunk at a time."""
    md5s, at = [], 0
    for length in blocks:
        block = body[at : at + length]
        at += length
        crcs = b""
        for start in range(0, len(block), per_crc):
            chunk = block[start : start + per_crc]
            value = fastcrc.crc32.iscsi(chunk) if crc == "CRC32C" else zlib.crc32(chunk)
            crcs += value.to_bytes(4)
        md5s.append(hashlib.md5(crcs).digest())
    whole = b"".join(md5s)
    padded = 32
    while padded < len(whole):
        padded *= 2
    return hashlib.md5(whole.ljust(padded, b"\0")).hexdigest()


def cut(body: bytes, ends: list[int], layout: Layout | None, feeds: random.Random) -> list[PartReceipt]:
    receipts, start = [], 0
    for number, end in enumerate(ends, start=1):
        digests = PartDigests(ByteRange(start, end - start), len(body), layout)
        at = start
        while at < end:
            step = min(end - at, feeds.choice((1, 3, 511, 512, 513, 1024, 5000, 70_000)))
            digests.update(memoryview(body)[at : at + step])
            at += step
        receipts.append(PartReceipt(number, start, end - start, "", digests.crc32c, digests.blocks()))
        start = end
    return receipts


@st.composite
def cuttings(draw: st.DrawFn) -> tuple[bytes, list[int], Layout, list[int]]:
    """A body, the lengths of its blocks, the layout that says so, the ends of the parts."""
    length = draw(st.integers(1, len(BODY)))
    per_crc = draw(st.sampled_from((512, 1024)))
    crc = draw(st.sampled_from(("CRC32C", "CRC32")))
    block = per_crc * draw(st.integers(1, 16))
    if draw(st.booleans()):
        blocks = [min(block, length - at) for at in range(0, length, block)]
        layout = Layout(block, per_crc, crc)
    else:  # as CONCAT leaves them
        blocks, left = [], length
        while left:
            blocks.append(draw(st.integers(1, min(left, 9000))))
            left -= blocks[-1]
        layout = Layout(block, per_crc, crc).with_blocks(blocks)
    # Parts begin at chunk boundaries (they are whole MiB). Blocks of CONCAT are only ever digested in one go.
    inner = st.sets(st.integers(1, length // per_crc).map(lambda n: n * per_crc), max_size=8)
    ends = sorted((draw(inner) if length >= per_crc and not layout.block_ends else set()) | {length})
    return BODY[:length], blocks, layout, ends


@given(cuttings(), st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None)
def test_any_cutting_gives_hdfs_checksum(
    cutting: tuple[bytes, list[int], Layout, list[int]], feeds: random.Random
) -> None:
    body, blocks, layout, ends = cutting
    receipts = cut(body, ends, layout, feeds)
    assert file_checksum(receipts, len(body), layout).value == naive(body, blocks, layout.bytes_per_crc, layout.crc)
    assert joined_crc32c(receipts) == fastcrc.crc32.iscsi(body)


@given(st.lists(st.binary(max_size=3000), max_size=6))
@settings(max_examples=60, deadline=None)
def test_joined_crc_equals_the_direct_one(pieces: list[bytes]) -> None:
    receipts = [PartReceipt(n, 0, len(p), "", fastcrc.crc32.iscsi(p)) for n, p in enumerate(pieces, 1)]
    assert joined_crc32c(receipts) == fastcrc.crc32.iscsi(b"".join(pieces))


def test_joined_crc_of_sizes_beyond_32_bits() -> None:
    """48.8 TiB of zeros in 5 GiB parts: the CRC of zeros is known by doubling alone."""
    part = 5 << 30
    mib = fastcrc.crc32.iscsi(bytes(1 << 20))
    zeros = joined_crc32c([PartReceipt(n, 0, 1 << 20, "", mib) for n in range(1, 5 * 1024 + 1)])
    once = joined_crc32c([PartReceipt(n, 0, part, "", zeros) for n in range(1, 10_001)])
    half = joined_crc32c([PartReceipt(n, 0, part, "", zeros) for n in range(1, 5_001)])
    assert once == joined_crc32c([PartReceipt(n, 0, 5_000 * part, "", half) for n in (1, 2)])
    assert once != half


@pytest.mark.parametrize("blocks", range(18))
def test_the_padding_for_every_number_of_blocks_seen_on_hadoop(blocks: int) -> None:
    body = BODY[: blocks * 1024 - 7] if blocks else b""
    lengths = [min(1024, len(body) - at) for at in range(0, len(body), 1024)]
    layout = Layout(1024)
    found = file_checksum(cut(body, [len(body)] if body else [], layout, random.Random(1)), len(body), layout)
    assert found.value == naive(body, lengths, 512, "CRC32C")
    if not blocks:
        assert found == FileChecksum("MD5-of-0MD5-of-0CRC32", "70bc8f4b72a86921468bf8e8441dce51")
    else:
        assert found.algorithm == f"MD5-of-{0 if blocks == 1 else 2}MD5-of-512CRC32C"


def test_one_flipped_bit_anywhere_changes_both_digests() -> None:
    layout = Layout(2048)
    right = cut(BODY[:9001], [3000, 9001], layout, random.Random(2))
    for at in (0, 511, 512, 2047, 2048, 2999, 3000, 9000):
        body = bytearray(BODY[:9001])
        body[at] ^= 0x10
        wrong = cut(bytes(body), [3000, 9001], layout, random.Random(2))
        assert file_checksum(wrong, 9001, layout) != file_checksum(right, 9001, layout)
        assert joined_crc32c(wrong) != joined_crc32c(right)


@pytest.mark.parametrize("feeds", [(100, 1), (101,), (50, 51)])
def test_more_bytes_than_the_part_has_are_refused(feeds: tuple[int, ...]) -> None:
    digests = PartDigests(ByteRange(0, 100), 100, Layout(1024))
    with pytest.raises(ValueError, match="more bytes"):
        for count in feeds:
            digests.update(memoryview(BODY)[:count])


@pytest.mark.parametrize("polynomial", ["CRC32C", "CRC32"])
def test_the_crc_so_far_is_that_of_all_bytes_fed(polynomial: str) -> None:
    digests, at = PartDigests(ByteRange(0, 9000), 9000, Layout(4096, crc=polynomial)), 0
    for step in (512, 1, 511, 3000, 700, 4276):
        digests.update(memoryview(BODY)[at : at + step])
        at += step
        assert digests.crc32c == fastcrc.crc32.iscsi(BODY[:at])


def test_swapped_parts_change_the_joined_crc() -> None:
    one, two = cut(BODY[:8192], [4096, 8192], None, random.Random(3))
    assert joined_crc32c([two, one]) != joined_crc32c([one, two])


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("MD5-of-0MD5-of-512CRC32C", Layout(4096)),
        ("MD5-of-262144MD5-of-1024CRC32", Layout(4096, 1024, "CRC32")),
        ("MD5-of-0MD5-of-0CRC32", Layout(4096)),
        ("COMPOSITE-CRC32C", None),
        ("MD5-of-0MD5-of-512CRC32D", None),
        ("", None),
    ],
)
def test_layout_of_what_an_answer_names(algorithm: str, expected: Layout | None) -> None:
    assert Layout(4096).of(FileChecksum(algorithm, "00")) == expected


def test_layout_ends_are_kept() -> None:
    layout = Layout(4096).with_blocks([5, 7, 1])
    assert layout.block_ends == tuple(accumulate([5, 7, 1]))
    assert layout.blocks(ByteRange(5, 8)) == [(1, 5, 12), (2, 12, 13)]
    assert layout.blocks(ByteRange(4, 2)) == [(0, 0, 5), (1, 5, 12)]
