"""A range of a local file, read in threads."""

from __future__ import annotations

import os
import stat

from asynccopy.errors import NotFound, ShortRead, SourceChanged
from asynccopy.model import ByteRange
from asynccopy.storage.local.refusals import READING, told
from asynccopy.storage.local.threads import in_thread

STEP = 256 * 1024
"""The most that one call in a thread reads, and so what a cancellation may have to wait for."""


class LocalReader:
    """A ``Reader`` of one open file. ``name`` is what messages call it."""

    def __init__(self, name: str, range: ByteRange) -> None:
        self._name = name
        self._offset = range.offset
        self._end = range.end
        self._file = -1
        self._reading = False
        self._closed = False

    @classmethod
    async def open(cls, path: str, name: str, range: ByteRange) -> LocalReader:
        """Raises NotFound (also for what is not a file), PermissionDenied, SourceChanged (shorter than the range)."""
        reader = cls(name, range)
        try:
            with told(name, READING):
                await in_thread(reader._open, path)
        except BaseException:
            reader.close()
            raise
        return reader

    def _open(self, path: str) -> None:
        # NONBLOCK: a pipe that took the file's place must not hang us.
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        status = os.fstat(self._file)
        if not stat.S_ISREG(status.st_mode):
            raise NotFound(f"{self._name!r} is not a file")
        if self._end > status.st_size:
            raise SourceChanged(f"{self._name!r} has {status.st_size} bytes, wanted up to {self._end}")

    async def readinto(self, buffer: memoryview) -> int:
        wanted = min(len(buffer), self._end - self._offset)
        filled = 0
        self._reading = True
        try:
            while filled < wanted:
                with told(self._name, READING):
                    filled += await in_thread(self._read, buffer[filled : min(wanted, filled + STEP)])
        finally:
            self._reading = False
            if self._closed:
                self._release()
        return filled

    def _read(self, buffer: memoryview) -> int:
        count = os.preadv(self._file, [buffer], self._offset)
        if not count:
            raise ShortRead(f"{self._name!r} ended at {self._offset}, wanted up to {self._end}")
        self._offset += count
        return count

    def close(self) -> None:
        self._closed = True
        # A thread may be reading just now: the number of a closed descriptor could by then be another file's.
        if not self._reading:
            self._release()

    def _release(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
