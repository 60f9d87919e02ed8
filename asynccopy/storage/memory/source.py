"""A tree of files in memory that behaves like HDFS."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence

import fastcrc.crc32
from msgspec.structs import replace

from asynccopy.errors import NotFound, NotThere, SnapshotGone, SourceChanged
from asynccopy.model import MIB, ByteRange, FileChecksum, FileStatus, ListPage
from asynccopy.storage.memory.reader import MemoryReader
from asynccopy.storage.memory.snapshots import MemorySnapshots
from asynccopy.storage.memory.tree import Entry, Tree, below, join, parents

BYTES_PER_CRC = 512


class MemorySource:
    """Files by path, and the directories that they need or needed, or that ``mkdir`` made.

    ``put``, ``append``, ``close``, ``rename``, ``remove`` and ``mkdir`` change the tree between calls.
    ``checksums=False`` makes a source that keeps none, ``snapshots=False`` one that can have none. A file at the path
    "" is a single file as the root.
    """

    def __init__(
        self,
        files: dict[str, bytes] | None = None,
        *,
        url: str = "memory://source",
        block_size: int = 128 * MIB,
        page_size: int = 1000,
        checksums: bool = True,
        snapshots: bool = True,
    ) -> None:
        self.url = url
        self.name = url.rpartition("/")[2]
        self._block_size = block_size
        self._page_size = page_size
        self._checksums = checksums
        self._last_id = 16384  # HDFS's root is 16385
        self._last_time = 0
        self._snapshots: dict[str, Tree] | None = {} if snapshots else None
        self._entries: dict[str, Entry] = {}
        self.mkdir("")
        for path, body in (files or {}).items():
            self.put(path, body)

    @property
    def files(self) -> dict[str, bytes]:
        """What a test wants to look at: the bytes of every file."""
        return {path: entry.body for path, entry in self._entries.items() if entry.body is not None}

    # --- for tests: change the tree

    def put(self, path: str, body: bytes, *, modification_time: int | None = None) -> None:
        """Create or replace a file: a new inode."""
        now = self._touch(path)
        self._entries[path] = Entry(body, now if modification_time is None else modification_time, self._next_id())

    def append(self, path: str, body: bytes, *, close: bool = True) -> None:
        """A writer appends: the same inode, longer. With ``close`` it is closed, and younger; else it stays open."""
        file = self._entries[path]
        self._change(path, replace(file, body=self._body(path) + body, is_open=True))
        if close:
            self.close(path)

    def close(self, path: str) -> None:
        """The writer of a file closes it."""
        self._change(path, replace(self._entries[path], modification_time=self._now(), is_open=False))

    def rename(self, path: str, to: str) -> None:
        """Move a file, or a directory with all below it, to where nothing is; all keep their inodes and times."""
        if to in self._entries or below(to, path):
            raise ValueError(f"{path!r} cannot become {to!r}")
        moved = {name: entry for name, entry in self._entries.items() if name == path or below(name, path)}
        self.remove(path)
        self._touch(to)
        self._entries |= {to + name[len(path) :]: entry for name, entry in moved.items()}

    def remove(self, path: str) -> None:
        """Remove a file, or a directory with all below it."""
        if path in self._entries:
            self._entries = {
                name: entry for name, entry in self._entries.items() if name != path and not below(name, path)
            }
            self._touch(path)

    def mkdir(self, path: str) -> None:
        if path not in self._entries:
            self._entries[path] = Entry(None, self._touch(path), self._next_id())

    def _touch(self, path: str) -> int:
        """Something comes to this path or goes from it: its directory is there, and younger. Returns the time."""
        now = self._now()
        for directory in parents(path):
            there = self._entries.get(directory)
            if there is not None:
                self._entries[directory] = replace(there, modification_time=now)
                break
            self._entries[directory] = Entry(None, now, self._next_id())
        return now

    def _change(self, path: str, entry: Entry) -> None:
        """As in HDFS, a snapshot in which a file is open shows the file as it goes on, until it is closed."""
        self._entries[path] = entry
        snapshots = self._snapshots or {}
        for name, tree in snapshots.items():
            open_here = [at for at, old in tree.items() if old.file_id == entry.file_id and old.is_open]
            snapshots[name] = {**tree, **dict.fromkeys(open_here, entry)}

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id

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
        return self._status(path, self._entry(path))

    def _status(self, path: str, entry: Entry) -> FileStatus:
        if entry.body is None:
            return FileStatus(path, 0, entry.modification_time, entry.file_id, is_directory=True)
        return FileStatus(path, len(entry.body), entry.modification_time, entry.file_id, False, self._block_size)

    async def list(self, path: str, after: str = "") -> ListPage:
        """In HDFS's order, the cursor is the last name."""
        if self._entry(path).body is not None:
            raise NotFound(f"{path!r} is not a directory")
        start = len(path) + 1 if path else 0
        entries = self._tree()
        names = [name[start:] for name in entries if below(name, path) and "/" not in name[start:]]
        names = sorted((name for name in names if not after or signed(name) > signed(after)), key=signed)
        page = names[: self._page_size]
        found = [self._status(join(path, name), entries[join(path, name)]) for name in page]
        return ListPage(found, page[-1] if len(page) < len(names) else None)

    async def open(self, path: str, range: ByteRange) -> MemoryReader:
        body = self._body(path)
        if range.end > len(body):
            raise SourceChanged(f"{path!r} has {len(body)} bytes, wanted up to {range.end}")
        return MemoryReader(body, range)

    async def checksum(self, path: str) -> FileChecksum | None:
        body = self._body(path)
        return hdfs_checksum(body, self._block_size) if self._checksums else None

    async def block_lengths(self, path: str) -> Sequence[int] | None:
        length = len(self._body(path))
        return [min(self._block_size, length - start) for start in range(0, length, self._block_size)]

    async def is_open(self, path: str) -> bool:
        self._body(path)
        return self._entry(path).is_open

    @property
    def snapshots(self) -> MemorySnapshots | None:
        if self._snapshots is None:
            return None
        return MemorySnapshots(self._snapshots, self._touched, lambda name: FrozenSource(self, name), self._page_size)

    @property
    def originals(self) -> None:
        return None

    def _touched(self) -> Tree:
        self._entries[""] = replace(self._entries[""], modification_time=self._now())
        return dict(self._entries)

    async def aclose(self) -> None:
        return None

    def _tree(self) -> Tree:
        return self._entries

    def _entry(self, path: str) -> Entry:
        entry = self._tree().get(path)
        if entry is None:
            raise NotFound(f"{path!r} does not exist")
        return entry

    def _body(self, path: str) -> bytes:
        body = self._entry(path).body
        if body is None:
            raise NotFound(f"{path!r} is not a file")
        return body


class FrozenSource(MemorySource):
    """The tree as it is in a snapshot; SnapshotGone where that is not there any more."""

    def __init__(self, live: MemorySource, name: str) -> None:
        super().__init__(
            url=live.url,
            block_size=live._block_size,
            page_size=live._page_size,
            checksums=live._checksums,
            snapshots=False,
        )
        self._live = live
        self._snapshot = name

    async def is_open(self, path: str) -> bool:
        """Whether the file is being written now, under whatever name."""
        file_id = self._entry(path).file_id
        return any(entry.is_open for entry in self._live._entries.values() if entry.file_id == file_id)

    def _tree(self) -> Tree:
        tree = (self._live._snapshots or {}).get(self._snapshot)
        if tree is None:
            raise SnapshotGone(f"{self.url}: the snapshot {self._snapshot!r} is gone")
        return tree


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
