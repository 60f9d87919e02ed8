"""Readers that wrap the body of a part on its way out: aws-chunked frames with a CRC-32C trailer, or an MD5 kept along.

A frame is ``<hex length>[;chunk-signature=<hex>]``, a line end, the data, a line end. One of length 0 ends the data;
trailers and an empty line follow.
"""

from __future__ import annotations

import hashlib
from typing import Final

from asynccopy.errors import ShortRead
from asynccopy.storage.interface import PartBody
from asynccopy.storage.s3.messages import CRC32C_HEADER, encode_crc32c
from asynccopy.storage.s3.signing import ChunkSigner

FRAME: Final = 255 * 1024
"""Data bytes in a frame: with what frames them they fit into one of the door's buffers of 256 KiB. S3 wants at least
8 KiB in each but the last, and all but the last alike."""

_SIGNATURE: Final = len(";chunk-signature=") + 64
_TRAILER: Final = len(f"{CRC32C_HEADER}:") + 8 + 2
_TRAILER_SIGNATURE: Final = len("x-amz-trailer-signature:") + 64 + 2


def framed_length(size: int, *, signed: bool, trailer: bool) -> int:
    """Bytes on the wire of a body of ``size`` bytes, to the byte: it goes out as Content-Length."""
    frames, rest = divmod(size, FRAME)
    lengths = frames * len(f"{FRAME:x}") + (len(f"{rest:x}") if rest else 0) + len("0")
    count = frames + bool(rest) + 1
    per_frame = (_SIGNATURE if signed else 0) + 2
    ends = 2 * count  # after the data of each frame, and the empty line after the last
    trailers = (_TRAILER + (_TRAILER_SIGNATURE if signed else 0)) if trailer else 0
    return size + lengths + count * per_frame + ends + trailers


class TrailedBody:
    """Frames a body and ends it with the CRC-32C that the body says its bytes have.

    Every call gives one frame, so that the data of a frame is read by one call, straight into the caller's buffer, and
    begins and ends on the 512-byte boundaries that HDFS's checksum likes. The buffer must be able to hold a frame.
    """

    def __init__(self, body: PartBody, size: int) -> None:
        self._body = body
        self._left = size
        self._ended = False

    async def readinto(self, buffer: memoryview) -> int:
        if self._ended:
            return 0
        if not self._left:
            self._ended = True
            return _copy(self._end(), buffer)
        count = min(FRAME, self._left)
        head = _copy(f"{count:x}\r\n".encode(), buffer)
        await self._pull(buffer[head : head + count])
        return head + count + _copy(b"\r\n", buffer[head + count :])

    def close(self) -> None:
        self._body.close()

    def _end(self) -> bytes:
        return f"0\r\n{self._trailer()}\r\n\r\n".encode()

    def _trailer(self) -> str:
        return f"{CRC32C_HEADER}:{encode_crc32c(self._body.crc32c)}"

    async def _pull(self, buffer: memoryview) -> None:
        """Fill the buffer with the next bytes of the body, which may come in pieces."""
        while buffer:
            count = await self._body.readinto(buffer)
            if not count:
                raise ShortRead(f"the part ended {self._left} bytes before its promised size")
            self._left -= count
            buffer = buffer[count:]


class SignedBody(TrailedBody):
    """Frames a body and signs every frame, whose signature stands before its data."""

    def __init__(self, body: PartBody, size: int, signer: ChunkSigner, *, trailer: bool) -> None:
        super().__init__(body, size)
        self._signer = signer
        self._trailed = trailer

    async def readinto(self, buffer: memoryview) -> int:
        if self._ended or not self._left:
            return await super().readinto(buffer)
        count = min(FRAME, self._left)
        at = len(f"{count:x}") + _SIGNATURE + 2
        data = buffer[at : at + count]
        await self._pull(data)
        _copy(f"{count:x};chunk-signature={self._signer.chunk(data)}\r\n".encode(), buffer)
        return at + count + _copy(b"\r\n", buffer[at + count :])

    def _end(self) -> bytes:
        end = f"0;chunk-signature={self._signer.chunk(b'')}\r\n"
        if self._trailed:
            line = self._trailer()
            end += f"{line}\r\nx-amz-trailer-signature:{self._signer.trailer(line)}\r\n"
        return f"{end}\r\n".encode()


def _copy(data: bytes, buffer: memoryview) -> int:
    buffer[: len(data)] = data
    return len(data)


class Md5Body:
    """Passes a body on and keeps the MD5 of what went through, for stores that compute nothing else."""

    def __init__(self, body: PartBody) -> None:
        self._body = body
        self._md5 = hashlib.md5(usedforsecurity=False)

    async def readinto(self, buffer: memoryview) -> int:
        count = await self._body.readinto(buffer)
        self._md5.update(buffer[:count])
        return count

    def close(self) -> None:
        self._body.close()

    @property
    def crc32c(self) -> int:
        return self._body.crc32c

    def hexdigest(self) -> str:
        return self._md5.hexdigest()
