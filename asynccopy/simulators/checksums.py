"""HDFS's file checksum and the joining of CRCs, written apart from the copy path.

The simulators are a second opinion: a mistake in one must not hide in the other.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from functools import lru_cache

from fastcrc import crc32

BYTES_PER_CRC = 512
_CRC32C = 0x82F63B78, 32  # Castagnoli, reflected, and its width in bits
_CRC64 = 0xC96C5795D7870F42, 64  # ECMA-182, reflected: CRC-64/XZ


def block_digest(pieces: Iterable[bytes]) -> bytes:
    """The MD5 of the big-endian CRC-32Cs of each 512 bytes of one block.

    ``pieces`` make up the block; all but the last are multiples of 512 bytes long.
    """
    crc = crc32.iscsi
    md5 = hashlib.md5()
    for piece in pieces:
        view = memoryview(piece)
        crcs = [crc(view[at : at + BYTES_PER_CRC]) for at in range(0, len(view), BYTES_PER_CRC)]
        md5.update(struct.pack(f">{len(crcs)}I", *crcs))
    return md5.digest()


def file_checksum(digests: list[bytes], first_block_length: int) -> tuple[str, str]:
    """(algorithm, hex of ``bytes``) as GETFILECHECKSUM answers them, from the MD5s of the blocks.

    The block MD5s are zero-padded to the smallest 32 * 2**k that holds them before they are hashed, and the hex has 64
    digits though ``length`` says 28 bytes: so do the servers (seen on Hadoop 3.5.0).
    """
    room = 32
    while room < 16 * len(digests):
        room *= 2
    md5 = hashlib.md5(b"".join(digests).ljust(room, b"\0")).digest()
    per_crc = BYTES_PER_CRC if digests else 0
    per_block = -(-first_block_length // BYTES_PER_CRC) if len(digests) > 1 else 0
    kind = "CRC32C" if digests else "CRC32"
    value = struct.pack(">iq", per_crc, per_block) + md5
    return f"MD5-of-{per_block}MD5-of-{per_crc}{kind}", value.hex().ljust(64, "0")


def _times(a: int, b: int, polynomial: int, width: int) -> int:
    """a * b modulo the polynomial; reflected, so the top bit is the coefficient of x**0."""
    product = 0
    for bit in range(width - 1, -1, -1):
        if a >> bit & 1:
            product ^= b
        b = (b >> 1) ^ (polynomial if b & 1 else 0)
    return product


@lru_cache(maxsize=64)
def _shift(length: int, polynomial: int, width: int) -> int:
    """x**(8 * length): what appending so many bytes multiplies a CRC by. Square and multiply."""
    shift, power = 1 << width - 1, 1 << width - 9
    while length:
        if length & 1:
            shift = _times(shift, power, polynomial, width)
        power = _times(power, power, polynomial, width)
        length >>= 1
    return shift


def join_crc32c(first: int, second: int, second_length: int) -> int:
    """The CRC-32C of two strings joined, from the CRC of each and the second's length in bytes."""
    return _times(_shift(second_length, *_CRC32C), first, *_CRC32C) ^ second


def join_crc64(first: int, second: int, second_length: int) -> int:
    """The same for the CRC-64 of OSS (``x-oss-hash-crc64ecma``), which is CRC-64/XZ."""
    return _times(_shift(second_length, *_CRC64), first, *_CRC64) ^ second
