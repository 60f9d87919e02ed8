"""How a file is cut into parts. Pure."""

from __future__ import annotations

from asynccopy.errors import NameRefused, UsageError
from asynccopy.model import GIB, MIB, ByteRange, Part
from asynccopy.storage.interface import UploadLimits

SMALL = MIB
"""Up to here a file is held whole and sent as one put, so that its CRC travels in a header."""

_AIM = 64 * MIB
_BLOCK_MOST = GIB


def part_size(length: int, block_size: int, limits: UploadLimits, wanted: int | None = None) -> int:
    """The size of every part but the last, in bytes.

    Whole HDFS blocks where that is sensible (each part is then read from one DataNode, and its block digests are
    complete), about 64 MiB otherwise; always within the store's limits. Raises NameRefused where no size fits, see
    ``check_part_size`` for what a user may ask for.
    """
    if wanted is not None:
        size = wanted
    elif 0 < block_size <= _BLOCK_MOST:
        size = block_size * max(1, -(-_AIM // block_size) if block_size < _AIM else 1)
    else:
        size = _AIM
    size = max(size, limits.min_part)
    if -(-length // size) > limits.max_parts:
        least = -(-length // limits.max_parts)
        size = -(-least // MIB) * MIB
        if wanted is None and 0 < block_size <= _BLOCK_MOST:
            size = -(-size // block_size) * block_size
    if size > limits.max_part:
        if -(-length // limits.max_part) > limits.max_parts:
            raise NameRefused(
                f"{length} bytes do not fit into {limits.max_parts} parts of {limits.max_part} bytes",
                hint="the store cannot hold an object of this size",
            )
        size = limits.max_part
    return size


def check_part_size(wanted: int, limits: UploadLimits) -> None:
    """Raises UsageError for a part size that no upload could use."""
    if wanted % MIB:
        raise UsageError(f"--part-size {wanted}: not a whole number of MiB", hint="for example --part-size 64MiB")
    if not limits.min_part <= wanted <= limits.max_part:
        raise UsageError(
            f"--part-size {wanted}: the store takes parts of {limits.min_part} to {limits.max_part} bytes",
            hint="for example --part-size 64MiB, or leave it out",
        )


def cut(length: int, size: int) -> list[Part]:
    """The parts of a file, ascending; the last one may be shorter. An empty file has none."""
    return [
        Part(number, ByteRange(offset, min(size, length - offset)))
        for number, offset in enumerate(range(0, length, size), start=1)
    ]
