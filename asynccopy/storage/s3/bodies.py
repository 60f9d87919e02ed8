"""Readers that wrap the body of a part on its way out: aws-chunked frames with a CRC-32C trailer, or an MD5 kept along.

A frame is ``<hex length>[;chunk-signature=<hex>]``, a line end, the data, a line end. One of length 0 ends the data;
trailers and an empty line follow.
"""

from __future__ import annotations

import hashlib
from typing import Final

from fastcrc import crc32

from asynccopy.errors import ShortRead
from asynccopy.storage.interface import Reader
from asynccopy.storage.s3.messages import CRC32C_HEADER, encode_crc32c
from asynccopy.storage.s3.signing import ChunkSigner

FRAME: Final = 1 << 20
"""Data bytes in a frame. S3 wants at least 8 KiB in each but the last, and all but the last alike; MinIO takes 16 MiB
at most. Each seam costs the source one read of a few bytes, so a frame is four of the door's buffers."""

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
    """Frames a body and ends it with the CRC-32C of its bytes. The data is read straight into the caller's buffer.

    ``crc32c`` is the value so far. Started from anything but 0 it ends as a wrong one, which a store must refuse.
    """

    def __init__(self, body: Reader, size: int, crc32c: int = 0) -> None:
        self._body = body
        self._left = size
        self._frame = 0  # bytes of the open frame that are still to come
        self._pending = memoryview(b"")
        self._ended = False
        self.crc32c = crc32c

    async def readinto(self, buffer: memoryview) -> int:
        filled = 0
        while filled < len(buffer):
            space = len(buffer) - filled
            if self._pending:
                count = min(space, len(self._pending))
                buffer[filled : filled + count] = self._pending[:count]
                self._pending = self._pending[count:]
            elif self._frame:
                count = min(space, self._frame)
                await self._pull(buffer[filled : filled + count])
                self._frame -= count
                if self._frame == 0:
                    self._pending = memoryview(b"\r\n")
            elif self._ended:
                break
            else:
                count = 0
                await self._open_frame()
            filled += count
        return filled

    def close(self) -> None:
        self._body.close()

    async def _open_frame(self) -> None:
        if self._left:
            self._frame = min(FRAME, self._left)
            self._pending = memoryview(f"{self._frame:x}\r\n".encode())
        else:
            self._ended = True
            line = f"{CRC32C_HEADER}:{encode_crc32c(self.crc32c)}"
            self._pending = memoryview(f"0\r\n{line}\r\n\r\n".encode())

    async def _pull(self, buffer: memoryview) -> None:
        """Fill the buffer with the next bytes of the body."""
        filled = 0
        while filled < len(buffer):
            count = await self._body.readinto(buffer[filled:])
            if (
                count == 0
            ):  # only now it is the end: a reader in trouble may give what it has, and raise when asked again
                raise ShortRead(f"the part ended {self._left - filled} bytes before its promised size")
            filled += count
        self._left -= filled
        self.crc32c = crc32.iscsi(buffer, self.crc32c)


class SignedBody(TrailedBody):
    """Frames a body and signs every frame, which therefore must be held until its signature is known."""

    def __init__(self, body: Reader, size: int, signer: ChunkSigner, *, trailer: bool, crc32c: int = 0) -> None:
        super().__init__(body, size, crc32c)
        self._signer = signer
        self._trailer = trailer

    async def _open_frame(self) -> None:
        data = memoryview(bytearray(min(FRAME, self._left)))
        if data:
            await self._pull(data)
            head = f"{len(data):x};chunk-signature={self._signer.chunk(data)}\r\n".encode()
            self._pending = memoryview(b"".join((head, data, b"\r\n")))
            return
        self._ended = True
        end = f"0;chunk-signature={self._signer.chunk(b'')}\r\n"
        if self._trailer:
            line = f"{CRC32C_HEADER}:{encode_crc32c(self.crc32c)}"
            end += f"{line}\r\nx-amz-trailer-signature:{self._signer.trailer(line)}\r\n"
        self._pending = memoryview(f"{end}\r\n".encode())


class Md5Body:
    """Passes a body on and keeps the MD5 of what went through, for stores that compute nothing else."""

    def __init__(self, body: Reader) -> None:
        self._body = body
        self._md5 = hashlib.md5(usedforsecurity=False)

    async def readinto(self, buffer: memoryview) -> int:
        count = await self._body.readinto(buffer)
        self._md5.update(buffer[:count])
        return count

    def close(self) -> None:
        self._body.close()

    def hexdigest(self) -> str:
        return self._md5.hexdigest()
