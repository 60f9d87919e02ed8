"""What the digests of a stream cost: all that a copy computes of its bytes, fed as a big file is and as a small one."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from unittest import mock

from asynccopy.model import ByteRange, PartReceipt
from asynccopy.storage.http import BUFFER
from asynccopy.transfer import digests
from asynccopy.transfer.crc import IMPLEMENTATION, crc32c_chunks, python_crc32c_chunks
from asynccopy.transfer.digests import Layout, PartDigests, file_checksum
from tests.bench.contest import say
from tests.bench.report import Section, number

KIB, MIB = 1 << 10, 1 << 20
LAYOUT = Layout(128 * MIB)


def cost(scale: float) -> Section:
    """The CRCs alone, all digests of a part of 128 MiB, and those of a file of 64 KiB; as installed and in Python."""
    say("digests ...")
    section = Section("Digests", ("", "CRCs GB/s", "all, CPU s/GB", "all of 64 KiB, CPU us"))
    for name, crcs in ((IMPLEMENTATION, crc32c_chunks), ("Python", python_crc32c_chunks)):
        with mock.patch.object(digests, "crc32c_chunks", crcs):
            big = _seconds(_part, max(1, round(4 * scale))) / (128 * MIB) * 1e9
            small = _seconds(_small, max(10, round(2000 * scale))) * 1e6
        buffer = memoryview(bytes(BUFFER))
        rate = BUFFER / _seconds(partial(crcs, buffer, 512), max(10, round(1000 * scale))) / 1e9
        section.rows.append((name, number(rate), number(big), number(small)))
    return section


def _part() -> None:
    part = PartDigests(ByteRange(0, 128 * MIB), 128 * MIB, LAYOUT)
    buffer = memoryview(bytes(BUFFER))
    for _ in range(128 * MIB // BUFFER):
        part.update(buffer)
    part.blocks()


def _small() -> None:
    part = PartDigests(ByteRange(0, 64 * KIB), 64 * KIB, LAYOUT)
    part.update(memoryview(bytes(64 * KIB)))
    file_checksum([PartReceipt(1, 0, 64 * KIB, "", part.crc32c, part.blocks())], 64 * KIB, LAYOUT)


def _seconds(work: Callable[[], object], times: int) -> float:
    """CPU of one call: the best of five runs."""
    best = float("inf")
    for _ in range(5):
        begun = time.process_time()
        for _ in range(times):
            work()
        best = min(best, time.process_time() - begun)
    return best / times
