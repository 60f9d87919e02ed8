"""Digests of a stream: the store's CRC-32C, and what the source's own checksum is made of. Pure.

An object of S3 has a CRC-32C, which is computed anyway, one of OSS a CRC-64.


HDFS keeps a CRC of every 512 bytes (``bytes_per_crc``). GETFILECHECKSUM answers MD5-of-MD5-of-CRC: per block the MD5
of its CRCs, big-endian; of the file the MD5 of the block MD5s, zero-padded to the smallest 32 * 2^k >= 16 * blocks
(Hadoop digests its whole buffer). Seen equal on Hadoop 3.5.0 for 0 to 17 blocks. The last chunk of a block may be
short, and the next block begins a new chunk.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate

from msgspec import Struct

from asynccopy.model import BlockDigest, ByteRange, FileChecksum, PartReceipt
from asynccopy.storage.crc import ECMA, crc64
from asynccopy.storage.crc import joined as joined_crc
from asynccopy.transfer.crc import crc32_chunks, crc32c, crc32c_chunks, joined

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


CRC64 = Layout(0, 0, "CRC64")
"""No blocks: the CRC-64 of the whole, as OSS keeps it."""


class PartDigests:
    """The digests of one part, fed with its bytes in order.

    ``layout`` None computes the CRC-32C only, ``CRC64`` that and the CRC-64. Bytes of a block that lies wholly in the
    part go into a running MD5; of a block that the part only touches, the raw CRCs are kept (4 bytes per chunk), for
    the other part's to be joined to.
    """

    __slots__ = (
        "_block",
        "_blocks",
        "_chunk_crcs",
        "_crc64",
        "_done",
        "_left",
        "_md5",
        "_raw",
        "_rest",
        "_size",
        "crc32c",
    )

    def __init__(self, range: ByteRange, length: int, layout: Layout | None) -> None:
        self.crc32c = 0
        self._done: list[BlockDigest] = []
        self._size = 0
        self._crc64 = None if layout != CRC64 else 0
        if layout is None or layout == CRC64:
            return
        self._size = layout.bytes_per_crc
        self._chunk_crcs = crc32c_chunks if layout.crc == "CRC32C" else crc32_chunks
        self._rest = b""  # of a chunk whose end did not come yet
        self._blocks = _pieces(range, length, layout)
        self._next_block()

    def _next_block(self) -> None:
        self._block = next(self._blocks, None)
        self._left = self._block[2] if self._block is not None else 0
        self._md5: hashlib._Hash | None = None
        self._raw: list[bytes] = []

    def update(self, data: memoryview) -> None:
        """Take the next bytes of the part; at its best on multiples of the chunk size. Raises ValueError for more bytes
        than the part has.
        """
        if not self._size:
            self.crc32c = crc32c(data, self.crc32c)
            if self._crc64 is not None:
                self._crc64 = crc64(data, self._crc64)
            return
        while length := len(data):
            if self._block is None:
                raise ValueError("more bytes than the part has")
            if length <= self._left:
                self._left -= length
                self._feed(data, length)
                return
            piece, data = data[: self._left], data[self._left :]
            self._left = 0
            self._feed(piece, len(piece))

    def _feed(self, piece: memoryview, length: int) -> None:
        """Digest bytes of the current block; whole chunks only, unless they end the block or the part."""
        assert self._block is not None
        last = not self._left
        if self._rest or (not last and length % self._size):
            self.crc32c = crc32c(piece, self.crc32c)
            joint = self._rest + piece
            cut = len(joint) if last else len(joint) - len(joint) % self._size
            self._rest = joint[cut:]
            crcs, _ = self._chunk_crcs(joint[:cut], self._size)
        else:
            crcs, self.crc32c = self._chunk_crcs(piece, self._size, self.crc32c)
        index, whole, _ = self._block
        if not whole:
            self._raw.append(crcs)
        elif self._md5 is None:
            self._md5 = hashlib.md5(crcs, usedforsecurity=False)
        else:
            self._md5.update(crcs)
        if last:
            self._done.append(BlockDigest(index, whole, self._md5.digest() if self._md5 else b"".join(self._raw)))
            self._next_block()

    def blocks(self) -> tuple[BlockDigest, ...]:
        """What is known of each block, once the whole part was fed. A CRC-64 is as that of a piece of one block."""
        if self._crc64 is not None:
            return (BlockDigest(0, False, self._crc64.to_bytes(8, "big")),)
        return tuple(self._done)


def _pieces(range: ByteRange, length: int, layout: Layout) -> Iterator[tuple[int, bool, int]]:
    """(block index, does the part hold all of it, bytes of it in the part) in order."""
    first, after = range.offset, range.end
    for index, start, end in layout.blocks(range):
        end = min(end, length)
        yield index, start >= first and end <= after, min(end, after) - max(start, first)


def file_checksum(receipts: Sequence[PartReceipt], length: int, layout: Layout | None) -> FileChecksum:
    """The source's checksum of the whole file from the digests of all its parts, ascending: HDFS's, or a CRC."""
    if layout is None:
        return FileChecksum("CRC32C", f"{joined_crc32c(receipts):08x}")
    if layout == CRC64:
        return FileChecksum("CRC64", f"{_joined_crc64(receipts):016x}")
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


def _joined_crc64(receipts: Sequence[PartReceipt]) -> int:
    whole = 0
    for receipt in receipts:
        for digest in receipt.blocks:
            whole = joined_crc(whole, int.from_bytes(digest.digest, "big"), receipt.size, ECMA)
    return whole


def joined_crc32c(receipts: Sequence[PartReceipt]) -> int:
    """CRC-32C of the whole object from its parts, ascending; nothing is read again."""
    crc = 0
    for receipt in receipts:
        crc = joined(crc, receipt.crc32c, receipt.size)
    return crc
