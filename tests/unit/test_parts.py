"""Cutting files into parts: within the store's limits for every length that it can hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynccopy.errors import NameRefused, UsageError
from asynccopy.model import GIB, MIB
from asynccopy.storage.interface import UploadLimits
from asynccopy.transfer.parts import check_part_size, cut, part_size

S3 = UploadLimits()
LARGEST = 10_000 * 5 * GIB  # 48.8 TiB
BLOCKS = (0, MIB, 3 * MIB, 64 * MIB, 100 * MIB, 128 * MIB, 256 * MIB, 512 * MIB, GIB)


def count(length: int, size: int) -> int:
    return -(-length // size)


def assert_takes(length: int, size: int, limits: UploadLimits = S3) -> None:
    assert limits.min_part <= size <= limits.max_part
    assert count(length, size) <= limits.max_parts


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize(
    "length",
    [MIB + 1, 5 * MIB, 64 * MIB, 64 * MIB + 1, 5 * GIB, 5 * GIB + 1, 1 << 40, LARGEST - 1, LARGEST],
)
def test_every_length_fits(length: int, block: int) -> None:
    assert_takes(length, part_size(length, block, S3))


@given(st.integers(MIB + 1, LARGEST), st.sampled_from(BLOCKS))
def test_any_length_fits(length: int, block: int) -> None:
    assert_takes(length, part_size(length, block, S3))


@pytest.mark.parametrize(
    ("block", "size"),
    [(MIB, 64), (3 * MIB, 66), (64 * MIB, 64), (128 * MIB, 128), (256 * MIB, 256), (512 * MIB, 512), (GIB, 1024)],
)
def test_parts_are_whole_blocks(block: int, size: int) -> None:
    assert part_size(4 * GIB, block, S3) == size * MIB


@pytest.mark.parametrize("block", [0, GIB + MIB, 8 * GIB])
def test_huge_or_unknown_blocks_are_cut(block: int) -> None:
    assert part_size(4 * GIB, block, S3) == 64 * MIB


def test_ten_thousand_parts_and_one_more() -> None:
    assert part_size(10_000 * 64 * MIB, 0, S3) == 64 * MIB
    more = part_size(10_000 * 64 * MIB + 1, 0, S3)
    assert more == 65 * MIB
    assert count(10_000 * 64 * MIB + 1, more) <= 10_000
    assert part_size(10_000 * 128 * MIB + 1, 128 * MIB, S3) == 256 * MIB  # still whole blocks


def test_what_no_store_can_hold_is_refused_by_name() -> None:
    with pytest.raises(NameRefused, match="do not fit"):
        part_size(LARGEST + 1, 128 * MIB, S3)
    tiny = UploadLimits(min_part=10, max_part=20, max_parts=3)
    assert part_size(60, 0, tiny) == 20
    with pytest.raises(NameRefused):
        part_size(61, 0, tiny)


def test_a_wanted_size_is_taken_unless_it_makes_too_many_parts() -> None:
    assert part_size(GIB, 128 * MIB, S3, 7 * MIB) == 7 * MIB
    grown = part_size(10_000 * 7 * MIB + 1, 128 * MIB, S3, 7 * MIB)
    assert grown == 8 * MIB
    assert_takes(10_000 * 7 * MIB + 1, grown)


@pytest.mark.parametrize("wanted", [5 * MIB, 64 * MIB, 5 * GIB])
def test_part_sizes_that_may_be_wanted(wanted: int) -> None:
    check_part_size(wanted, S3)


@pytest.mark.parametrize("wanted", [0, -MIB, MIB, 5 * MIB - 1, 5 * MIB + 1, 64 * MIB + 512, 5 * GIB + MIB])
def test_part_sizes_that_may_not(wanted: int) -> None:
    with pytest.raises(UsageError, match="--part-size"):
        check_part_size(wanted, S3)


@given(st.integers(0, 5000), st.integers(1, 700))
def test_parts_cover_the_file_once(length: int, size: int) -> None:
    parts = cut(length, size)
    assert [part.number for part in parts] == list(range(1, len(parts) + 1))
    at = 0
    for part in parts:
        assert part.range.offset == at
        assert 0 < part.range.length <= size
        assert part.range.length == size or part is parts[-1]
        at = part.range.end
    assert at == length


def test_a_multiple_of_the_part_size_has_no_empty_last_part() -> None:
    assert [part.range.length for part in cut(12, 4)] == [4, 4, 4]
    assert cut(0, 4) == []
