"""Digests of a stream: the store's CRC-32C, and what HDFS's own file checksum is made of. Pure.

HDFS keeps a CRC of every 512 bytes (``bytes_per_crc``). GETFILECHECKSUM answers MD5-of-MD5-of-CRC: per block the MD5
of its CRCs, big-endian; of the file the MD5 of the block MD5s, zero-padded to the smallest 32 * 2^k >= 16 * blocks
(Hadoop digests its whole buffer). Seen equal on Hadoop 3.5.0 for 0 to 17 blocks. The last chunk of a block may be
short, and the next block begins a new chunk.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING

from fastcrc.crc32 import iscsi
from msgspec import Struct

from asynccopy.model import BlockDigest, ByteRange, FileChecksum, PartReceipt

if TYPE_CHECKING:
    from typing_extensions import Buffer

_ALGORITHM = re.compile(r"MD5-of-(\d+)MD5-of-(\d+)(CRC32C?)")


class Layout(Struct, frozen=True):
    """How HDFS cuts a file: what must be known to recompute its checksum.

    ``block_size`` holds for every block but the last, unless ``block_ends`` gives the real ends (files made by CONCAT).
    """

    block_size: int
    bytes_per_crc: int = 512
    crc: str = "CRC32C"
    block_ends: tuple[int, ...] = ()

    def blocks(self, range: ByteRange) -> list[tuple[int, int, int]]:
        """(block index, start, end) of each block that the range touches; offsets in the file, blocks whole."""
        if self.block_ends:
            first = bisect_right(self.block_ends, range.offset)
            touched = []
            start = self.block_ends[first - 1] if first else 0
            for index in _from(first, len(self.block_ends)):
                if start >= range.end:
                    break
                touched.append((index, start, self.block_ends[index]))
                start = self.block_ends[index]
            return touched
        size = self.block_size
        return [(i, i * size, (i + 1) * size) for i in _from(range.offset // size, -(-range.end // size))]

    def with_blocks(self, lengths: Sequence[int]) -> Layout:
        return Layout(self.block_size, self.bytes_per_crc, self.crc, tuple(accumulate(lengths)))

    def of(self, checksum: FileChecksum) -> Layout | None:
        """This layout with the chunk size and polynomial that an answer names; None for an algorithm we cannot
        recompute.
        """
        match = _ALGORITHM.fullmatch(checksum.algorithm)
        if match is None:
            return None
        if int(match[2]) == 0:  # an empty file
            return self
        return Layout(self.block_size, int(match[2]), match[3], self.block_ends)


_from = range
crc32c: Callable[..., int] = iscsi
"""CRC-32C (Castagnoli) of some bytes, going on from an earlier value: ``crc32c(data, before=0)``."""
_SLAB = 512  # chunks unpacked at once: 256 KiB, the size of the buffers that carry an upload


class PartDigests:
    """The digests of one part, fed with its bytes in order.

    ``layout`` None computes the CRC-32C only. Bytes of a block that lies wholly in the part go into a running MD5; of a
    block that the part only touches, the raw CRCs are kept (4 bytes per chunk), for the other part's to be joined to.
    """

    __slots__ = ("_at", "_block", "_blocks", "_crcs", "_done", "_length", "_md5", "_raw", "_rest", "crc32c")

    def __init__(self, range: ByteRange, length: int, layout: Layout | None) -> None:
        self.crc32c = 0
        self._at = range.offset
        self._length = length
        self._done: list[BlockDigest] = []
        self._blocks = iter(_pieces(range, length, layout) if layout is not None else ())
        self._crcs = _chunk_crcs(layout.bytes_per_crc, layout.crc) if layout is not None else None
        self._rest = b""
        self._next_block()

    def _next_block(self) -> None:
        self._block = next(self._blocks, None)
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._raw: list[bytes] = []

    def update(self, data: memoryview) -> None:
        """Take the next bytes of the part; at its best on multiples of the chunk size."""
        self.crc32c = crc32c(data, self.crc32c)
        if self._crcs is None:
            return
        while len(data):
            assert self._block is not None
            piece = data[: self._block[2] - self._at]
            self._feed(piece, last=self._at + len(piece) == self._block[2])
            self._at += len(piece)
            data = data[len(piece) :]

    def _feed(self, piece: memoryview, last: bool) -> None:
        """Digest bytes of the current block; whole chunks only, unless they end the block or the part."""
        assert self._crcs is not None
        assert self._block is not None
        if self._rest or (len(piece) % self._crcs.size and not last):
            piece = memoryview(self._rest + bytes(piece))
        whole = len(piece) if last else len(piece) - len(piece) % self._crcs.size
        self._rest = bytes(piece[whole:])
        crcs = self._crcs(piece[:whole])
        index, complete, _ = self._block
        if complete:
            self._md5.update(crcs)
        else:
            self._raw.append(crcs)
        if last:
            digest = self._md5.digest() if complete else b"".join(self._raw)
            self._done.append(BlockDigest(index, complete, digest))
            self._next_block()

    def blocks(self) -> tuple[BlockDigest, ...]:
        """What is known of each block, once the whole part was fed."""
        return tuple(self._done)


def _pieces(range: ByteRange, length: int, layout: Layout) -> Iterable[tuple[int, bool, int]]:
    """(block index, does the part hold all of it, end of the part's piece of it) in order."""
    for index, start, end in layout.blocks(range):
        end = min(end, length)
        yield index, start >= range.offset and end <= range.end, min(end, range.end)


class _ChunkCrcs:
    """CRCs of consecutive chunks, big-endian, the last chunk possibly short.

    Cutting costs more than the CRC: one struct that unpacks many chunks at once takes 0.25 CPU-s/GB, slicing in a
    loop 0.41.
    """

    __slots__ = ("_crc", "size")

    def __init__(self, size: int, crc: Callable[[Buffer], int]) -> None:
        self.size = size
        self._crc = crc

    def __call__(self, data: memoryview) -> bytes:
        count, tail = divmod(len(data), self.size)
        crcs: list[int] = []
        for first in _from(0, count, _SLAB):
            chunks = _chunks(self.size, min(_SLAB, count - first))
            crcs += map(self._crc, chunks.unpack_from(data, first * self.size))
        if tail:
            crcs.append(self._crc(data[-tail:]))
        return struct.pack(f">{len(crcs)}I", *crcs)


@lru_cache(maxsize=_SLAB)
def _chunks(size: int, count: int) -> struct.Struct:
    return struct.Struct(f"{size}s" * count)


@lru_cache(maxsize=8)
def _chunk_crcs(size: int, crc: str) -> _ChunkCrcs:
    return _ChunkCrcs(size, crc32c if crc == "CRC32C" else zlib.crc32)


def file_checksum(receipts: Sequence[PartReceipt], length: int, layout: Layout) -> FileChecksum:
    """HDFS's checksum of the whole file from the digests of all its parts, ascending."""
    if length == 0:
        return FileChecksum("MD5-of-0MD5-of-0CRC32", hashlib.md5(bytes(32), usedforsecurity=False).hexdigest())
    md5s: list[bytes] = []
    pending: list[bytes] = []
    before = 0
    for digest in (digest for receipt in receipts for digest in receipt.blocks):
        if pending and digest.block != before:
            md5s.append(hashlib.md5(b"".join(pending), usedforsecurity=False).digest())
            pending = []
        before = digest.block
        if digest.whole:
            md5s.append(digest.digest)
        else:
            pending.append(digest.digest)
    if pending:
        md5s.append(hashlib.md5(b"".join(pending), usedforsecurity=False).digest())
    padded = 32
    while padded < 16 * len(md5s):
        padded *= 2
    value = hashlib.md5(b"".join(md5s).ljust(padded, b"\0"), usedforsecurity=False).hexdigest()
    per_block = 0 if len(md5s) == 1 else layout.block_size // layout.bytes_per_crc
    return FileChecksum(f"MD5-of-{per_block}MD5-of-{layout.bytes_per_crc}{layout.crc}", value)


def joined_crc32c(receipts: Sequence[PartReceipt]) -> int:
    """CRC-32C of the whole object from its parts, ascending; nothing is read again."""
    crc = 0
    for receipt in receipts:
        crc = _apply(_zeros(receipt.size), crc) ^ receipt.crc32c
    return crc


# CRC(A + B) = CRC(A) advanced over len(B) zero bytes, xor CRC(B). Advancing is linear over GF(2): a 32 x 32 bit
# matrix, made by squaring the matrix of one zero bit; parts have few different sizes, so it is remembered. (zlib's
# crc32_combine.)


def _apply(matrix: tuple[int, ...], vector: int) -> int:
    result = 0
    for row in matrix:
        if not vector:
            break
        if vector & 1:
            result ^= row
        vector >>= 1
    return result


def _times(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(_apply(a, row) for row in b)


@lru_cache(maxsize=1)
def _powers() -> list[tuple[int, ...]]:
    """Matrices for 2^k zero bytes, k = 0..62."""
    matrix = (0x82F63B78, *(1 << bit for bit in range(31)))  # one zero bit, reflected Castagnoli polynomial
    for _ in range(3):
        matrix = _times(matrix, matrix)
    powers = [matrix]
    for _ in range(62):
        powers.append(_times(powers[-1], powers[-1]))
    return powers


@lru_cache(maxsize=256)
def _zeros(length: int) -> tuple[int, ...]:
    matrix = tuple(1 << bit for bit in range(32))
    for bit, power in enumerate(_powers()):
        if length >> bit & 1:
            matrix = _times(power, matrix)
    return matrix
