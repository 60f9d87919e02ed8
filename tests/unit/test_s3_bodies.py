"""Framed bodies are what a store decodes, to the byte, whatever pieces they are pulled in."""

from __future__ import annotations

import base64
import hashlib
import random

import pytest
from fastcrc import crc32

from asynccopy.errors import ShortRead
from asynccopy.storage.http import BUFFER
from asynccopy.storage.interface import Reader
from asynccopy.storage.s3.bodies import FRAME, Md5Body, SignedBody, TrailedBody, framed_length
from asynccopy.storage.s3.signing import UNSIGNED, ChunkSigner, Credentials, Signer

SIZES = [0, 1, 15, 16, 17, 4096, FRAME - 1, FRAME, FRAME + 1, 2 * FRAME, 3 * FRAME + 12_345]


class Bytes:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.crc32c = 0
        self.closed = False

    async def readinto(self, buffer: memoryview) -> int:
        count = min(len(buffer), len(self.data))
        buffer[:count], self.data = self.data[:count], self.data[count:]
        self.crc32c = crc32.iscsi(buffer[:count], self.crc32c)
        return count

    def close(self) -> None:
        self.closed = True


async def _drain(body: Reader, step: int) -> bytes:
    out = bytearray()
    buffer = memoryview(bytearray(step))
    while count := await body.readinto(buffer):
        out += buffer[:count]
    return bytes(out)


def _signer() -> ChunkSigner:
    return ChunkSigner(Signer("r").sign(Credentials("AK", "s"), "PUT", "h", "/", "", (), UNSIGNED, 1.0))


def _decode(wire: bytes, signer: ChunkSigner | None) -> tuple[bytes, bytes]:
    """(data, what follows the last frame), every chunk signature checked: a decoder of our own, for the test alone."""
    data = b""
    while True:
        head, wire = wire.split(b"\r\n", 1)
        size, _, extension = head.partition(b";")
        frame, wire = wire[: int(size, 16)], wire[int(size, 16) :]
        if signer is not None:
            assert extension == b"chunk-signature=" + signer.chunk(frame).encode()
        if not frame:
            return data, wire
        data += frame
        assert wire.startswith(b"\r\n")
        wire = wire[2:]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("step", [FRAME + 128, 1 << 20])
async def test_an_unsigned_body_ends_with_its_crc(size: int, step: int) -> None:
    data = random.Random(size).randbytes(size)
    wire = await _drain(TrailedBody(Bytes(data), size), step)
    assert len(wire) == framed_length(size, signed=False, trailer=True)
    crc = crc32.iscsi(data)
    value = base64.b64encode(crc.to_bytes(4, "big"))
    assert _decode(wire, None) == (data, b"x-amz-checksum-crc32c:" + value + b"\r\n\r\n")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("trailer", [True, False])
async def test_every_frame_of_a_signed_body_is_signed(size: int, trailer: bool) -> None:
    data = random.Random(size).randbytes(size)
    wire = await _drain(SignedBody(Bytes(data), size, _signer(), trailer=trailer), 1 << 20)
    assert len(wire) == framed_length(size, signed=True, trailer=trailer)
    check = _signer()
    decoded, rest = _decode(wire, check)
    assert decoded == data
    line = f"x-amz-checksum-crc32c:{base64.b64encode(crc32.iscsi(data).to_bytes(4, 'big')).decode()}"
    expected = f"{line}\r\nx-amz-trailer-signature:{check.trailer(line)}\r\n\r\n" if trailer else "\r\n"
    assert rest == expected.encode()


async def test_a_body_that_ends_early_is_not_finished_off() -> None:
    for body in (TrailedBody(Bytes(b"x" * 99), 100), SignedBody(Bytes(b"x" * 99), 100, _signer(), trailer=True)):
        with pytest.raises(ShortRead, match="1 bytes before"):
            await _drain(body, 1 << 20)


async def test_a_reader_in_trouble_raises_its_own_error() -> None:
    class Troubled(Bytes):
        async def readinto(self, buffer: memoryview) -> int:
            if len(self.data) < len(buffer):
                raise ConnectionResetError("mine")
            return await super().readinto(buffer)

    for body in (TrailedBody(Troubled(b"x" * 99), 100), SignedBody(Troubled(b"x" * 99), 100, _signer(), trailer=True)):
        with pytest.raises(ConnectionResetError, match="mine"):
            await _drain(body, 1 << 20)


async def test_a_frame_is_read_by_one_call_and_fits_into_a_buffer_of_the_door() -> None:
    asked = []

    class Watched(Bytes):
        async def readinto(self, buffer: memoryview) -> int:
            asked.append(len(buffer))
            return await super().readinto(buffer)

    await _drain(SignedBody(Watched(b"x" * (2 * FRAME + 512)), 2 * FRAME + 512, _signer(), trailer=True), BUFFER)
    assert asked == [FRAME, FRAME, 512]
    assert FRAME % 512 == 0


async def test_md5_of_what_went_through() -> None:
    body = Md5Body(Bytes(b"x" * 1000))
    assert await _drain(body, 7) == b"x" * 1000
    assert body.hexdigest() == hashlib.md5(b"x" * 1000).hexdigest()


def test_closing_a_wrapper_closes_the_source() -> None:
    source = Bytes(b"")
    TrailedBody(source, 0).close()
    assert source.closed
