"""CRC-32C of chunks: the three implementations against known values and against each other, and what is in use here."""

from __future__ import annotations

import array
import os
import random
import shlex
import shutil
import struct
import sys
import sysconfig
import tracemalloc
import zlib
from contextlib import suppress
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import fastcrc.crc32
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import asynccopy.transfer
from asynccopy.transfer import crc
from asynccopy.transfer.crc import ChunkCrcs, crc32_chunks, joined, python_crc32c_chunks

SOURCE = Path(asynccopy.transfer.__path__[0]) / "_crc.c"
IMPLEMENTATIONS: dict[str, ChunkCrcs] = {"Python": python_crc32c_chunks}
if find_spec("asynccopy.transfer._crc") is not None:
    from asynccopy.transfer import _crc

    IMPLEMENTATIONS |= {f"C {_crc.MACHINE}": _crc.crc32c_chunks, "C portable": _crc._portable}

every = pytest.mark.parametrize("chunks", IMPLEMENTATIONS.values(), ids=list(IMPLEMENTATIONS))
BODY = random.Random(11).randbytes(70_000)


def naive(data: bytes, size: int) -> bytes:
    return b"".join(fastcrc.crc32.iscsi(data[at : at + size]).to_bytes(4) for at in range(0, len(data), size))


def test_where_a_compiler_is_the_chunks_are_cut_in_c() -> None:
    """Without this, a build that fails quietly would leave only the Python to be tested."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    if shutil.which(compiler) is None or not Path(sysconfig.get_path("include"), "Python.h").exists():
        pytest.skip("no compiler, or no Python.h")
    if not sysconfig.get_config_var("EXT_SUFFIX").startswith(".cpython-") or "t" in sys.abiflags:
        pytest.skip("this Python has no stable ABI")
    assert crc.IMPLEMENTATION.startswith("C ("), "install the project again: pip install --editable ."
    assert os.path.getmtime(_crc.__file__) >= SOURCE.stat().st_mtime, "compiled from an older source: install it again"


def test_the_instruction_is_used_where_the_processor_has_it() -> None:
    flags = Path("/proc/cpuinfo")
    if "C portable" not in IMPLEMENTATIONS or not flags.exists():
        pytest.skip("no C, or no Linux")
    words = flags.read_text(encoding="utf-8").split()
    machine = "SSE4.2" if "sse4_2" in words else "ARMv8 CRC" if "crc32" in words else "tables"
    assert machine == _crc.MACHINE


@every
@pytest.mark.parametrize(
    ("data", "expected"),
    [  # RFC 3720, B.4, and the check value of CRC catalogues
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"123456789", 0xE3069283),
        (b"", 0),
    ],
)
def test_known_values(chunks: ChunkCrcs, data: bytes, expected: int) -> None:
    crcs, whole = chunks(data, 512)
    assert whole == expected
    assert crcs == (struct.pack(">I", expected) if data else b"")  # big-endian, as HDFS writes them
    for size in (1, 7, 8, 31):
        assert chunks(data, size) == (naive(data, size), expected)


@st.composite
def calls(draw: st.DrawFn) -> tuple[memoryview, int, int]:
    size = draw(st.sampled_from((1, 2, 7, 8, 9, 511, 512, 513, 1024, 4096, 100_000)) | st.integers(1, 600))
    at = draw(st.integers(0, 9))  # unaligned
    length = draw(st.integers(0, 12 * size) | st.integers(0, 12).map(lambda n: n * size))
    before = draw(st.sampled_from((0, 1, 0xFFFFFFFF)) | st.integers(0, 0xFFFFFFFF))
    return memoryview(BODY)[at : at + length], size, before


@given(calls())
@example((memoryview(BODY)[1 : 1 + 9 * 512 + 5], 512, 1))
@settings(max_examples=300, deadline=None)
def test_all_give_the_same(call: tuple[memoryview, int, int]) -> None:
    data, size, before = call
    expected = naive(bytes(data), size), fastcrc.crc32.iscsi(data, before)
    assert {name: chunks(data, size, before) for name, chunks in IMPLEMENTATIONS.items()} == dict.fromkeys(
        IMPLEMENTATIONS, expected
    )


@every
@given(cuts=st.lists(st.integers(0, 5000), max_size=6), size=st.sampled_from((1, 512, 513)))
@settings(max_examples=50, deadline=None)
def test_the_whole_goes_on_from_call_to_call(chunks: ChunkCrcs, cuts: list[int], size: int) -> None:
    whole = 0
    for start, end in pairwise([0, *sorted(cuts), 5000]):
        _, whole = chunks(BODY[start:end], size, whole)
    assert whole == fastcrc.crc32.iscsi(BODY[:5000])


def test_chunks_by_crc32_still_give_the_whole_by_crc32c() -> None:
    data = BODY[:2000]
    expected = b"".join(zlib.crc32(data[at : at + 512]).to_bytes(4) for at in range(0, 2000, 512))
    assert crc32_chunks(data, 512, 5) == (expected, fastcrc.crc32.iscsi(data, 5))


@every
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: array.array("I", data)])
def test_any_bytes_in_one_piece_will_do(chunks: ChunkCrcs, kind: type) -> None:
    data = BODY[:2048]
    assert chunks(kind(data), 512) == (naive(data, 512), fastcrc.crc32.iscsi(data))


@every
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((b"abc", 0), ValueError),
        ((b"abc", -512), ValueError),
        ((b"abc", -(1 << 63)), ValueError),
        ((b"abc", 1.5), TypeError),
        ((b"abc", None), TypeError),
        ((b"abc", "1"), TypeError),
        ((b"abc",), TypeError),
        ((), TypeError),
        (("abc", 512), TypeError),
        ((None, 512), TypeError),
        ((memoryview(b"abcdef")[::2], 512), BufferError),
        ((b"abc", 512, -1), OverflowError),
        ((b"abc", 512, 1 << 32), OverflowError),
        ((b"abc", 512, 1 << 80), OverflowError),
        ((b"abc", 512, "0"), TypeError),
    ],
)
def test_nonsense_is_refused(chunks: ChunkCrcs, arguments: tuple[object, ...], error: type[Exception]) -> None:
    with pytest.raises(error):
        chunks(*arguments)  # type: ignore[arg-type]


@every
@pytest.mark.parametrize("arguments", [(512,), (0,), (512, -1), (512, "0"), ("x",)])
def test_the_buffer_is_let_go(chunks: ChunkCrcs, arguments: tuple[object, ...]) -> None:
    data = bytearray(BODY[:1000])
    with suppress(ValueError, OverflowError, TypeError):
        chunks(data, *arguments)  # type: ignore[arg-type]
    data.extend(b"x")  # BufferError while anybody holds it
    assert len(data) == 1001


@every
def test_nothing_is_left_behind(chunks: ChunkCrcs) -> None:
    chunks(BODY, 512)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(2000):
            chunks(BODY[:4096], 512)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 20_000


@given(st.binary(max_size=3000), st.binary(max_size=3000))
@settings(max_examples=100, deadline=None)
def test_joined_equals_the_direct_one(one: bytes, two: bytes) -> None:
    assert joined(fastcrc.crc32.iscsi(one), fastcrc.crc32.iscsi(two), len(two)) == fastcrc.crc32.iscsi(one + two)
