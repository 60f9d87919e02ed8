"""Rows to columns and back: whatever they hold, they come back exactly; what is damaged is refused."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynccopy.errors import JournalDamaged
from asynccopy.journal.columns import Known, Proof, pack_proofs, pack_versions, unpack_proofs, unpack_versions

INTEGERS = st.integers(-(1 << 63), (1 << 63) - 1)
HEX = st.text("0123456789abcdefABCDEF-", max_size=70)
CHARACTERS = st.characters(exclude_characters="/", exclude_categories=["Cs"])
NAMES = st.text(CHARACTERS, min_size=1, max_size=40) | HEX | st.uuids().map("part-00001-{}-c000".format)
TEXTS = st.text(CHARACTERS, max_size=20) | HEX | st.binary(max_size=20).map(lambda value: f"512CRC32C:{value.hex()}")
FILES = st.builds(Known, INTEGERS, NAMES, INTEGERS, INTEGERS, INTEGERS, INTEGERS)
PROOFS = st.builds(Proof, TEXTS, TEXTS, TEXTS, TEXTS, INTEGERS)


@given(st.lists(FILES, min_size=1, max_size=20), st.lists(PROOFS, min_size=1, max_size=20))
def test_everything_comes_back(files: list[Known], proofs: list[Proof]) -> None:
    assert unpack_versions(pack_versions(files)) == files
    assert unpack_proofs(pack_proofs(proofs)) == proofs


def test_a_file_takes_little_more_than_what_is_random_in_it() -> None:
    dice = Random(5)
    files = [
        Known(number, f"part-{number:05}-0b1e5c2c-7d3f-4d5e-9a8b-c0ffee000000-c000.snappy.parquet",
              dice.randrange(1 << 24), 1_700_000_000_000 + dice.randrange(1 << 20), 16_385 + number, 128 << 20)
        for number in range(1000)
    ]  # fmt: skip
    proofs = [
        Proof("checksum", f"MD5-of-0MD5-of-512CRC32C:{dice.randbytes(16).hex()}", f"CRC32C:{dice.randbytes(4).hex()}",
              dice.randbytes(16).hex(), 1_800_000_000_000 + dice.randrange(1000))
        for _ in range(1000)
    ]  # fmt: skip
    random = 36 + (24 + 20 + 10) / 8  # the checksums and the ETag; length, modification time and done_at
    assert random < (len(pack_versions(files)) + len(pack_proofs(proofs))) / 1000 < random + 5


@pytest.mark.parametrize("damage", [b"", b"junk", pack_proofs([Proof("", "", "", "", 0)])])
def test_damage_is_told(damage: bytes) -> None:
    with pytest.raises(JournalDamaged, match="packed rows"):
        unpack_versions(damage)
