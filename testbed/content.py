"""Deterministic bytes: the same seed gives the same file everywhere, its digest known before anyone copies it."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

PIECE = 1 << 20


@cache
def _noise() -> memoryview:
    """One piece of random bytes, twice in a row, so that a piece can begin anywhere in it."""
    return memoryview(random.Random(20).randbytes(PIECE) * 2)


@dataclass(frozen=True)
class Content:
    """A file's bytes, made piece by piece: a gigabyte of them takes a megabyte of memory.

    Every piece begins with (seed, index) and is rotated by an amount of its own, so that pieces which are swapped,
    repeated or taken from another file change the digest.
    """

    seed: int
    size: int

    def __iter__(self) -> Iterator[bytes | memoryview]:
        for index, start in enumerate(range(0, self.size, PIECE)):
            length = min(PIECE, self.size - start)
            head = (self.seed.to_bytes(8, "little") + index.to_bytes(8, "little"))[:length]
            turn = (self.seed * 131 + index * 97) % PIECE
            yield head
            yield _noise()[turn : turn + length - len(head)]

    def sha256(self) -> str:
        digest = hashlib.sha256()
        for piece in self:
            digest.update(piece)
        return digest.hexdigest()


def small_files(count: int, size: int, *, seed: int = 1, directories: int = 50) -> dict[str, Content]:
    """``count`` files of ``size`` bytes by relative path, spread over directories."""
    return {f"d{index % directories:02}/f{index:05}": Content(seed * 1_000_003 + index, size) for index in range(count)}


def big_files(count: int, size: int, *, seed: int = 2) -> dict[str, Content]:
    return {f"big{index}": Content(seed * 1_000_003 + index, size) for index in range(count)}
