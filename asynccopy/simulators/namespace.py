"""What a simulated HDFS holds: a tree of real entries; ``synthetic`` has millions of computed ones.

Paths are absolute (``/a/b``; the root is ``/``). Listings come in HDFS's order: by the *signed* bytes of the UTF-8
names, so names that are not ASCII come before those that are.
"""

from __future__ import annotations

import copy
import random
from bisect import bisect_right
from functools import lru_cache
from typing import Any, Literal, NamedTuple, Protocol

_PERIOD = 1_048_573  # a prime just below 1 MiB: no two aligned ranges of one file are alike
_SIGNED = bytes(byte ^ 0x80 for byte in range(256))
DEFAULT_BLOCK = 128 << 20
EPOCH = 1_700_000_000_000
"""Modification times start here (ms), so that every run of a test sees the same ones."""
INODES = "/.reserved/.inodes/"
"""Below it a file is named by its id."""


def listing_key(name: str) -> bytes:
    """Sorts names as HDFS does."""
    return name.encode().translate(_SIGNED)


@lru_cache(maxsize=4)
def _pattern(seed: int) -> bytes:
    once = random.Random(seed).randbytes(_PERIOD)
    return once + once  # doubled, so that a period that starts anywhere is one slice


class Generated(NamedTuple):
    """Content made when it is read: ``length`` pseudo-random bytes; another ``version`` has others."""

    length: int
    seed: int = 0
    version: int = 0

    def read(self, offset: int, length: int) -> bytes:
        """The bytes of a range, cut at the end of the content."""
        length = max(0, min(length, self.length - offset))
        pattern = _pattern(self.seed)
        start = (offset + self.version * 7919) % _PERIOD
        if length <= _PERIOD:
            return pattern[start : start + length]
        turned = pattern[start : start + _PERIOD]
        return (turned * (length // _PERIOD + 1))[:length]


class Inode(NamedTuple):
    """One file or directory. Times in ms; ``length`` is what a status shows.

    ``visible_length`` is what can be read: more than ``length`` while a writer has flushed a second time.
    """

    name: str
    file_id: int
    modification_time: int
    is_directory: bool = False
    length: int = 0
    visible_length: int = 0
    block_lengths: tuple[int, ...] | None = None
    block_size: int = 0
    children: int = 0
    under_construction: bool = False
    owner: str = "hdfs"
    group: str = "supergroup"
    permission: int = 0o644
    access_time: int = 0
    replication: int = 1
    coding: Literal["", "erasure", "encryption"] = ""

    def blocks(self) -> list[tuple[int, int]]:
        """(offset, length) of every block: uneven ones where CONCAT has joined files, else all of the block size."""
        blocks, at = [], 0
        if not self.visible_length:
            return []
        if self.block_lengths is not None:
            for length in self.block_lengths:
                blocks.append((at, length))
                at += length
            return blocks
        return [
            (at, min(self.block_size, self.visible_length - at))
            for at in range(0, self.visible_length, self.block_size)
        ]

    def block_at(self, offset: int) -> int | None:
        """The number of the block that holds an offset, None outside of the file."""
        if not 0 <= offset < self.visible_length:
            return None
        if self.block_lengths is None:
            return offset // self.block_size
        return next(number for number, (at, length) in enumerate(self.blocks()) if offset < at + length)


class Namespace(Protocol):
    """What a simulated NameNode and its DataNodes serve."""

    def status(self, path: str) -> Inode | None:
        """The entry at a path, None where there is none."""
        ...

    def children(self, path: str, after: str, limit: int) -> tuple[list[Inode], int]:
        """At most ``limit`` entries of a directory that sort behind ``after`` ("" for all), and how many follow."""
        ...

    def read(self, path: str, offset: int, length: int) -> bytes:
        """The bytes of a file's range, cut at its visible end."""
        ...


class TreeNamespace:
    """Real entries, changed by tests as a writer would change them. Parents come into being by themselves.

    Every change moves the clock by a second, so times are the same in every run. As on HDFS, a directory gets the time
    of what comes to it or goes from it by name; what happens inside a file does not touch it.

    ``snapshots``: of every directory that may have some, by their names. A snapshot is read below
    ``DIRECTORY/.snapshot/NAME``, and a file by its id as ``/.reserved/.inodes/ID``.
    """

    def __init__(self, block_size: int = DEFAULT_BLOCK) -> None:
        self.block_size = block_size
        self._clock = EPOCH
        self._last_id = 16384  # the id before HDFS's first: 16385 is the root
        self._inodes: dict[str, Inode] = {}
        self._contents: dict[str, bytes | Generated] = {}
        self._names: dict[str, set[str]] = {}
        self._sorted: dict[str, list[str]] = {}
        self.snapshots: dict[str, dict[str, TreeNamespace]] = {}
        self._add(Inode("", self._next_id(), self._tick(), is_directory=True, permission=0o755), "/")

    # --- what a server reads

    def status(self, path: str) -> Inode | None:
        tree, path = self._resolved(path)
        inode = tree._inodes.get(path)
        if inode is not None and inode.is_directory:
            return inode._replace(children=len(tree._names[path]))
        return inode

    def children(self, path: str, after: str, limit: int) -> tuple[list[Inode], int]:
        tree, path = self._resolved(path)
        names = tree._sorted.get(path)
        if names is None:
            names = tree._sorted[path] = sorted(tree._names[path], key=listing_key)
        start = bisect_right(names, listing_key(after), key=listing_key) if after else 0
        page = [tree.status(_join(path, name)) for name in names[start : start + limit]]
        return [inode for inode in page if inode is not None], max(0, len(names) - start - limit)

    def read(self, path: str, offset: int, length: int) -> bytes:
        tree, path = self._resolved(path)
        content = tree._contents[path]
        if isinstance(content, Generated):
            return content.read(offset, length)
        return content[offset : offset + length]

    def _resolved(self, path: str) -> tuple[TreeNamespace, str]:
        """The tree that a path speaks of, and the plain path in it."""
        if path.startswith(INODES):
            named = path.removeprefix(INODES)
            return self, next((at for at, inode in self._inodes.items() if str(inode.file_id) == named), path)
        root, found, rest = path.partition("/.snapshot/")
        if not found:
            return self, path
        name, _, below = rest.partition("/")
        tree = self.snapshots.get(root or "/", {}).get(name)
        return (self, path) if tree is None else (tree, f"{root}/{below}" if below else root or "/")

    # --- snapshots

    def freeze(self, directory: str, name: str) -> None:
        """Make a snapshot of a directory, which from now on may have some; it gets the time of that."""
        self._touch(directory, self._tick())
        tree = copy.copy(self)
        tree._inodes, tree._contents = dict(self._inodes), dict(self._contents)
        tree._names, tree._sorted = {path: set(names) for path, names in self._names.items()}, {}
        tree.snapshots = {}
        self.snapshots.setdefault(directory, {})[name] = tree

    def forget(self, directory: str, name: str) -> None:
        """Delete a snapshot."""
        del self.snapshots[directory][name]
        self._touch(directory, self._tick())

    def descend(self, directory: str) -> dict[str, Inode]:
        """Everything in a directory, by its path below it; the directory itself is ""."""
        start = len(directory.rstrip("/")) + 1
        return {
            path[start:]: inode
            for path, inode in self._inodes.items()
            if path == directory or path.startswith(directory.rstrip("/") + "/")
        }

    # --- what a writer does

    def put(
        self,
        path: str,
        content: bytes | Generated,
        *,
        modification_time: int | None = None,
        block_size: int | None = None,
        block_lengths: tuple[int, ...] | None = None,
        coding: Literal["", "erasure", "encryption"] = "",
    ) -> Inode:
        """Create a file, or replace it by another (with a new id). ``block_lengths``: uneven, as CONCAT leaves them.
        ``coding``: what HDFS stores, and has checksums of, is not what is read.
        """
        directory, name = self._parent(path)
        length = content.length if isinstance(content, Generated) else len(content)
        if block_lengths is not None and sum(block_lengths) != length:
            raise ValueError(f"blocks of {sum(block_lengths)} bytes do not make a file of {length}")
        inode = Inode(
            name,
            self._next_id(),
            self._tick() if modification_time is None else modification_time,
            length=length,
            visible_length=length,
            block_size=block_size or self.block_size,
            block_lengths=block_lengths,
            coding=coding,
        )
        self._contents[path] = content
        return self._add(inode, path, directory)

    def append(self, path: str, data: bytes, *, close: bool = True) -> Inode:
        """Append and close, or only flush (``close=False``), after which the writer still holds the file.

        As seen on Hadoop 3.5.0: flushing moves no modification time, and from the second flush on the length shown lags
        behind what can be read.
        """
        inode = self._inodes[path]
        content = self._contents[path]
        old = content.read(0, content.length) if isinstance(content, Generated) else content
        self._contents[path] = old + data
        grown = inode._replace(visible_length=len(old) + len(data), block_lengths=None, under_construction=True)
        if not inode.under_construction:
            grown = grown._replace(length=grown.visible_length)
        self._change(path, grown)
        return self.close(path) if close else grown

    def concat(self, path: str, sources: list[str]) -> None:
        """Move the blocks of files to the end of another one, which keeps its id; the blocks keep their lengths."""
        joined, target = b"", self._inodes[path]
        lengths: list[int] = []
        for at in (path, *sources):
            inode = self._inodes[at]
            joined += self.read(at, 0, inode.length)
            lengths += [length for _, length in inode.blocks()]
        for at in sources:
            self.delete(at)
        self._contents[path] = joined
        length = len(joined)
        self._change(
            path,
            target._replace(
                length=length, visible_length=length, block_lengths=tuple(lengths), modification_time=self._tick()
            ),
        )

    def close(self, path: str) -> Inode:
        """The writer closes the file: the length becomes true, the modification time moves."""
        inode = self._inodes[path]
        inode = inode._replace(under_construction=False, length=inode.visible_length, modification_time=self._tick())
        self._change(path, inode)
        return inode

    def set_attributes(self, path: str, **attributes: Any) -> None:
        """By the names of ``Inode``. As on HDFS, none moves a time."""
        self._change(path, self._inodes[path]._replace(**attributes))

    def _change(self, path: str, inode: Inode) -> None:
        """A snapshot in which a file is under construction shows the file as it goes on, until it is closed."""
        self._inodes[path] = inode
        for tree in (tree for snapshots in self.snapshots.values() for tree in snapshots.values()):
            for at, old in tree._inodes.items():
                if old.file_id == inode.file_id and old.under_construction:
                    tree._inodes[at] = inode._replace(name=old.name)
                    tree._contents[at] = self._contents[path]

    def mkdir(self, path: str) -> None:
        """Create a directory and its parents; one that is there stays."""
        if path not in self._inodes:
            directory, name = self._parent(path)
            inode = Inode(name, self._next_id(), self._tick(), is_directory=True, permission=0o755)
            self._add(inode, path, directory)

    def delete(self, path: str) -> None:
        """Remove a file, or a directory with all that is below."""
        directory, name = self._parent(path)
        for at in self._below(path):
            del self._inodes[at]
            self._contents.pop(at, None)
            self._names.pop(at, None)
            self._sorted.pop(at, None)
        self._names[directory].discard(name)
        self._touch(directory, self._tick())

    def rename(self, path: str, to: str) -> None:
        """Move a file, or a directory with all that is below; they keep their ids, times and bytes."""
        if to in self._inodes or to.startswith(path + "/"):
            raise ValueError(f"{path!r} cannot become {to!r}")
        moved = {at: (self._inodes[at], self._contents.get(at), self._names.get(at)) for at in self._below(path)}
        self.delete(path)
        directory, name = self._parent(to)
        for at, (inode, content, names) in moved.items():
            self._inodes[to + at[len(path) :]] = inode._replace(name=name) if at == path else inode
            if content is not None:
                self._contents[to + at[len(path) :]] = content
            if names is not None:
                self._names[to + at[len(path) :]] = names
        self._names[directory].add(name)
        self._touch(directory, self._clock)

    def _below(self, path: str) -> list[str]:
        """The path itself, and all below it."""
        return [at for at in self._inodes if at == path or at.startswith(path + "/")]

    def _touch(self, directory: str, time: int) -> None:
        self._inodes[directory] = self._inodes[directory]._replace(modification_time=time)
        self._sorted.pop(directory, None)

    def _add(self, inode: Inode, path: str, directory: str | None = None) -> Inode:
        self._inodes[path] = inode
        if inode.is_directory:
            self._names[path] = set()
        if directory is not None:
            self._names[directory].add(inode.name)
            self._touch(directory, self._clock)
        return inode

    def _parent(self, path: str) -> tuple[str, str]:
        directory, _, name = path.rpartition("/")
        if not name or not path.startswith("/"):
            raise ValueError(f"not an absolute path of a file: {path!r}")
        directory = directory or "/"
        if directory not in self._inodes:
            self.mkdir(directory)
        if not self._inodes[directory].is_directory:
            raise ValueError(f"{directory!r} is a file")
        return directory, name

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def _tick(self) -> int:
        self._clock += 1000
        return self._clock


def _join(directory: str, name: str) -> str:
    return f"/{name}" if directory == "/" else f"{directory}/{name}"
