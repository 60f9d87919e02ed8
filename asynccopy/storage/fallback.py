"""Bodies whose length is not told before them: chunked, or up to the end of the connection.

HttpFS and other gateways answer large reads so. The bytes must be exactly those that were asked for all the same:
nothing is unpacked, and neither fewer nor more of them pass for the range.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from asynccopy.errors import ServerTrouble, ShortRead, Transient, WrongServer
from asynccopy.storage.connection import Connection
from asynccopy.storage.interface import Reader
from asynccopy.storage.pool import Lease, Origin, Pool

TRAILERS: Final = 64
"""The most lines that may follow the last chunk."""

_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n")


def chunked(headers: Mapping[str, str], name: str) -> bool:
    """Whether a body comes in chunks. Raises WrongServer for any other coding: those are not its bytes."""
    coding = headers.get("transfer-encoding", "identity").lower()
    if coding not in ("chunked", "identity"):
        raise WrongServer(f"{name}: unknown Transfer-Encoding {coding[:40]!r} in the answer")
    return coding == "chunked"


async def chunk_size(connection: Connection) -> int:
    """The size of the chunk that follows; 0 after the last one and its trailers."""
    match = _SIZE.fullmatch(await connection.read_until(b"\r\n"))
    if match is None:
        raise _malformed(connection)
    size = int(match[1], 16)
    if size == 0:
        for _ in range(TRAILERS):
            if await connection.read_until(b"\r\n") == b"\r\n":
                return 0
        raise _malformed(connection)
    return size


async def chunk_end(connection: Connection) -> None:
    """What follows the bytes of a chunk."""
    if await connection.read_until(b"\r\n") != b"\r\n":
        raise _malformed(connection)


def _malformed(connection: Connection) -> WrongServer:
    return WrongServer(f"{connection.name}: malformed chunk in the answer")


def undeclared(
    pool: Pool, origin: Origin, connection: Connection, headers: Mapping[str, str], length: int, keep: bool
) -> Reader:
    """The Reader over a body that must turn out to have ``length`` bytes. Raises WrongServer for a body that cannot."""
    packed = headers.get("content-encoding", "identity").lower()
    if packed not in ("identity", "none", ""):
        raise WrongServer(f"{connection.name}: the answer is packed ({packed[:40]!r}), which was not asked for")
    if chunked(headers, connection.name):
        # Both lengths at once are a sign of two servers that disagree where an answer ends.
        return _Chunks(pool, origin, connection, length, keep and "content-length" not in headers)
    return _Rest(pool, origin, connection, length, keep=False)


class _Undeclared(Lease):
    """What both kinds share: bytes are counted, and after the last one the body's end is waited for."""

    __slots__ = ("_length",)

    def __init__(self, pool: Pool, origin: Origin, connection: Connection, length: int, keep: bool) -> None:
        super().__init__(pool, origin, connection, length, keep)
        self._length = length

    async def readinto(self, buffer: memoryview) -> int:
        if self.left == 0:
            return 0
        buffer = buffer[: self.left]
        filled = 0
        try:
            while filled < len(buffer):
                count = await self._some(buffer[filled:])
                if count == 0:
                    raise ShortRead(f"{self.connection.name}: the body ended before {self._length} bytes had come")
                filled += count
        except Transient as error:
            error.received += filled
            raise
        if self.left == filled and await self._some(memoryview(bytearray(1))):
            raise ServerTrouble(f"{self.connection.name}: the body is longer than the {self._length} bytes asked for")
        self.took(filled)
        return filled

    async def _some(self, buffer: memoryview) -> int:
        """At least one byte of the body, 0 at its end."""
        raise NotImplementedError


class _Chunks(_Undeclared):
    __slots__ = ("_in_chunk",)

    def __init__(self, pool: Pool, origin: Origin, connection: Connection, length: int, keep: bool) -> None:
        super().__init__(pool, origin, connection, length, keep)
        self._in_chunk = 0

    async def _some(self, buffer: memoryview) -> int:
        if self._in_chunk == 0:
            self._in_chunk = await chunk_size(self.connection)
        count = min(self._in_chunk, len(buffer))
        if count:
            await self.connection.read_exactly(buffer[:count])
            self._in_chunk -= count
            if self._in_chunk == 0:
                await chunk_end(self.connection)
        return count


class _Rest(_Undeclared):
    """Only the orderly end of the connection is the end of the body: a reset is none."""

    __slots__ = ()

    async def _some(self, buffer: memoryview) -> int:
        try:
            await self.connection.read_exactly(buffer)
        except ShortRead as end:
            return end.received
        return len(buffer)
