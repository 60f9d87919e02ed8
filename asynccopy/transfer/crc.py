"""CRC-32C (Castagnoli): of some bytes, of each chunk of them, and of two pieces joined. Pure.

The chunks are cut in C where ``_crc.c`` could be compiled when asynccopy was installed, else here: 0.05 against 0.28
CPU-s/GB, with the same results.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from fastcrc.crc32 import iscsi

from asynccopy.storage.crc import CASTAGNOLI
from asynccopy.storage.crc import joined as any_joined

if TYPE_CHECKING:
    from typing_extensions import Buffer

crc32c: Callable[..., int] = iscsi
"""CRC-32C of some bytes, going on from an earlier value: ``crc32c(data, before=0)``."""


class ChunkCrcs(Protocol):
    """CRCs of consecutive chunks of ``size`` bytes, the last one possibly short: 4 bytes each, big-endian. And the
    CRC-32C of all of ``data``, going on from ``before``.

    Raises TypeError for what is no bytes, BufferError for what does not lie in one piece, ValueError for a size below
    one, OverflowError for a ``before`` that has no 32 bits.
    """

    def __call__(self, data: Buffer, size: int, before: int = 0, /) -> tuple[bytes, int]: ...


_SLAB = 512  # chunks unpacked at once: 256 KiB, the size of the buffers that carry an upload


def _in_python(crc: Callable[[Buffer], int]) -> ChunkCrcs:
    """Cutting costs more than the CRC: one struct that unpacks many chunks at once takes 0.25 CPU-s/GB, slicing in a
    loop 0.41.
    """

    def chunk_crcs(data: Buffer, size: int, before: int = 0, /) -> tuple[bytes, int]:
        if size < 1:
            raise ValueError("a chunk has at least one byte")
        whole = crc32c(data, before)
        view = memoryview(data).cast("B")
        count, tail = divmod(len(view), size)
        crcs: list[int] = []
        for first in range(0, count, _SLAB):
            chunks = _chunks(size, min(_SLAB, count - first))
            crcs += map(crc, chunks.unpack_from(view, first * size))
        if tail:
            crcs.append(crc(view[-tail:]))
        return struct.pack(f">{len(crcs)}I", *crcs), whole

    return chunk_crcs


@lru_cache(maxsize=_SLAB)
def _chunks(size: int, count: int) -> struct.Struct:
    return struct.Struct(f"{size}s" * count)


python_crc32c_chunks = _in_python(crc32c)
crc32_chunks = _in_python(zlib.crc32)
"""Chunks by CRC-32, for files that were written with it; what goes on over the whole is CRC-32C here too."""

crc32c_chunks: ChunkCrcs
try:
    from asynccopy.transfer import _crc
except ImportError:
    crc32c_chunks = python_crc32c_chunks
    IMPLEMENTATION = "Python"
else:
    crc32c_chunks = _crc.crc32c_chunks
    IMPLEMENTATION = f"C ({_crc.MACHINE})"
"""What cuts the chunks: ``Python``, or ``C`` and what it uses (``SSE4.2``, ``ARMv8 CRC``, ``tables``)."""


def joined(crc: int, then: int, length: int) -> int:
    """The CRC-32C of A + B from those of A (``crc``) and of B (``then``, of ``length`` bytes)."""
    return any_joined(crc, then, length, CASTAGNOLI)
