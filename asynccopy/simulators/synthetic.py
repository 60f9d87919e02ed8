"""A simulated HDFS of millions of files that takes no memory: each is computed when it is asked for."""

from __future__ import annotations

import hashlib
from bisect import bisect_right

from asynccopy.simulators.namespace import DEFAULT_BLOCK, EPOCH, Generated, Inode, listing_key


class SyntheticNamespace:
    """``/dir-0000000/file-0000000`` and so on, computed when asked for: nothing is kept per file.

    Either count may be a million. All files have one length, and each has other bytes.
    """

    def __init__(
        self,
        directories: int,
        files_per_directory: int,
        file_length: int,
        *,
        block_size: int = DEFAULT_BLOCK,
        seed: int = 0,
    ) -> None:
        self.directories = directories
        self.files_per_directory = files_per_directory
        self.file_length = file_length
        self.block_size = block_size
        self.seed = seed

    def status(self, path: str) -> Inode | None:
        if path == "/":
            return Inode("", 16385, EPOCH, is_directory=True, children=self.directories)
        directory, _, file = path[1:].partition("/")
        d = _index("dir-", directory, self.directories)
        if d is None:
            return None
        if not file:
            return self._directory(d)
        f = _index("file-", file, self.files_per_directory)
        return None if f is None else self._file(d, f)

    def children(self, path: str, after: str, limit: int) -> tuple[list[Inode], int]:
        if path == "/":
            start = _follows("dir-", after, self.directories)
            stop = min(start + limit, self.directories)
            return [self._directory(d) for d in range(start, stop)], self.directories - stop
        d = _index("dir-", path[1:], self.directories)
        if d is None:
            raise KeyError(path)
        start = _follows("file-", after, self.files_per_directory)
        stop = min(start + limit, self.files_per_directory)
        return [self._file(d, f) for f in range(start, stop)], self.files_per_directory - stop

    def read(self, path: str, offset: int, length: int) -> bytes:
        # One pattern for all files; where a file starts in it comes from its path.
        version = int.from_bytes(hashlib.blake2b(path.encode(), digest_size=6).digest(), "big")
        return Generated(self.file_length, self.seed, version).read(offset, length)

    def _directory(self, d: int) -> Inode:
        return Inode(f"dir-{d:07}", 16386 + d, EPOCH, is_directory=True, children=self.files_per_directory)

    def _file(self, d: int, f: int) -> Inode:
        number = d * self.files_per_directory + f
        return Inode(
            f"file-{f:07}",
            16386 + self.directories + number,
            EPOCH + number,
            length=self.file_length,
            visible_length=self.file_length,
            block_size=self.block_size,
        )


def _index(prefix: str, name: str, count: int) -> int | None:
    """The number in a computed name, None where no such name exists."""
    digits = name.removeprefix(prefix)
    if not (digits.isascii() and digits.isdigit()):
        return None
    number = int(digits)
    return number if number < count and name == f"{prefix}{number:07}" else None


def _follows(prefix: str, after: str, count: int) -> int:
    """The number of the first computed name behind ``after``."""
    if not after:
        return 0
    return bisect_right(range(count), listing_key(after), key=lambda number: listing_key(f"{prefix}{number:07}"))
