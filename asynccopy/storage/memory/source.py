"""A tree of files in memory that behaves like HDFS."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence

import fastcrc.crc32
from msgspec import Struct

from asynccopy.errors import NotFound, NotThere, SourceChanged
from asynccopy.model import MIB, ByteRange, FileChecksum, FileStatus, ListPage
from asynccopy.storage.memory.reader import MemoryReader

BYTES_PER_CRC = 512


class _File(Struct):
    body: bytes
    modification_time: int
    file_id: int


class MemorySource:
    """Files by path; their directories exist while something is below them, or since ``mkdir`` said so.

    ``put``, ``append``, ``remove`` and ``mkdir`` change the tree between calls. ``checksums=False`` makes a source that
    keeps none. A file at the path "" is a single file as the root.
    """

    def __init__(
        self,
        files: dict[str, bytes] | None = None,
        *,
        url: str = "memory://source",
        block_size: int = 128 * MIB,
        page_size: int = 1000,
        checksums: bool = True,
    ) -> None:
        self.url = url
        self.name = url.rpartition("/")[2]
        self.name = url.rpartition("/")[2]
        self._block_size = block_size
        self._page_size = page_size
        self._checksums = checksums
        self._files: dict[str, _File] = {}
        self._directories = {""}
        self._last_id = 16384  # HDFS's root is 16385
        self._last_time = 0
        for path, body in (files or {}).items():
            self.put(path, body)

    # --- for tests: change the tree

    def put(self, path: str, body: bytes, *, modification_time: int | None = None) -> None:
        """Create or replace a file: a new inode."""
        self._last_id += 1
        self._files[path] = _File(body, self._now() if modification_time is None else modification_time, self._last_id)

    def append(self, path: str, body: bytes) -> None:
        """A writer appends and closes: the same inode, longer and younger."""
        file = self._file(path)
        file.body += body
        file.modification_time = self._now()

    def remove(self, path: str) -> None:
        """Remove a file, or a directory with all below it."""
        self._files = {name: file for name, file in self._files.items() if name != path and not _below(name, path)}
        self._directories = {name for name in self._directories if name != path and not _below(name, path)}

    def mkdir(self, path: str) -> None:
        self._directories.add(path)

    def _now(self) -> int:
        """Every change has its own millisecond, so that every version is told apart."""
        self._last_time = max(self._last_time + 1, time.time_ns() // 1_000_000)
        return self._last_time

    # --- Source

    async def check(self) -> FileStatus:
        try:
            return await self.status("")
        except NotFound as error:
            raise NotThere(f"{self.url} does not exist") from error

    async def status(self, path: str) -> FileStatus:
        if path in self._files:
            file = self._files[path]
            return FileStatus(path, len(file.body), file.modification_time, file.file_id, False, self._block_size)
        if path in self._directories or any(_below(name, path) for name in (*self._files, *self._directories)):
            return FileStatus(path, 0, 0, is_directory=True)
        raise NotFound(f"{path!r} does not exist")

    async def list(self, path: str, after: str = "") -> ListPage:
        """In HDFS's order, the cursor is the last name."""
        if not (await self.status(path)).is_directory:
            raise NotFound(f"{path!r} is not a directory")
        start = len(path) + 1 if path else 0
        children = {name[start:].partition("/")[0] for name in (*self._files, *self._directories) if _below(name, path)}
        names = sorted(children, key=signed)
        if after:
            names = [name for name in names if signed(name) > signed(after)]
        page = names[: self._page_size]
        entries = [await self.status(f"{path}/{name}" if path else name) for name in page]
        return ListPage(entries, page[-1] if len(page) < len(names) else None)

    async def open(self, path: str, range: ByteRange) -> MemoryReader:
        body = self._file(path).body
        if range.end > len(body):
            raise SourceChanged(f"{path!r} has {len(body)} bytes, wanted up to {range.end}")
        return MemoryReader(body, range)

    async def checksum(self, path: str) -> FileChecksum | None:
        body = self._file(path).body
        return hdfs_checksum(body, self._block_size) if self._checksums else None

    async def block_lengths(self, path: str) -> Sequence[int] | None:
        length = len(self._file(path).body)
        return [min(self._block_size, length - start) for start in range(0, length, self._block_size)]

    async def aclose(self) -> None:
        return None

    def _file(self, path: str) -> _File:
        if path not in self._files:
            raise NotFound(f"{path!r} is not a file")
        return self._files[path]


def _below(name: str, path: str) -> bool:
    return name.startswith(path + "/") if path else bool(name)


def signed(name: str) -> bytes:
    """Sorts as HDFS does: by the bytes of UTF-8 taken as signed, so that names beyond ASCII come first."""
    return bytes(byte ^ 0x80 for byte in name.encode())


def hdfs_checksum(body: bytes, block_size: int) -> FileChecksum:
    """GETFILECHECKSUM of a file in blocks of ``block_size``: the MD5 of the blocks' MD5s of their chunks' CRC-32Cs."""
    blocks = b"".join(
        _block_md5(memoryview(body)[start : start + block_size]) for start in range(0, len(body), block_size)
    )
    padded = 32
    while padded < len(blocks):
        padded *= 2
    crc_per_block = block_size // BYTES_PER_CRC if len(blocks) > hashlib.md5().digest_size else 0
    algorithm = f"MD5-of-{crc_per_block}MD5-of-{BYTES_PER_CRC}CRC32C" if body else "MD5-of-0MD5-of-0CRC32"
    return FileChecksum(algorithm, hashlib.md5(blocks.ljust(padded, b"\0")).hexdigest())


def _block_md5(block: memoryview) -> bytes:
    crcs = (fastcrc.crc32.iscsi(block[at : at + BYTES_PER_CRC]) for at in range(0, len(block), BYTES_PER_CRC))
    return hashlib.md5(b"".join(crc.to_bytes(4) for crc in crcs)).digest()
