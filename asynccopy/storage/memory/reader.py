"""A range of bytes in memory."""

from __future__ import annotations

from asynccopy.model import ByteRange


class MemoryReader:
    """A ``Reader`` of bytes that nobody changes."""

    def __init__(self, body: bytes, range: ByteRange) -> None:
        self._left = memoryview(body)[range.offset : range.end]

    async def readinto(self, buffer: memoryview) -> int:
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def close(self) -> None:
        self._left = self._left[:0]
