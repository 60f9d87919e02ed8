"""Files that appear whole or not at all, and stay after a power cut. Everything here blocks: call it in a thread."""

from __future__ import annotations

import errno
import os
import uuid

from asynccopy.model import ByteRange

_CANNOT_SHARE = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


class StagedFile:
    """A file written out of sight, then published under its name by a rename, or discarded.

    ``directory`` must be on the target's file system. Raises OSError.
    """

    def __init__(self, directory: str) -> None:
        self.path = os.path.join(directory, f"{uuid.uuid4().hex}.tmp")
        self._file = -1

    def open(self) -> None:
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

    def append(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]

    def append_range(self, path: str, range: ByteRange) -> None:
        """Append a range of another file, inside the kernel; file systems that can, share the blocks instead."""
        source = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            offset = range.offset
            while offset < range.end:
                count = self._take(source, offset, range.end - offset)
                if not count:
                    raise OSError(errno.EIO, "ended too early", path)
                offset += count
        finally:
            os.close(source)

    def _take(self, source: int, offset: int, size: int) -> int:
        try:
            return os.copy_file_range(source, self._file, size, offset)
        except OSError as error:
            if error.errno not in _CANNOT_SHARE:
                raise
        return os.sendfile(self._file, source, offset, size)

    def publish(self, target: str) -> os.stat_result:
        """Bytes first, then the name, then the directory that holds the name: each on the disk before the next."""
        os.fsync(self._file)
        os.rename(self.path, target)
        sync_directory(os.path.dirname(target))
        return os.fstat(self._file)

    def discard(self) -> None:
        """Close, and remove what was not published. Never fails on what is not there."""
        if self._file < 0:
            return
        os.close(self._file)
        self._file = -1
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            return


def sync_directory(path: str) -> None:
    """Put the directory's entries on the disk."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def make_directories(path: str) -> None:
    """Make a directory and what is missing above it, to stay. Raises NotADirectoryError naming the file in the way.

    Where another call made one a moment ago and has not synced it yet, the sync of the file's own directory takes the
    entry above it along: a journalling file system writes both in one order.
    """
    missing: list[str] = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for directory in reversed(missing):
        try:
            os.mkdir(directory)
        except FileExistsError:
            if not os.path.isdir(directory):
                raise NotADirectoryError(
                    errno.ENOTDIR, "a file stands where a directory is needed", directory
                ) from None
        sync_directory(os.path.dirname(directory))
