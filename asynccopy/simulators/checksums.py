"""HDFS's file checksum and the joining of CRC-32Cs, written apart from the copy path.

The simulators are a second opinion: a mistake in one must not hide in the other.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable

from fastcrc import crc32

BYTES_PER_CRC = 512
_POLYNOMIAL = 0x82F63B78  # Castagnoli, reflected


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


def _times(a: int, b: int) -> int:
    """a * b modulo the polynomial; reflected, so the top bit is the coefficient of x**0."""
    product = 0
    for bit in range(31, -1, -1):
        if a >> bit & 1:
            product ^= b
        b = (b >> 1) ^ (_POLYNOMIAL if b & 1 else 0)
    return product


def join_crc32c(first: int, second: int, second_length: int) -> int:
    """The CRC-32C of two strings joined, from the CRC of each and the second's length in bytes."""
    # Appending n bytes multiplies the first's CRC by x**(8n): square and multiply.
    shift, power, count = 1 << 31, 1 << 23, second_length
    while count:
        if count & 1:
            shift = _times(shift, power)
        power = _times(power, power)
        count >>= 1
    return _times(shift, first) ^ second
